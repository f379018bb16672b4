"""The demonstration: the embedded base, its experts and their merges on three skills, through lm-eval.

Each merge's lambda is chosen on the validation split, by the mean over the skills, and then evaluated once on the test
split. Everything else is fixed here beforehand.
"""

from __future__ import annotations

import csv
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from della_bench.spec import MergeSpec
from della_bench.zoo import SKILLS

if TYPE_CHECKING:
    from rich.progress import Progress
    from rich.table import Table

__all__ = ["LAMBDAS", "METHODS", "Row", "run"]

EXPERTS = "+".join(f"zoo:{skill}" for skill in SKILLS)
# The numbers of the DELLA authors' own example: drop rate 0.3, window 0.14.
METHODS: dict[str, dict[str, float]] = {
    "task_arithmetic": {},
    "dare_ties": {"drop_rate": 0.3},
    "ties": {"drop_rate": 0.3},
    "della": {"drop_rate": 0.3, "window_size": 0.14},
}
LAMBDAS = (0.5, 0.7, 0.9, 1.1, 1.3)
BATCH_SIZE = 200
DTYPE = "float32"  # a CPU multiplies it faster than the zoo's own bfloat16


@dataclass(frozen=True)
class Row:
    """One line of the table: scores are shares of right answers, by skill."""

    name: str
    spec: MergeSpec
    scores: dict[str, float]

    @property
    def average(self) -> float:
        """The mean over the skills."""
        return sum(self.scores.values()) / len(self.scores)


def run(out: Path, limit: int | None = None) -> list[Row]:
    """Evaluate all rows, print the table and write `out`/leaderboard.csv.

    limit: only so many prompts of each task, for a quick look.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    started = time.monotonic()
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with _quiet(), Progress(*columns, transient=True) as progress:
        rows = _rows(progress, limit)
    _write_csv(out / "leaderboard.csv", rows)
    console = Console()
    console.print(_table(rows, limit))
    console.print(f"{out / 'leaderboard.csv'} written, {time.monotonic() - started:.0f} s", highlight=False)
    return rows


def _rows(progress: Progress, limit: int | None) -> list[Row]:
    singles = {name: f"zoo:{name}" for name in ("base", *SKILLS)}
    bar = progress.add_task("", total=len(singles) + len(METHODS) * (len(LAMBDAS) + 1))
    evaluate = _evaluator()

    def score(spec: MergeSpec, suffix: str) -> dict[str, float]:
        progress.update(bar, description=f"{spec.display_name}{' (validation)' if suffix else ''}")
        scores = evaluate(spec, suffix, limit)
        progress.advance(bar)
        return scores

    rows = []
    for name, source in singles.items():
        single = {"base": "zoo:base", "experts": source, "merge_method": "passthrough", "dtype": DTYPE, "name": name}
        spec = MergeSpec.parse(single)
        rows.append(Row(name, spec, score(spec, "")))
    for method, numbers in METHODS.items():
        keys: dict[str, Any] = {"base": "zoo:base", "experts": EXPERTS, "merge_method": method, "dtype": DTYPE}
        candidates = [MergeSpec.parse(keys, **numbers, **{"lambda": value}) for value in LAMBDAS]
        tried = [Row(method, spec, score(spec, "_validation")) for spec in candidates]
        best = max(tried, key=lambda row: row.average)  # the smaller lambda among equals
        rows.append(Row(method, best.spec, score(best.spec, "")))
    return rows


def _evaluator() -> Callable[[MergeSpec, str, int | None], dict[str, float]]:
    """Return a function from a spec, a task suffix and a limit to the score of each skill."""
    import lm_eval
    from lm_eval.tasks import TaskManager
    from transformers.utils import logging as transformers_logging

    from della_bench.models.hf import DellaMergedLM
    from della_bench.resources import folder

    transformers_logging.disable_progress_bar()
    manager = TaskManager(include_path=str(folder("tasks")), include_defaults=False)

    def evaluate(spec: MergeSpec, suffix: str, limit: int | None) -> dict[str, float]:
        model = DellaMergedLM(**spec.as_keys(), batch_size=BATCH_SIZE)
        model.generate_until = partial(model.generate_until, disable_tqdm=True)  # type: ignore[method-assign]
        tasks = [f"zoo_{skill}{suffix}" for skill in SKILLS]
        found = lm_eval.simple_evaluate(
            model=model, tasks=tasks, task_manager=manager, limit=limit, bootstrap_iters=0, log_samples=False
        )
        return {skill: _score(found["results"][task]) for skill, task in zip(SKILLS, tasks, strict=True)}

    return evaluate


def _score(result: dict[str, Any]) -> float:
    """Return the one metric of a zoo task: lm-eval writes it as "metric,filter"."""
    (value,) = (v for key, v in result.items() if "," in key and not key.partition(",")[0].endswith("_stderr"))
    return float(value)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep lm-eval's own bars and messages from writing over the progress bar."""
    names = {"TQDM_DISABLE": "1", "TOKENIZERS_PARALLELISM": "false"}  # the first is read when tqdm is imported
    environment = {name: os.environ.get(name) for name in names}
    before = logging.root.manager.disable
    os.environ.update(names)
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
        for name, value in environment.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})


def _write_csv(path: Path, rows: list[Row]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    with partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["name", *(f"zoo_{skill}" for skill in SKILLS), "average", "spec", "digest"])
        for row in rows:
            percents = [100 * score for score in (*row.scores.values(), row.average)]
            writer.writerow([row.name, *(f"{p:.2f}" for p in percents), str(row.spec), row.spec.digest])
    partial.rename(path)


def _table(rows: list[Row], limit: int | None) -> Table:
    from rich import box
    from rich.table import Table

    prompts = f"the first {limit}" if limit else "200"
    table = Table(
        box=box.SIMPLE_HEAD,
        title="Right answers in percent",
        caption=f"{prompts} test prompts a skill (95 % interval up to +-7 at 200); "
        "lambda chosen on the validation split by the average",
    )
    table.add_column("model", style="bold")
    for column in ("lambda", *SKILLS, "average"):
        table.add_column(column, justify="right")
    for index, row in enumerate(rows):
        merged = row.spec.method.kind == "delta"
        best = [row.scores[skill] == max(r.scores[skill] for r in rows) for skill in SKILLS]
        cells = [
            f"[bold]{100 * row.scores[s]:.1f}[/]" if top else f"{100 * row.scores[s]:.1f}"
            for s, top in zip(SKILLS, best, strict=True)
        ]
        table.add_row(
            row.name,
            f"{row.spec.lambda_:g}" if merged else "",
            *cells,
            f"{100 * row.average:.1f}",
            end_section=index == len(SKILLS),
        )
    return table

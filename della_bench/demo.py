"""The demonstration: the embedded base, its experts and their merges on three skills, by `run` and `leaderboard`.

Each merge's lambda is chosen on the validation split, by the mean over the skills, and then evaluated once on the test
split. Everything else is fixed here beforehand. A second call goes on where the first one ended.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from della_bench.benchmarks import BENCHMARKS
from della_bench.errors import DellaBenchError
from della_bench.results.table import Row, Table
from della_bench.spec import MergeSpec
from della_bench.zoo import SKILLS

__all__ = ["BASELINE", "LAMBDAS", "METHODS", "Demo", "run"]

EXPERTS = "+".join(f"zoo:{skill}" for skill in SKILLS)
# The numbers of the DELLA authors' own example: drop rate 0.3, window 0.14.
METHODS: dict[str, dict[str, float]] = {
    "task_arithmetic": {},
    "dare_ties": {"drop_rate": 0.3},
    "ties": {"drop_rate": 0.3},
    "della": {"drop_rate": 0.3, "window_size": 0.14},
}
LAMBDAS = (0.5, 0.7, 0.9, 1.1, 1.3)
BASELINE = "task_arithmetic"  # the others do more than add the deltas up: does it help?
BATCH_SIZE = 200
DTYPE = "float32"  # a CPU multiplies it faster than the zoo's own bfloat16

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Demo:
    """What came out: the table, the page that shows it, and each row's spec by the folder of its run."""

    table: Table
    page: Path
    specs: dict[Path, MergeSpec]

    def spec(self, row: Row) -> MergeSpec:
        """Return the spec of a row."""
        return self.specs[row.folders[0]]


def run(out: Path, limit: int | None = None, progress: Progress = lambda name, done, total: None) -> Demo:
    """Evaluate all models below `out`, write leaderboard.csv and leaderboard.html there, and return the table.

    limit: only so many prompts of each task, for a quick look; kept apart from a full demonstration. progress: called
    with the model under way, and how many of all evaluations are done.

    Raises DellaBenchError where a model could not be evaluated.
    """
    from della_bench.results.formats import write
    from della_bench.results.leaderboard import build_table
    from della_bench.results.page import write_page
    from della_bench.run.specs import folder_name

    place = out if limit is None else out / f"first-{limit}"
    candidates = {method: [_merge(method, value) for value in LAMBDAS] for method in METHODS}
    models = [_single(name) for name in ("base", *SKILLS)]
    count = len(models) + len(METHODS) * (len(LAMBDAS) + 1)
    with _quiet():
        tried = [spec for specs in candidates.values() for spec in specs]
        _evaluate(tried, place / "validation", "validation", limit, lambda name, done: progress(name, done, count))
        for specs in candidates.values():
            means = [_mean_score(place / "validation" / folder_name(spec)) for spec in specs]
            models.append(specs[means.index(max(means))])  # the smaller lambda among equals
        _evaluate(models, place / "runs", "test", limit, lambda name, done: progress(name, len(tried) + done, count))
        folders = {place / "runs" / folder_name(spec): spec for spec in models}
        table = build_table(list(folders), baseline=BASELINE)
        write(table, place / "leaderboard.csv", "csv")
        page = place / "leaderboard.html"
        write_page(table, page)
    return Demo(table, page, folders)


def _single(name: str) -> MergeSpec:
    """Return the spec of one model of the zoo as it is."""
    keys = {"base": "zoo:base", "experts": f"zoo:{name}", "merge_method": "passthrough", "dtype": DTYPE, "name": name}
    return MergeSpec.parse(keys)


def _merge(method: str, lambda_: float) -> MergeSpec:
    keys = {"base": "zoo:base", "experts": EXPERTS, "merge_method": method, "dtype": DTYPE, "name": method}
    return MergeSpec.parse(keys, **METHODS[method], **{"lambda": lambda_})


def _evaluate(
    specs: Sequence[MergeSpec], out: Path, split: str, limit: int | None, progress: Callable[[str, int], None]
) -> None:
    """Run all specs on one split of the three skills."""
    from della_bench.run.options import Options
    from della_bench.run.runner import Runner
    from della_bench.run.settings import EvalSettings

    done = 0

    def tell(line: str) -> None:
        nonlocal done
        done += 1
        progress(specs[min(done, len(specs) - 1)].display_name, done)

    tasks = tuple(BENCHMARKS[f"zoo_{skill}"].tasks[split] for skill in SKILLS)
    arguments: dict[str, Any] = {"batch_size": BATCH_SIZE}
    progress(specs[0].display_name, 0)
    settings = EvalSettings(limit=limit)
    if faults := Runner(Options(out, tasks, arguments=arguments, settings=settings), tell).run(specs):
        raise DellaBenchError("\n".join(faults))


def _mean_score(folder: Path) -> float:
    from della_bench.results.schema import read_score

    values = [read_score(path)["value"] or 0.0 for path in (folder / "scores").glob("*.json")]
    return sum(values) / len(values)


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

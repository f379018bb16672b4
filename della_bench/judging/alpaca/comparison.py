"""What is to be judged by AlpacaEval: read and checked before anything is asked or written."""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypedDict

from della_bench.errors import DataError
from della_bench.jsonfiles import USERS_FILE, read_json, write_json
from della_bench.judging.alpaca.annotator import LENGTH_CONTROLLED, WIN_RATE, Annotator, load_annotator, write_annotator
from della_bench.judging.alpaca.outputs import Answers, read_answers
from della_bench.judging.alpaca.process import Ask, Job, Judged, run_alpaca_eval
from della_bench.judging.alpaca.reference import (
    Reference,
    ReferenceRow,
    load_reference,
    published_annotations,
    read_reference,
)
from della_bench.judging.alpaca.score import BENCHMARK
from della_bench.judging.settings import JudgeSettings

__all__ = ["Choices", "Comparison", "compare", "prepare"]


class Choices(TypedDict, total=False):
    """What may be chosen of a comparison, all of it by name; `prepare` says what each means."""

    reference: Path | None
    metric: str | None
    name: str | None
    wanted_filter: str | None
    limit: int | None


_OUTPUTS = "model_outputs.json"


@dataclass(frozen=True)
class Comparison:
    """What is to be judged: the answers in `path`, held against the first `n` rows of `reference`, by `annotator`.

    `gamed` is the file that a length-controlled win rate is fitted with, None for a plain one. `place` stands for the
    annotator in the paths of what is written, where another model's files have its name.
    """

    path: Path
    out: Path
    annotator: Annotator
    metric: str
    reference: Reference
    answers: Answers
    n: int
    gamed: Path | None
    place: str = ""

    @property
    def folder(self) -> Path:
        """Where alpaca_eval's own files go: its leaderboard, annotations and inputs."""
        return self.out / "scores" / f"{BENCHMARK}.{self.place or self.annotator.name}"

    @property
    def leaderboard(self) -> Path:
        """alpaca_eval's leaderboard of all models that this annotator has judged below `out`."""
        return self.out / "scores" / f"{BENCHMARK}.{self.annotator.name}" / "leaderboard.csv"

    def placed(self, place: str) -> Comparison:
        """Return the comparison with the name that stands for the annotator in the paths of what is written.

        Where the leaderboard has another model's row of the same name, this one's gets what tells the two apart.
        """
        placed, generator = replace(self, place=place), self.answers.generator
        is_first = place == self.annotator.name or _judged_as(placed.folder) == generator
        if not is_first and generator in _rows_of(self.leaderboard):
            generator += f" ({place.rpartition('-')[2]})"
        return replace(placed, answers=replace(self.answers, generator=generator))

    @property
    def missing(self) -> list[int]:
        """Positions of the baseline's rows that have no answer."""
        have = {answer.position for answer in self.answers.rows}
        return [position for position in range(self.n) if position not in have]


def prepare(
    path: Path,
    out: Path | None = None,
    annotator: str = "alpaca_eval_gpt4",
    *,
    settings: JudgeSettings | None = None,
    reference: Path | None = None,
    metric: str | None = None,
    name: str | None = None,
    wanted_filter: str | None = None,
    limit: int | None = None,
) -> Comparison:
    """Return what `judge_alpaca_eval` would judge; all inputs are read and checked, and nothing is asked or written.

    reference: a file in the place of the annotator's baseline. metric: win_rate or length_controlled_winrate, by
    default the annotator's. name: of the model, by default what the file says, or its folder. wanted_filter: lm-eval's.
    limit: the baseline's first so many instructions. Raises as `judge_alpaca_eval` does.
    """
    settings = JudgeSettings() if settings is None else settings
    judge = load_annotator(annotator, model=settings.model, alias=settings.server.azure)
    metric = metric or judge.metric
    if metric not in (WIN_RATE, LENGTH_CONTROLLED):
        raise DataError(f"no metric {metric!r}: {WIN_RATE} or {LENGTH_CONTROLLED}", exit_code=USERS_FILE)
    baseline = load_reference(judge.baseline) if reference is None else read_reference(reference)
    if limit is not None and limit < 1:
        raise DataError(f"`limit` is {limit}, and at least one comparison is judged", exit_code=USERS_FILE)
    n = min(limit or len(baseline.rows), len(baseline.rows))
    answers = read_answers(path, baseline, name=name, filter_name=wanted_filter)
    kept = tuple(answer for answer in answers.rows if answer.position < n)
    if not kept:
        raise DataError(f"{path}: no answer to any of the first {n} instructions", exit_code=USERS_FILE)
    comparison = Comparison(
        path=path,
        out=path.parent if out is None else out,
        annotator=judge,
        metric=metric,
        reference=baseline,
        answers=Answers(answers.generator, answers.filter, kept),
        n=n,
        gamed=published_annotations() if metric == LENGTH_CONTROLLED else None,
    )
    if comparison.missing and metric == LENGTH_CONTROLLED:
        missing = comparison.missing
        rows = ", ".join(str(position + 1) for position in missing[:5]) + (", ..." if len(missing) > 5 else "")
        raise DataError(
            f"{path}: {len(missing)} of {n} instructions have no answer (rows {rows} of the baseline), and a "
            "length-controlled win rate matches rows by position: answer all, or take `metric` win_rate or a `limit`",
            exit_code=USERS_FILE,
        )
    return comparison


def compare(comparison: Comparison, folder: Path, ask: Ask, *, metric: str, attempts: int) -> Judged:
    """Run alpaca_eval on the comparisons that have an answer, with its files in `folder`."""
    folder = folder.resolve()
    rows = [comparison.reference.rows[answer.position] for answer in comparison.answers.rows]
    generator = comparison.answers.generator
    outputs = [
        ReferenceRow({**row, "output": answer.output, "generator": generator})
        for row, answer in zip(rows, comparison.answers.rows, strict=True)
    ]
    write_json(folder / _OUTPUTS, outputs)
    job = Job(
        annotator=str(write_annotator(comparison.annotator, folder / "annotator")),
        name=generator,
        model_outputs=outputs,
        reference=list(rows),
        out=str(folder),
        metric=metric,
        leaderboard=str(comparison.leaderboard.resolve()) if comparison.leaderboard.is_file() else None,
        gamed=None if comparison.gamed is None else str(comparison.gamed.resolve()),
        attempts=attempts,
    )
    return run_alpaca_eval(job, ask, folder / "alpaca_eval.log")


def _judged_as(folder: Path) -> str | None:
    """Return the name under which these answers were judged before, None where they were not."""
    try:
        return str(read_json(folder / _OUTPUTS)[0]["generator"])
    except (DataError, LookupError, TypeError):
        return None


def _rows_of(leaderboard: Path) -> list[str]:
    """Return the models of one of alpaca_eval's leaderboards, whose first column has no name."""
    if not leaderboard.is_file():
        return []
    with leaderboard.open(encoding="utf-8", newline="") as file:
        return [row[0] for row in csv.reader(file) if row]

"""Reading answers to MBPP and HumanEval, from whatever file holds them.

| format | what a file holds |
|---|---|
| `lm-eval` | the samples that lm-eval logged of any task over these problems |
| `bigcode` | bigcode-evaluation-harness's generations: a JSON list of lists of programs, in the data set's order |
| `rows` | JSON Lines with `task_id` and one of `completion` (openai/human-eval), `program`, `response` |
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn

from della_bench.errors import DataError
from della_bench.jsonfiles import USERS_FILE, read_json, read_rows
from della_bench.results.samples import choose_filter, is_sample_row, read_samples
from della_bench.scoring.code.problems import DECISIVE, Problem
from della_bench.scoring.code.verdicts import Answer, Form, clean

__all__ = ["Answers", "read_answers"]

Format = Literal["lm-eval", "bigcode", "rows"]

_FORMS: dict[str, Form] = {"completion": "completion", "program": "program", "response": "reply"}
_SHOWN = 5  # ids that a message names


@dataclass(frozen=True)
class Answers:
    """The answers of one file: one list a problem, in the data set's order; None where the file has no such problem.

    filter: the filter whose rows were read, of an lm-eval log.
    """

    format: Format
    filter: str
    of_problem: list[list[Answer] | None]


def read_answers(
    path: Path, benchmark: str, problems: Sequence[Problem], *, filter_name: str | None = None, partial: bool = False
) -> Answers:
    """Return the answers that `path` holds to `problems`, all problems of `benchmark`.

    filter_name: which of an lm-eval log's filters to read, where that makes a difference. partial: take a file that
    has no answers to some of the problems.

    Raises DataError that names the file and the place: a row of no known format, a problem that the data set does not
    have or has otherwise, one that stands twice, and, unless `partial`, problems without a row.
    """
    first = _first(path)
    if isinstance(first, list):
        found = _generations(path, problems, partial)
    elif is_sample_row(first):
        found = _samples(path, benchmark, problems, filter_name)
    elif "task_id" in first:
        found = _rows(path, benchmark, problems)
    else:
        has = ", ".join(map(repr, first)) or "nothing"
        _refuse(
            path,
            f"neither lm-eval samples (doc_id, doc, resps), nor a JSON list of lists of programs, nor rows with "
            f"task_id and {_one_of()} (the first row has {has})",
        )
    if filter_name is not None and found.format != "lm-eval":
        _refuse(path, f"filter {filter_name!r} given, but only lm-eval samples have filters")
    _check_complete(path, problems, found, partial)
    return found


def _first(path: Path) -> Any:
    """Return the first row, or the first list of a file that is one JSON list."""
    if _head(path).startswith("["):
        value = read_json(path)
        if not value:
            _refuse(path, "an empty list")
        if isinstance(value[0], dict):
            return value[0]
        return []
    for _, row in read_rows(path):
        return row
    return _refuse(path, "no rows")


def _head(path: Path) -> str:
    """Return the beginning of a file that may be read; faults are left to what reads all of it."""
    import gzip
    import zlib

    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            return file.read(1 << 12).decode("utf-8-sig", "replace").lstrip()
    except (OSError, EOFError, zlib.error):
        return ""


def _generations(path: Path, problems: Sequence[Problem], partial: bool) -> Answers:
    value = read_json(path)
    for number, entry in enumerate(value, start=1):
        if not isinstance(entry, list):
            _refuse(f"{path}, entry {number}", f"expected a list of programs, got {_kind(entry)}")
        for place, program in enumerate(entry, start=1):
            if not isinstance(program, str):
                _refuse(
                    f"{path}, entry {number}, candidate {place}", f"expected a program's text, got {_kind(program)}"
                )
    if len(value) > len(problems) or (len(value) < len(problems) and not partial):
        advice = "" if len(value) > len(problems) else "; --partial takes them as the first ones"
        _refuse(path, f"{len(value)} entries for {len(problems)} problems, in the data set's order{advice}")
    groups: list[list[Answer] | None] = [[Answer(clean(text), "program") for text in entry] for entry in value]
    return Answers("bigcode", "none", groups + [None] * (len(problems) - len(value)))


def _samples(path: Path, benchmark: str, problems: Sequence[Problem], filter_name: str | None) -> Answers:
    samples = choose_filter(path, read_samples(path), filter_name)
    table = _Table(path, benchmark, problems)
    for sample in samples:
        place = f"{path}, line {sample.line}"
        problem = table.find(place, sample.doc.get("task_id"))
        for field in DECISIVE[benchmark]:
            if field in sample.doc and sample.doc[field] != problem.doc[field]:
                _refuse(place, f"task {problem.key}: {field} is not what the data set has: samples of another data set")
        if table.seen(problem):
            _refuse(place, f"task {problem.key} stood in line {table.first[problem.key]} already")
        table.add(problem, sample.line, [Answer(clean(text), "reply") for text in sample.responses])
    return Answers("lm-eval", samples[0].filter, table.groups)


def _rows(path: Path, benchmark: str, problems: Sequence[Problem]) -> Answers:
    table = _Table(path, benchmark, problems)
    for line, row in read_rows(path):
        place = f"{path}, line {line}"
        if "task_id" not in row:
            _refuse(place, "no 'task_id'")
        problem = table.find(place, row["task_id"])
        keys = [key for key in _FORMS if key in row]
        if len(keys) != 1:
            _refuse(place, f"task {problem.key}: expected one of {_one_of()}, got {', '.join(keys) or 'none'}")
        text = row[keys[0]]
        if not isinstance(text, str):
            _refuse(place, f"task {problem.key}: {keys[0]} must be a text, got {_kind(text)}")
        table.add(problem, line, [Answer(clean(text), _FORMS[keys[0]])])
    counts = {len(group) for group in table.groups if group}
    if len(counts) > 1:
        least = min(counts)
        more = next(p for p, group in zip(problems, table.groups, strict=True) if group and len(group) > least)
        lines = ", ".join(map(str, table.lines[more.key][:_SHOWN]))
        _refuse(path, f"task {more.key} stands in lines {lines}, other tasks {least} time(s): a row stands there twice")
    return Answers("rows", "none", table.groups)


class _Table:
    """Answers by problem, with the lines in which they stood."""

    def __init__(self, path: Path, benchmark: str, problems: Sequence[Problem]) -> None:
        self.path, self.benchmark = path, benchmark
        self.by_key: Mapping[str, Problem] = {problem.key: problem for problem in problems}
        self.groups: list[list[Answer] | None] = [None] * len(problems)
        self.lines: dict[str, list[int]] = {}

    @property
    def first(self) -> dict[str, int]:
        return {key: lines[0] for key, lines in self.lines.items()}

    def find(self, place: str, task_id: Any) -> Problem:
        if task_id is None:
            _refuse(place, f"no task_id: not an answer to {self.benchmark}")
        if isinstance(task_id, bool) or not isinstance(task_id, (str, int)) or str(task_id) not in self.by_key:
            first, *_, last = self.by_key
            _refuse(place, f"{self.benchmark} has no task {task_id!r} (it has {first} to {last})")
        return self.by_key[str(task_id)]

    def seen(self, problem: Problem) -> bool:
        return problem.key in self.lines

    def add(self, problem: Problem, line: int, answers: list[Answer]) -> None:
        self.groups[problem.doc_id] = (self.groups[problem.doc_id] or []) + answers
        self.lines.setdefault(problem.key, []).append(line)


def _check_complete(path: Path, problems: Sequence[Problem], found: Answers, partial: bool) -> None:
    missing = [p.key for p, group in zip(problems, found.of_problem, strict=True) if group is None]
    if missing and not partial:
        some = ", ".join(missing[:_SHOWN]) + (", ..." if len(missing) > _SHOWN else "")
        message = f"no answer to {len(missing)} of {len(problems)} problems (task {some}); --partial scores the others"
        _refuse(path, message)
    if not any(group is not None for group in found.of_problem):
        _refuse(path, "no answers")


def _one_of() -> str:
    return ", ".join(_FORMS)


def _kind(value: Any) -> str:
    return "null" if value is None else type(value).__name__


def _refuse(place: str | Path, message: str) -> NoReturn:
    raise DataError(f"{place}: {message}", exit_code=USERS_FILE)

"""Answers by problem, and how a file that cannot be read is refused."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NoReturn

from della_bench.errors import DataError
from della_bench.jsonfiles import USERS_FILE
from della_bench.scoring.code.problems import Problem
from della_bench.scoring.code.verdicts import Answer

__all__ = ["SHOWN", "Answers", "Format", "Table", "kind_of", "refuse"]

Format = Literal["lm-eval", "bigcode", "rows"]

SHOWN = 5  # ids that a message names

_EVALPLUS_ID = re.compile(r"mbpp/([1-9]\d*)", re.IGNORECASE)


@dataclass(frozen=True)
class Answers:
    """The answers of one file: one list a problem, in the data set's order; None where the file has no such problem.

    filter: the filter whose rows were read, of an lm-eval log. notes: sentences about the file for whoever reads the
    score.
    """

    format: Format
    filter: str
    of_problem: list[list[Answer] | None]
    notes: tuple[str, ...] = ()


class Table:
    """Answers by problem, with the first line in which each problem stood."""

    def __init__(self, path: Path, benchmark: str, problems: Sequence[Problem]) -> None:
        self.path, self.benchmark = path, benchmark
        self.by_key: Mapping[str, Problem] = {problem.key: problem for problem in problems}
        self.groups: list[list[Answer] | None] = [None] * len(problems)
        self.lines: dict[str, int] = {}

    def find(self, place: str, task_id: object) -> Problem:
        """Return the problem of a task_id: MBPP's 11, "11" or evalplus' "Mbpp/11", HumanEval's "HumanEval/0".

        Raises DataError where there is no such problem.
        """
        if task_id is None:
            refuse(place, f"no task_id: not an answer to {self.benchmark}")
        key = str(task_id) if isinstance(task_id, (str, int)) and not isinstance(task_id, bool) else ""
        if self.benchmark == "mbpp" and (evalplus := _EVALPLUS_ID.fullmatch(key)):
            key = evalplus[1]
        if key not in self.by_key:
            first, *_, last = self.by_key
            refuse(place, f"{self.benchmark} has no task {task_id!r} (it has {first} to {last})")
        return self.by_key[key]

    def add(self, problem: Problem, line: int, answers: list[Answer]) -> None:
        """Add answers to a problem that stood in a line."""
        self.groups[problem.doc_id] = (self.groups[problem.doc_id] or []) + answers
        self.lines.setdefault(problem.key, line)


def kind_of(value: object) -> str:
    """Return what a message calls a JSON value."""
    return "null" if value is None else type(value).__name__


def refuse(place: str | Path, message: str) -> NoReturn:
    """Raise DataError about a place in a file that is the user's to mend."""
    raise DataError(f"{place}: {message}", exit_code=USERS_FILE)

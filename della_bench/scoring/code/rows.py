"""Answers in rows with `task_id`: openai/human-eval's samples, evalplus' solutions, and rows of one's own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from della_bench.jsonfiles import read_rows
from della_bench.scoring.code.parsing import parsed
from della_bench.scoring.code.problems import Problem
from della_bench.scoring.code.table import Answers, Table, kind_of, refuse
from della_bench.scoring.code.verdicts import Answer, Form, clean

__all__ = ["ONE_OF", "read_task_rows"]

_FORMS: dict[str, Form] = {
    "completion": "completion",
    "solution": "program",
    "program": "program",
    "response": "reply",
}
ONE_OF = ", ".join(_FORMS)

_FENCE = re.compile(r"^[ \t]*(?:```|~~~)", re.MULTILINE)


def read_task_rows(path: Path, benchmark: str, problems: Sequence[Problem]) -> Answers:
    """Return the answers of a file of rows with `task_id` and one of the keys in ONE_OF.

    Completions that hold fences and so are no code are read as replies; where most of a file's are, all of them are.
    Raises DataError that names the line.
    """
    table = Table(path, benchmark, problems)
    for line, row in read_rows(path):
        place = f"{path}, line {line}"
        if "task_id" not in row:
            refuse(place, "no 'task_id'")
        problem = table.find(place, row["task_id"])
        keys = [key for key in _FORMS if key in row]
        if len(keys) != 1:
            refuse(place, f"task {problem.key}: expected one of {ONE_OF}, got {', '.join(keys) or 'none'}")
        text = row[keys[0]]
        if not isinstance(text, str):
            refuse(place, f"task {problem.key}: {keys[0]} must be a text, got {kind_of(text)}")
        table.add(problem, line, [Answer(clean(text), _FORMS[keys[0]])])
    groups, notes = _replies_among_completions(problems, table.groups)
    return Answers("rows", "none", groups, notes)


def _replies_among_completions(
    problems: Sequence[Problem], groups: list[list[Answer] | None]
) -> tuple[list[list[Answer] | None], tuple[str, ...]]:
    """Return the answers with each completion that is a model's reply called one, and what is to be said about it."""
    fenced = {
        (problem.doc_id, place)
        for problem, group in zip(problems, groups, strict=True)
        for place, answer in enumerate(group or ())
        if answer.form == "completion" and _is_fenced(problem, answer.text)
    }
    if not fenced:
        return groups, ()
    count = sum(answer.form == "completion" for group in groups for answer in group or ())
    most = 2 * len(fenced) > count
    read = [
        group
        and [
            replace(answer, form="reply")
            if answer.form == "completion" and (most or (doc_id, place) in fenced)
            else answer
            for place, answer in enumerate(group)
        ]
        for doc_id, group in enumerate(groups)
    ]
    which = "all are read as a model's replies" if most else "these are read as a model's replies, the others as code"
    return read, (f"{len(fenced)} of {count} completions hold fenced blocks and are no code as they stand: {which}",)


def _is_fenced(problem: Problem, text: str) -> bool:
    return bool(_FENCE.search(text)) and isinstance(parsed(problem.continued(text)), SyntaxError)

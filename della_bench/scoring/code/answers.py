"""Reading answers to MBPP and HumanEval, from whatever file holds them.

| format | what a file holds |
|---|---|
| `lm-eval` | the samples that lm-eval logged of any task over these problems |
| `bigcode` | bigcode-evaluation-harness's generations: a JSON list of lists of programs, in the data set's order |
| `rows` | JSON Lines with `task_id` and one of the keys in `rows.ONE_OF` |
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from della_bench.jsonfiles import read_json, read_rows
from della_bench.results.samples import choose_filter, is_sample_row, read_samples, refuse_results
from della_bench.scoring.code.problems import DECISIVE, Problem
from della_bench.scoring.code.rows import ONE_OF, read_task_rows
from della_bench.scoring.code.table import SHOWN, Answers, Table, kind_of, refuse
from della_bench.scoring.code.verdicts import Answer, clean

__all__ = ["Answers", "partial_run", "read_answers"]


def read_answers(
    path: Path, benchmark: str, problems: Sequence[Problem], *, filter_name: str | None = None, limit: int | None = None
) -> Answers:
    """Return the answers that `path` holds to `problems`, all problems of `benchmark`.

    filter_name: which of an lm-eval log's filters to read, where that makes a difference. limit: of the problems that
    the file answers, the first so many. A problem may have more answers than another, and one that the file does not
    have has None: so has one with an empty list where most are empty, as in a run that never came to these problems.

    Raises DataError that names the file and the place: a row of no known format, a problem that the data set does not
    have or has otherwise, one that an lm-eval log has twice, no answer at all.
    """
    first = _first(path)
    if isinstance(first, list):
        answers = _generations(path, problems)
    elif is_sample_row(first):
        answers = _samples(path, benchmark, problems, filter_name)
    elif "task_id" in first:
        answers = read_task_rows(path, benchmark, problems)
    else:
        has = ", ".join(map(repr, first)) or "nothing"
        refuse(
            path,
            f"neither lm-eval samples (doc_id, doc, resps), nor a JSON list of lists of programs, nor rows with "
            f"task_id and {ONE_OF} (the first row has {has})",
        )
    if filter_name is not None and answers.format != "lm-eval":
        refuse(path, f"filter {filter_name!r} given, but only lm-eval samples have filters")
    if all(group is None for group in answers.of_problem):
        refuse(path, "no answers")
    return answers if limit is None else replace(answers, of_problem=_first_answered(answers.of_problem, limit))


def _first_answered(groups: Sequence[list[Answer] | None], limit: int) -> list[list[Answer] | None]:
    """Return the groups with all but the first `limit` that have answers left out."""
    kept: list[list[Answer] | None] = []
    for group in groups:
        limit -= group is not None
        kept.append(group if limit >= 0 else None)
    return kept


def partial_run(path: Path, problems: Sequence[Problem], answers: Answers) -> str | None:
    """Return a sentence about the problems that have no answer, None where all have one."""
    missing = [p.key for p, group in zip(problems, answers.of_problem, strict=True) if group is None]
    if not missing:
        return None
    some = ", ".join(missing[:SHOWN]) + (", ..." if len(missing) > SHOWN else "")
    return (
        f"{path}: a partial run: no answer to {len(missing)} of {len(problems)} problems (task {some}); "
        "the score is of the others"
    )


def _first(path: Path) -> dict[str, object] | list[object]:
    """Return the first row, or an empty list for a file that is one JSON list of anything but rows."""
    if _head(path).startswith("["):
        value = read_json(path)
        if not value:
            refuse(path, "an empty list")
        return value[0] if isinstance(value[0], dict) else []
    refuse_results(path)
    for _, row in read_rows(path):
        return row
    return refuse(path, "no rows")


def _head(path: Path) -> str:
    """Return the beginning of a file that may be read; faults are left to what reads all of it."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            return file.read(1 << 12).decode("utf-8-sig", "replace").lstrip()
    except (OSError, EOFError, zlib.error):
        return ""


def _generations(path: Path, problems: Sequence[Problem]) -> Answers:
    value = read_json(path)
    for number, entry in enumerate(value, start=1):
        if not isinstance(entry, list):
            refuse(f"{path}, entry {number}", f"expected a list of programs, got {kind_of(entry)}")
        for place, program in enumerate(entry, start=1):
            if not isinstance(program, str):
                refuse(
                    f"{path}, entry {number}, candidate {place}", f"expected a program's text, got {kind_of(program)}"
                )
    if len(value) > len(problems):
        refuse(path, f"{len(value)} entries for {len(problems)} problems, in the data set's order")
    groups: list[list[Answer] | None] = [[Answer(clean(text), "program") for text in entry] for entry in value]
    groups += [None] * (len(problems) - len(value))
    # An empty list is a model that said nothing; where most are empty, the run never came to these problems.
    if sum(not group for group in groups) > len(groups) // 2:
        groups = [group or None for group in groups]
    return Answers("bigcode", "none", groups)


def _samples(path: Path, benchmark: str, problems: Sequence[Problem], filter_name: str | None) -> Answers:
    samples = choose_filter(path, read_samples(path), filter_name)
    table = Table(path, benchmark, problems)
    for sample in samples:
        place = f"{path}, line {sample.line}"
        problem = table.find(place, sample.doc.get("task_id"))
        ours: Mapping[str, object] = problem.doc
        for field in DECISIVE[benchmark]:
            if field in sample.doc and sample.doc[field] != ours[field]:
                refuse(place, f"task {problem.key}: {field} is not what the data set has: samples of another data set")
        if problem.key in table.lines:
            refuse(place, f"task {problem.key} stood in line {table.lines[problem.key]} already")
        table.add(problem, sample.line, [Answer(clean(text), "reply") for text in sample.responses])
    return Answers("lm-eval", samples[0].filter, table.groups)

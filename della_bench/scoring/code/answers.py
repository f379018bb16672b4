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
from pathlib import Path

from della_bench.jsonfiles import read_json, read_rows
from della_bench.results.samples import choose_filter, is_sample_row, read_samples, refuse_results
from della_bench.scoring.code.problems import DECISIVE, Problem
from della_bench.scoring.code.rows import ONE_OF, read_task_rows
from della_bench.scoring.code.table import SHOWN, Answers, PartialFileError, Table, kind_of, refuse
from della_bench.scoring.code.verdicts import Answer, clean

__all__ = ["Answers", "PartialFileError", "read_answers"]


def read_answers(
    path: Path, benchmark: str, problems: Sequence[Problem], *, filter_name: str | None = None, partial: bool = False
) -> Answers:
    """Return the answers that `path` holds to `problems`, all problems of `benchmark`.

    filter_name: which of an lm-eval log's filters to read, where that makes a difference. partial: take a file that
    has no answers to some of the problems. A problem may have more answers than another.

    Raises DataError that names the file and the place: a row of no known format, a problem that the data set does not
    have or has otherwise, one that an lm-eval log has twice. PartialFileError, which is one, for problems without a row
    and a list of mostly empty lists, unless `partial`.
    """
    first = _first(path)
    if isinstance(first, list):
        found = _generations(path, problems, partial)
    elif is_sample_row(first):
        found = _samples(path, benchmark, problems, filter_name)
    elif "task_id" in first:
        found = read_task_rows(path, benchmark, problems)
    else:
        has = ", ".join(map(repr, first)) or "nothing"
        refuse(
            path,
            f"neither lm-eval samples (doc_id, doc, resps), nor a JSON list of lists of programs, nor rows with "
            f"task_id and {ONE_OF} (the first row has {has})",
        )
    if filter_name is not None and found.format != "lm-eval":
        refuse(path, f"filter {filter_name!r} given, but only lm-eval samples have filters")
    _check_complete(path, problems, found, partial)
    return found


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


def _generations(path: Path, problems: Sequence[Problem], partial: bool) -> Answers:
    value = read_json(path)
    for number, entry in enumerate(value, start=1):
        if not isinstance(entry, list):
            refuse(f"{path}, entry {number}", f"expected a list of programs, got {kind_of(entry)}")
        for place, program in enumerate(entry, start=1):
            if not isinstance(program, str):
                refuse(
                    f"{path}, entry {number}, candidate {place}", f"expected a program's text, got {kind_of(program)}"
                )
    if len(value) > len(problems) or (len(value) < len(problems) and not partial):
        message = f"{len(value)} entries for {len(problems)} problems, in the data set's order"
        if len(value) < len(problems):
            raise PartialFileError(f"{path}: {message}: a partial run, of the first problems?")
        refuse(path, message)
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


def _check_complete(path: Path, problems: Sequence[Problem], found: Answers, partial: bool) -> None:
    missing = [p.key for p, group in zip(problems, found.of_problem, strict=True) if group is None]
    if len(missing) == len(problems):
        refuse(path, "no answers")
    if missing and not partial:
        some = ", ".join(missing[:SHOWN]) + (", ..." if len(missing) > SHOWN else "")
        message = f"no answer to {len(missing)} of {len(problems)} problems (task {some}): a partial run?"
        raise PartialFileError(f"{path}: {message}")

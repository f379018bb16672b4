"""From runs to a table: which cells a row has, what may be compared, and by how much rows differ."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from della_bench.benchmarks import BENCHMARKS
from della_bench.errors import DataError
from della_bench.jsonfiles import USERS_FILE
from della_bench.results.averages import averaged_benchmarks, with_averages
from della_bench.results.bootstrap import RESAMPLES
from della_bench.results.chosen import with_choices
from della_bench.results.compare import AVERAGE, BOOTSTRAP, BOUNDED, compare_pairs, corrected
from della_bench.results.gather import Gathered, gather
from della_bench.results.groups import with_exclusions
from della_bench.results.store import find_evaluations
from della_bench.results.table import Comparison, Row, Table
from della_bench.suggest import nearest

__all__ = ["NO_BASELINE", "build_table"]

T = TypeVar("T")

NO_BASELINE = "none"


def build_table(
    paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    baseline: str | None = None,
    benchmarks: Sequence[str] | None = None,
    scorers: Mapping[str, str] | None = None,
    paper: bool = False,
    progress: bool = False,
) -> Table:
    """Return the table of all models that were evaluated in and below `paths`, one or several.

    baseline: name (or the first 8 or more digits of the fingerprint) of the row to compare with, or "none"; by default
    the base model's own row, where there is one. benchmarks: the columns, in this order, all of which the average is
    over; by default all columns, and the average is over those that every row has. scorers: whose number to show, by
    benchmark; by default the scorer that most models have, among equals a judge before a program before lm-eval.
    paper: add the rows of the DELLA paper's table 1 for reference. progress: show bars on stderr.

    Raises DataError where a path, the baseline, a benchmark or a scorer is not there. What cannot be read is left out
    and stands in the table's notes.
    """
    folders = [Path(each) for each in ([paths] if isinstance(paths, (str, os.PathLike)) else paths)]
    faults: list[str] = []
    found: Gathered = gather(
        _bar(find_evaluations(folders, faults), "Reading runs", progress), benchmarks, scorers or {}
    )
    rows = [found.row(fingerprint, faults) for fingerprint in _bar(found.fingerprints, "Scoring", progress)]
    rows, exclusions = with_exclusions(_unique_names(rows), found.benchmarks)
    rows, choices = with_choices(rows)
    averaged, remarks = averaged_benchmarks(rows, found.benchmarks, wanted=benchmarks)
    rows = with_averages(rows, averaged)
    base = _baseline(rows, baseline)
    if base is not None:
        rows = corrected(_against(rows, base, found.benchmarks, averaged), averaged)
        remarks += _tests_note(rows)
    rows.sort(key=lambda row: (row.average is None, -(row.average or 0.0), row.name, row.fingerprint))
    columns = list(found.benchmarks)
    if paper:
        from della_bench.results.paper import paper_rows

        references = paper_rows(averaged)
        columns += [name for name in BENCHMARKS if name not in columns and any(name in row.cells for row in references)]
        rows += references
    return Table(
        rows=tuple(rows),
        benchmarks=tuple(columns),
        averaged=tuple(averaged),
        baseline=None if base is None else base.name,
        notes=(*found.notes, *exclusions, *choices, *remarks, *faults),
        faults=tuple(faults),
    )


def _bar(values: Iterable[T], what: str, progress: bool) -> Iterable[T]:
    from tqdm import tqdm

    bar: Iterable[T] = tqdm(values, desc=what, unit="run", disable=not progress, leave=False)
    return bar


def _unique_names(rows: Sequence[Row]) -> list[Row]:
    """Tell models of one name apart by the first digits of their fingerprints."""
    names = Counter(row.name for row in rows)
    return [replace(row, name=f"{row.name} ({row.fingerprint[:8]})") if names[row.name] > 1 else row for row in rows]


def _baseline(rows: Sequence[Row], wanted: str | None) -> Row | None:
    """Return the row to compare with: the one asked for, or the base model's own where there is exactly one."""
    if wanted == NO_BASELINE or not rows:
        return None
    if wanted is None:
        bases = [row for row in rows if is_base(row)]
        return bases[0] if len(bases) == 1 else None
    named = [row for row in rows if row.name == wanted or (len(wanted) >= 8 and row.fingerprint.startswith(wanted))]
    if len(named) != 1:
        names = [row.name for row in rows]
        several = named or any(name.startswith(f"{wanted} (") for name in names)
        which = "several rows have that name" if several else "no row has that name"
        raise DataError(f"baseline {wanted!r}: {which}{nearest(wanted, names)}", exit_code=USERS_FILE)
    return named[0]


def is_base(row: Row) -> bool:
    """Return whether a row is the base model itself: passed through, with no expert but the base."""
    if row.method != "passthrough":
        return False
    from della_bench.errors import SpecError
    from della_bench.spec import MergeSpec

    try:
        spec = MergeSpec.parse(row.spec)
    except SpecError:  # written by another release
        return False
    return spec.experts == (spec.base,)


def _against(rows: Sequence[Row], base: Row, benchmarks: Sequence[str], averaged: Sequence[str]) -> list[Row]:
    """Return the rows with `versus` set, in the rows and their cells, but for the base itself."""
    others = [row for row in rows if row is not base]
    compared = compare_pairs([(row.cells, base.cells) for row in others], benchmarks, averaged)
    versus = {row.fingerprint: each for row, each in zip(others, compared, strict=True)}
    return [row if row is base else _with_versus(row, base, versus[row.fingerprint]) for row in rows]


def _tests_note(rows: Sequence[Row]) -> list[str]:
    """Say which p values are no shares of resamples, where there are any."""
    compared = [versus for row in rows for versus in (row.versus, *(cell.versus for cell in row.cells.values()))]
    if not any(versus is not None and versus.test == BOUNDED for versus in compared):
        return []
    return [f"p below {2 / (RESAMPLES + 1):g} of the {BOOTSTRAP} is {BOUNDED}: no resample reaches the other side of 0"]


def _with_versus(row: Row, base: Row, versus: Mapping[str, Comparison]) -> Row:
    missing = Comparison(reason=f"{base.name} was not evaluated on it")
    cells = {
        name: replace(cell, versus=versus[name] if name in base.cells else missing) for name, cell in row.cells.items()
    }
    return replace(row, cells=cells, versus=versus[AVERAGE])

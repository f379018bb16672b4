"""A row's average over benchmarks, and how far other items of the same benchmarks could move it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from della_bench.benchmarks import benchmark_of
from della_bench.results.bootstrap import bootstrap
from della_bench.results.settings import plain_name
from della_bench.results.table import Row

__all__ = ["averaged_benchmarks", "with_averages"]


def averaged_benchmarks(
    rows: Sequence[Row], benchmarks: Sequence[str], *, wanted: Sequence[str] | None = None
) -> tuple[list[str], list[str]]:
    """Return the benchmarks that averages are over, and notes on what they leave out.

    wanted: the names that somebody has chosen. Then they are all of `benchmarks`, and a row that lacks one has no
    average; else those that all rows have. Of a benchmark that was asked in several ways one column is among them, as
    documents may be the same: that with the most items, unless each was chosen by its whole name.
    """
    if wanted is not None:
        return _one_of_each(rows, benchmarks, chosen=wanted)
    if not rows:
        return list(benchmarks), []
    out, notes = [], []
    for name in benchmarks:
        lacking = [row.name for row in rows if name not in row.cells or row.cells[name].value is None]
        if not lacking:
            out.append(name)
        else:
            who = ", ".join(lacking[:3]) + (f" and {len(lacking) - 3} more" if len(lacking) > 3 else "")
            has = "has" if len(lacking) == 1 else "have"
            notes.append(f"{name}: left out of the average: {who} {has} no score")
    for name in list(out):
        within = [group for group in out if group != name and plain_name(name) in _tasks_of(rows, group)]
        if within:
            out.remove(name)
            notes.append(f"{name}: left out of the average: it is a part of {within[0]}")
    out, left_out = _one_of_each(rows, out)
    return out, notes + left_out


def _one_of_each(
    rows: Sequence[Row], benchmarks: Sequence[str], chosen: Sequence[str] = ()
) -> tuple[list[str], list[str]]:
    """Return the columns of which none is a benchmark's second, but for those chosen, and notes on the others."""
    most: dict[str, str] = {}
    for name in benchmarks:
        known = most.setdefault(plain_name(name), name)
        if _items(rows, name) > _items(rows, known):
            most[plain_name(name)] = name
    out = [name for name in benchmarks if name == most[plain_name(name)] or name in chosen]
    notes = [
        f"{name}: left out of the average, where {most[plain_name(name)]} stands for {plain_name(name)}"
        for name in benchmarks
        if name not in out
    ]
    return out, notes


def _tasks_of(rows: Sequence[Row], group: str) -> set[str]:
    return {benchmark_of(task) for row in rows for task, _ in row.cells[group].source.parts}


def _items(rows: Sequence[Row], benchmark: str) -> int:
    return sum(row.cells[benchmark].n for row in rows if benchmark in row.cells)


def with_averages(rows: Sequence[Row], averaged: Sequence[str]) -> list[Row]:
    """Return the rows with the mean of their values over `averaged` (percent) and its interval, or why there is none.

    The interval needs every item's value, and scores that are the mean of them. Of one benchmark it is the cell's own.
    Where all items of each benchmark are alike (all right, all wrong) resampling finds no spread, which does not mean
    that there is none: then there is no interval.
    """
    out = [_with_average(row, averaged) for row in rows]
    if len(averaged) < 2:
        return out
    values = {
        index: {name: each for name in averaged if (each := row.cells[name].scored) is not None}
        for index, row in enumerate(out)
        if row.average is not None and all(row.cells[name].is_mean for name in averaged)
    }
    for index, (_, average) in zip(values, bootstrap(list(values.values()), averaged, average_only=True), strict=True):
        if average is not None and average.low < average.high:
            out[index] = replace(out[index], average_interval=(100 * average.low, 100 * average.high))
    return out


def _with_average(row: Row, averaged: Sequence[str]) -> Row:
    if not averaged:
        return replace(row, average_reason="no benchmark that all rows have")
    cells = [row.cells.get(name) for name in averaged]
    there = [cell for cell in cells if cell is not None and cell.value is not None]
    if len(there) < len(averaged):
        lacking = [name for name, cell in zip(averaged, cells, strict=True) if cell is None or cell.value is None]
        return replace(row, average_reason=f"no value for {', '.join(lacking)}")
    if excluded := next((cell for cell in there if cell.excluded), None):
        return replace(row, average_reason=f"{excluded.benchmark}: {excluded.excluded}")
    average = sum(cell.value for cell in there if cell.value is not None) / len(there)
    return replace(row, average=average, average_interval=there[0].interval if len(there) == 1 else None)

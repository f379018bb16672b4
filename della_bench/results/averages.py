"""A row's average over benchmarks, and how far other items of the same benchmarks could move it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from della_bench.results.compare import is_mean
from della_bench.results.table import Cell, Row

__all__ = ["averaged_benchmarks", "with_average"]


def averaged_benchmarks(rows: Sequence[Row], benchmarks: Sequence[str], *, fixed: bool) -> tuple[list[str], list[str]]:
    """Return the benchmarks that averages are over, and notes on what they leave out.

    With `fixed` they are all of `benchmarks`, and a row that lacks one has no average; else those that all rows have.
    """
    if fixed or not rows:
        return list(benchmarks), []
    out, notes = [], []
    for name in benchmarks:
        lacking = [row.name for row in rows if name not in row.cells or row.cells[name].value is None]
        if not lacking:
            out.append(name)
        else:
            who = ", ".join(lacking[:3]) + (f" and {len(lacking) - 3} more" if len(lacking) > 3 else "")
            notes.append(f"{name}: no part of the average, for want of it in {who}")
    return out, notes


def with_average(row: Row, averaged: Sequence[str]) -> Row:
    """Return the row with the mean of its values over `averaged` (percent) and its interval, or why there is none.

    The interval needs every item's value, and scores that are the mean of them. Of one benchmark it is the cell's own.
    Where all items of each benchmark are alike (all right, all wrong) resampling finds no spread, which does not mean
    that there is none: then there is no interval.
    """
    cells = [row.cells.get(name) for name in averaged]
    if not averaged:
        return replace(row, average_reason="no benchmark that all rows have")
    there = [cell for cell in cells if cell is not None and cell.value is not None]
    if len(there) < len(averaged):
        lacking = [name for name, cell in zip(averaged, cells, strict=True) if cell is None or cell.value is None]
        return replace(row, average_reason=f"no value for {', '.join(lacking)}")
    if excluded := next((cell for cell in there if cell.excluded), None):
        return replace(row, average_reason=f"{excluded.benchmark}: {excluded.excluded}")
    average = sum(cell.value for cell in there if cell.value is not None) / len(there)
    return replace(row, average=average, average_interval=_interval(there))


def _interval(cells: Sequence[Cell]) -> tuple[float, float] | None:
    from della_bench.results.stats import average_interval

    if len(cells) == 1:
        return cells[0].interval
    if not all(is_mean(cell) for cell in cells):
        return None
    values = [cell.values[cell.values == cell.values] for cell in cells if cell.values is not None]  # without NaN
    low, high = average_interval(values)
    return (100 * low, 100 * high) if low < high else None

"""What a group's column stands for: each of its tasks' own value, from the same items."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from della_bench.results.table import Cell, Row, Table

__all__ = ["Unfolded", "unfolded"]

_MODELS = 24  # models beside one another; of more, the first are shown


@dataclass(frozen=True)
class Unfolded:
    """A group's column, the models that have it, and by task a value (percent) for each model, None where it has none.

    `more` counts the models that are left out.
    """

    name: str
    models: tuple[str, ...]
    tasks: tuple[tuple[str, tuple[float | None, ...]], ...]
    more: int


def unfolded(table: Table) -> Iterator[Unfolded]:
    """Yield each column of a table that is a group's with its tasks, the models in the order of the table."""
    for name in table.benchmarks:
        rows = [(row, row.cells[name]) for row in table.rows if name in row.cells and row.cells[name].source.parts]
        if rows:
            yield _unfolded(name, rows[:_MODELS], len(rows) - len(rows[:_MODELS]))


def _unfolded(name: str, rows: list[tuple[Row, Cell]], more: int) -> Unfolded:
    values = [_by_task(cell) for _, cell in rows]
    tasks = dict.fromkeys(task for _, cell in rows for task, _ in cell.source.parts)
    return Unfolded(
        name=name,
        models=tuple(row.name for row, _ in rows),
        tasks=tuple((task, tuple(each.get(task) for each in values)) for task in tasks),
        more=more,
    )


def _by_task(cell: Cell) -> dict[str, float]:
    """Return the mean of each task's scored items, in percent: the hashes of a group's items begin with their task."""
    found: dict[str, list[float]] = defaultdict(list)
    for (_, doc_hash), value in zip(cell.keys or (), [] if cell.values is None else cell.values.tolist(), strict=True):
        if value == value:
            found[doc_hash.partition(" ")[0]].append(value)
    return {task: 100 * sum(values) / len(values) for task, values in found.items()}

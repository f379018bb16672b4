"""Which cells of a benchmark are about the same thing: the same scorer over the same documents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from della_bench.results.compare import why_not
from della_bench.results.table import Cell, Row

__all__ = ["with_exclusions"]

_Group = tuple[str, str, str, str, str]


def with_exclusions(rows: Sequence[Row], benchmarks: Sequence[str]) -> tuple[list[Row], list[str]]:
    """Return the rows with `excluded` set in cells that most others of their benchmark cannot be compared with.

    Cells belong together where scorer, its version and model, metric and documents are the same; the largest group
    stays, among equals the one with the most items. Returns a note for each cell that is excluded.
    """
    out, notes = list(rows), []
    for benchmark in benchmarks:
        groups: dict[_Group, list[int]] = {}
        for index, row in enumerate(rows):
            cell = row.cells.get(benchmark)
            if cell is not None and cell.value is not None:
                groups.setdefault(_group(cell), []).append(index)
        if len(groups) < 2:
            continue
        order = sorted(groups, key=lambda key: (-len(groups[key]), -_items(rows[groups[key][0]].cells[benchmark]), key))
        kept = rows[groups[order[0]][0]].cells[benchmark]
        for key in order[1:]:
            for index in groups[key]:
                row = out[index]
                cell = row.cells[benchmark]
                reason = why_not(cell, kept) or "over other documents"
                out[index] = replace(row, cells={**row.cells, benchmark: replace(cell, excluded=reason)})
                notes.append(f"{row.name}, {benchmark}: not compared: {reason}")
    return out, notes


def _group(cell: Cell) -> _Group:
    scorer = cell.scorer
    documents = cell.item_set or f"{cell.n + cell.unscored} items without samples"
    return scorer["name"], scorer["version"], scorer["model"] or "", cell.metric, documents


def _items(cell: Cell) -> int:
    return cell.n + cell.unscored

"""Which cells of a benchmark are about the same thing: the same scorer over the same documents and prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from della_bench.errors import DataError
from della_bench.results.compare import why_not
from della_bench.results.settings import prompts_digest
from della_bench.results.table import Cell, Row

__all__ = ["with_exclusions"]

_Group = tuple[str, str, str, str, str, str]


def with_exclusions(rows: Sequence[Row], benchmarks: Sequence[str]) -> tuple[list[Row], list[str]]:
    """Return the rows with `excluded` set in cells that most others of their benchmark cannot be compared with.

    Cells belong together where scorer, its version and model, metric, documents and prompts are the same; the largest
    group stays, among equals the one with the most items. Returns a note for each cell that is excluded.
    """
    out, notes = list(rows), []
    for benchmark in benchmarks:
        notes += _tell_prompts_apart(out, benchmark)
        groups: dict[_Group, list[int]] = {}
        for index, row in enumerate(out):
            cell = row.cells.get(benchmark)
            if cell is not None and cell.value is not None:
                groups.setdefault(_group(cell), []).append(index)
        if len(groups) < 2:
            continue
        order = sorted(groups, key=lambda key: (-len(groups[key]), -_items(out[groups[key][0]].cells[benchmark]), key))
        kept = out[groups[order[0]][0]].cells[benchmark]
        for key in order[1:]:
            for index in groups[key]:
                row = out[index]
                cell = row.cells[benchmark]
                reason = why_not(cell, kept) or "over other documents"
                out[index] = replace(row, cells={**row.cells, benchmark: replace(cell, excluded=reason)})
                notes.append(f"{row.name}, {benchmark}: not compared: {reason}")
    return out, notes


def _tell_prompts_apart(rows: list[Row], benchmark: str) -> list[str]:
    """Set `prompts` in the cells whose prompts differ from those of most others over the same documents.

    Models that were asked through chat templates of their own have prompts of their own, which is said. lm-eval's
    digest of a task tells at once where all is the same; only where it is not, the prompts' own digests are read.
    """
    places: dict[tuple[str, str], dict[str, list[int]]] = {}
    for index, row in enumerate(rows):
        cell = row.cells.get(benchmark)
        if cell is not None and cell.item_set and cell.settings.prompts and cell.source.samples:
            kind = cell.item_set, cell.settings.template or ""
            places.setdefault(kind, {}).setdefault(cell.settings.prompts, []).append(index)
    for by_task in places.values():
        if len(by_task) < 2:
            continue
        prompts: dict[str, list[int]] = {}
        for indices in by_task.values():
            digest = _prompts(rows[indices[0]].cells[benchmark])
            if digest is not None:
                prompts.setdefault(digest, []).extend(indices)
        for digest in sorted(prompts, key=lambda each: (-len(prompts[each]), each))[1:]:
            for index in prompts[digest]:
                cells = rows[index].cells
                cell = replace(cells[benchmark], prompts=digest)
                rows[index] = replace(rows[index], cells={**cells, benchmark: cell})
    templates = {template for _, template in places if template}
    if len(templates) < 2:
        return []
    return [f"{benchmark}: asked through {len(templates)} chat templates, the models' own"]


def _prompts(cell: Cell) -> str | None:
    try:
        return None if cell.source.samples is None else prompts_digest(cell.source.samples)
    except DataError:  # what was scored is known; its prompts are not
        return None


def _group(cell: Cell) -> _Group:
    scorer = cell.scorer
    documents = cell.item_set or f"{cell.n + cell.unscored} items without samples"
    return scorer["name"], scorer["version"], scorer["model"] or "", cell.metric, documents, cell.prompts


def _items(cell: Cell) -> int:
    return cell.n + cell.unscored

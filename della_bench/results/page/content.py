"""What the page's script works on: the table as plain JSON values."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import TypedDict

from della_bench.results.compare import AVERAGE
from della_bench.results.page.blocks import Packed
from della_bench.results.page.limits import FIRST_COLUMNS, WIDE
from della_bench.results.page.pairs import Pairs, compare_all, corrected_against, table_correction
from della_bench.results.settings import settings_text
from della_bench.results.table import Cell, Row, Table, scorer_label

__all__ = ["PageContent", "content", "script_text"]


class BenchmarkContent(TypedDict):
    """A column: its name, and the metric that most rows have it in."""

    name: str
    label: str


class CellContent(TypedDict):
    """A cell; `block` is the id of its packed items, or None with the `reason` why there are none.

    `kind` is a place in `kinds`. `set` tells over which items, by whom and as what the value was had: where two cells
    have the same one their values may be subtracted; None where they may not. `chosen` tells by how many of its items
    the model was chosen.
    """

    value: float | None
    interval: tuple[float, float] | None
    n: int
    unscored: int
    kind: int
    set: int | None
    date: str
    excluded: str | None
    chosen: int
    block: str | None
    reason: str | None


class KindContent(TypedDict):
    """What many cells share: the metric, who scored, and how was asked."""

    metric: str
    scorer: str
    settings: str


class VersusContent(TypedDict):
    """A row against the table's baseline in one measure, or the `reason` why not."""

    difference: float | None
    interval: tuple[float, float] | None
    p: float | None
    holm: float | None
    wins: int
    losses: int
    n: int
    test: str
    reason: str | None


class RowContent(TypedDict):
    """A row; `versus` by measure, for a row that is not among those compared pair by pair."""

    name: str
    method: str
    fingerprint: str
    average: float | None
    interval: tuple[float, float] | None
    reference: bool
    cells: dict[str, CellContent]
    versus: dict[str, VersusContent]


class MeasureContent(TypedDict):
    """One measure's comparisons: a value for each pair of rows i < j, in order.

    `reason` is a place in `reasons`, `test` one in `tests`. `holm` has a value for each row (down) and baseline
    (across).
    """

    difference: list[float | None]
    low: list[float | None]
    high: list[float | None]
    p: list[float | None]
    wins: list[int]
    losses: list[int]
    n: list[int]
    reason: list[int | None]
    reasons: list[str]
    holm: list[float | None]
    test: list[int | None]
    tests: list[str]


class PairedContent(TypedDict):
    """The rows (places among all rows) that are compared pair by pair, and the comparisons by measure."""

    rows: list[int]
    measures: dict[str, MeasureContent]


class PageContent(TypedDict):
    """All that the page's script knows, but for the packed items."""

    benchmarks: list[BenchmarkContent]
    averaged: list[str]
    baseline: int | None
    first: int
    kinds: list[KindContent]
    rows: list[RowContent]
    paired: PairedContent


def content(table: Table, packed: Packed, paired: Sequence[int]) -> PageContent:
    """Return the table with its `packed` items; the rows in the places `paired` are compared with one another.

    Of the others the page knows what the table knows: how they differ from its baseline. Values and differences are
    percent and points, p values stand beside the same corrected by Holm.
    """
    compared = [table.rows[place] for place in paired]
    base = next((index for index, row in enumerate(compared) if row.name == table.baseline), None)
    measures = compare_all(compared, table.benchmarks, table.averaged)
    shared = _Shared()
    return {
        "benchmarks": [{"name": name, "label": label} for name, label in zip(*_labels(table), strict=True)],
        "averaged": list(table.averaged),
        "baseline": None if base is None else paired[base],
        "first": FIRST_COLUMNS if len(table.benchmarks) > WIDE else len(table.benchmarks),
        "rows": [_row(index, row, packed, shared, index in paired) for index, row in enumerate(table.rows)],
        "kinds": shared.kinds,
        "paired": {"rows": list(paired), "measures": _measures(compared, base, measures, table.averaged)},
    }


def script_text(value: object) -> str:
    """Return JSON that no HTML parser mistakes for anything else, in ASCII."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _labels(table: Table) -> tuple[tuple[str, ...], list[str]]:
    labels = []
    for name in table.benchmarks:
        metrics = [row.cells[name].metric for row in table.rows if name in row.cells]
        labels.append(max(metrics, key=metrics.count) if metrics else "")
    return table.benchmarks, labels


class _Shared:
    """What cells have in common, numbered as it comes."""

    def __init__(self) -> None:
        self.kinds: list[KindContent] = []
        self._places: dict[tuple[str, str, str], int] = {}
        self._sets: dict[tuple[object, ...], int] = {}

    def kind(self, cell: Cell) -> int:
        """Return the place of a cell's kind."""
        found = cell.metric, scorer_label(cell.scorer), settings_text(cell.settings)
        if found not in self._places:
            self._places[found] = len(self.kinds)
            self.kinds.append({"metric": found[0], "scorer": found[1], "settings": found[2]})
        return self._places[found]

    def set(self, cell: Cell) -> int | None:
        """Return the number of what a cell is about, None where its value is no mean over items that are there."""
        if cell.excluded or cell.item_set is None or cell.unscored or not cell.is_mean:
            return None
        return self._sets.setdefault((cell.item_set, cell.prompts, self.kind(cell)), len(self._sets))


def _row(index: int, row: Row, packed: Packed, shared: _Shared, paired: bool) -> RowContent:
    return {
        "name": row.name,
        "method": row.method,
        "fingerprint": row.fingerprint[:16],
        "average": row.average,
        "interval": row.average_interval,
        "reference": row.reference,
        "cells": {name: _cell(index, cell, packed, shared) for name, cell in row.cells.items()},
        "versus": {} if paired else _versus(row),
    }


def _versus(row: Row) -> dict[str, VersusContent]:
    """Return by measure how a row differs from the table's baseline."""
    found = {AVERAGE: row.versus, **{name: cell.versus for name, cell in row.cells.items()}}
    return {
        name: {
            "difference": _rounded(each.difference),
            "interval": each.interval,
            "p": _significant(each.p),
            "holm": _significant(each.p_holm),
            "wins": each.wins,
            "losses": each.losses,
            "n": each.n,
            "test": each.test,
            "reason": each.reason,
        }
        for name, each in found.items()
        if each is not None
    }


def _cell(index: int, cell: Cell, packed: Packed, shared: _Shared) -> CellContent:
    place = index, cell.benchmark
    return {
        "value": cell.value,
        "interval": cell.interval,
        "n": cell.n,
        "unscored": cell.unscored,
        "kind": shared.kind(cell),
        "set": shared.set(cell),
        "date": date_text(cell.date),
        "excluded": cell.excluded,
        "chosen": cell.chosen_on,
        "block": packed.cells.get(place),
        "reason": packed.reasons.get(place),
    }


def date_text(date: float | None) -> str:
    """Return a time in seconds since 1970 as a day in UTC; empty for None."""
    return "" if date is None else datetime.fromtimestamp(date, tz=timezone.utc).strftime("%Y-%m-%d")


def _measures(
    rows: Sequence[Row], base: int | None, measures: Mapping[str, Pairs], averaged: Sequence[str]
) -> dict[str, MeasureContent]:
    """Return by measure columns over the pairs i < j in order, and Holm's p for each row (down) and baseline (across).

    Against the table's own baseline the correction is the table's.
    """
    n = len(rows)
    holms = [
        table_correction(rows) if column == base else corrected_against(measures, column, n, averaged)
        for column in range(n)
    ]
    out: dict[str, MeasureContent] = {}
    for name, pairs in measures.items():
        found = [pairs[i, j] for i in range(n) for j in range(i + 1, n)]
        reasons = sorted({each.reason for each in found if each.reason})
        tests = sorted({each.test for each in found if each.test})
        out[name] = {
            "difference": [_rounded(each.difference) for each in found],
            "low": [_rounded(each.interval[0]) if each.interval else None for each in found],
            "high": [_rounded(each.interval[1]) if each.interval else None for each in found],
            "p": [_significant(each.p) for each in found],
            "wins": [each.wins for each in found],
            "losses": [each.losses for each in found],
            "n": [each.n for each in found],
            "reason": [reasons.index(each.reason) if each.reason else None for each in found],
            "reasons": reasons,
            "holm": [_significant(holms[column].get((name, i))) for i in range(n) for column in range(n)],
            "test": [tests.index(each.test) if each.test else None for each in found],
            "tests": tests,
        }
    return out


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _significant(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")

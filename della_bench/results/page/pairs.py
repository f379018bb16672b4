"""Every row against every other, for the reader who chooses another baseline, and the corrections that go with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

from della_bench.results.compare import AVERAGE, compare_pairs
from della_bench.results.stats import holm
from della_bench.results.table import Comparison, Row

__all__ = ["Pairs", "compare_all", "corrected_against", "table_correction"]

Pairs = dict[tuple[int, int], Comparison]


def compare_all(rows: Sequence[Row], benchmarks: Sequence[str], averaged: Sequence[str]) -> dict[str, Pairs]:
    """Return by measure (a benchmark, or AVERAGE) the comparison of rows i and j for all i < j: i minus j."""
    places = list(combinations(range(len(rows)), 2))
    compared = compare_pairs([(rows[i].cells, rows[j].cells) for i, j in places], benchmarks, averaged)
    return {
        name: {place: each[name] for place, each in zip(places, compared, strict=True)}
        for name in (*benchmarks, AVERAGE)
    }


def corrected_against(
    measures: Mapping[str, Pairs], base: int, rows: int, averaged: Sequence[str]
) -> dict[tuple[str, int], float]:
    """Return Holm's p by (measure, row), over every comparison of the `rows` rows with the row `base`.

    averaged: as `corrected` takes it.
    """
    alone = averaged[0] if len(averaged) == 1 else None
    pairs = [
        ((name, i), found.get((min(i, base), max(i, base))))
        for name, found in measures.items()
        if alone is None or name != AVERAGE
        for i in range(rows)
    ]
    tested = [(place, comparison.p) for place, comparison in pairs if comparison and comparison.p is not None]
    corrected = {place: p for (place, _), p in zip(tested, holm([p for _, p in tested]), strict=True)}
    return corrected | {(AVERAGE, i): p for (name, i), p in corrected.items() if name == alone}


def table_correction(rows: Sequence[Row]) -> dict[tuple[str, int], float]:
    """Return Holm's p by (measure, row) as the table has it: over all of its rows, also those that no page holds."""
    versus = {(name, index): cell.versus for index, row in enumerate(rows) for name, cell in row.cells.items()}
    versus |= {(AVERAGE, index): row.versus for index, row in enumerate(rows)}
    return {place: each.p_holm for place, each in versus.items() if each is not None and each.p_holm is not None}

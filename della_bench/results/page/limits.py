"""How much of a large table a page holds: it is for reading, and a browser must open it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import isqrt

from della_bench.results.table import Row, Table

__all__ = ["Limits", "first_with_baseline", "shortened"]


@dataclass(frozen=True)
class Limits:
    """The most models that are shown, compared with one another pair by pair, and shown with their samples.

    1,000 rows open in seconds; 100 paired rows are 4,950 pairs a benchmark; 100 rows with 2,600 items are some 100 MB.
    `comparisons` is the most of all pairs in all benchmarks and the average: with more benchmarks fewer are paired.
    """

    rows: int = 1000
    paired: int = 100
    sampled: int = 100
    comparisons: int = 50_000

    def for_benchmarks(self, count: int) -> Limits:
        """Return the limits of a table with so many benchmarks."""
        pairs = self.comparisons // (count + 1)
        return replace(self, paired=min(self.paired, (1 + isqrt(1 + 8 * pairs)) // 2))  # the most n of n (n - 1) / 2


def first_with_baseline(table: Table, limit: int) -> list[int]:
    """Return the places of the first `limit` models, the baseline's instead of the last where it comes later."""
    places = [place for place, row in enumerate(table.rows) if not row.reference]
    base = [place for place in places[limit:] if table.rows[place].name == table.baseline]
    return [*places[: max(0, limit - len(base))], *base]


def shortened(table: Table, limits: Limits) -> Table:
    """Return the table with the rows that a page holds, and a note for each way in which it holds less than all."""
    count = sum(not row.reference for row in table.rows)
    kept = {*first_with_baseline(table, limits.rows)}
    rows: tuple[Row, ...] = tuple(row for place, row in enumerate(table.rows) if row.reference or place in kept)
    what = {
        "rows": "this page shows",
        "paired": "this page compares with one another",
        "sampled": "this page has the samples of",
    }
    notes = [
        f"{words} the first {getattr(limits, name)} of {count} models"
        for name, words in what.items()
        if count > getattr(limits, name)
    ]
    return replace(table, rows=rows, notes=(*table.notes, *notes))

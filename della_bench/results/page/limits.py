"""How much of a large table a page holds: it is for reading, and a browser must open it."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, replace
from itertools import accumulate
from math import isqrt

from della_bench.results.table import Row, Table

__all__ = ["FIRST_COLUMNS", "WIDE", "Limits", "first_with_baseline", "shortened"]

WIDE = 24  # benchmarks up to which a page shows all columns at once
FIRST_COLUMNS = 12  # those that it shows of more, until the reader chooses


@dataclass(frozen=True)
class Limits:
    """The most models that are shown, compared with one another pair by pair, and shown with their samples.

    1,000 rows open in seconds; 100 paired rows are 4,950 pairs a benchmark; 100 rows with 2,600 items are some 100 MB.
    `comparisons` is the most of all pairs in all benchmarks and the average, `items` the most of all samples: with more
    benchmarks, fewer are paired and fewer have their samples.
    """

    rows: int = 1000
    paired: int = 100
    sampled: int = 100
    comparisons: int = 50_000
    items: int = 300_000

    def for_table(self, table: Table) -> Limits:
        """Return the limits of a table with so many benchmarks and items."""
        pairs = self.comparisons // (len(table.benchmarks) + 1)
        paired = min(self.paired, (1 + isqrt(1 + 8 * pairs)) // 2)  # the most n of n (n - 1) / 2
        sizes = (sum(len(cell.keys or ()) for cell in row.cells.values()) for row in table.rows if not row.reference)
        sampled = bisect_right(list(accumulate(sizes)), self.items)
        return replace(self, paired=paired, sampled=min(self.sampled, max(1, sampled)))


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

"""Every row against every other: what `compare` does for one pair, for all pairs at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

from della_bench.results.compare import BOOTSTRAP, MCNEMAR, why_not
from della_bench.results.stats import RESAMPLES, holm
from della_bench.results.table import Cell, Comparison, Row

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Numbers = NDArray[np.float32]

__all__ = ["AVERAGE", "compare_all", "corrected_against", "reversed_"]

AVERAGE = ""  # the measure's key beside the benchmarks' names
_SEED = 20240617
_BLOCK = 256  # pairs at once: their resampled means take 10 MB a benchmark

Pair = tuple[int, int]
Pairs = dict[Pair, Comparison]


def compare_all(rows: Sequence[Row], benchmarks: Sequence[str], averaged: Sequence[str]) -> dict[str, Pairs]:
    """Return by measure (a benchmark, or AVERAGE) the comparison of rows i and j for all i < j: i minus j.

    Right and wrong are tested by McNemar's exact test and other values, and averages, by the paired bootstrap; the
    intervals are the bootstrap's. All pairs share the resampled items of a benchmark: a resample is how often each item
    was drawn (RESAMPLES, n), and the resampled means are one product with the differences (n, pairs).
    """
    out: dict[str, Pairs] = {name: {} for name in (*benchmarks, AVERAGE)}
    counts: dict[str, Numbers] = {}
    pairs = list(combinations(range(len(rows)), 2))
    for start in range(0, len(pairs), _BLOCK):
        block = pairs[start : start + _BLOCK]
        means: dict[str, dict[Pair, Numbers]] = {}
        for name in benchmarks:
            found, means[name] = _benchmark(name, rows, block, counts)
            out[name] |= found
        for i, j in block:
            out[AVERAGE][i, j] = _average(i, j, averaged, out, means)
    return out


def corrected_against(measures: Mapping[str, Pairs], base: int, rows: int) -> dict[tuple[str, int], float]:
    """Return Holm's p by (measure, row), over every comparison of the `rows` rows with the row `base`."""
    pairs = [
        ((name, i), found.get((min(i, base), max(i, base)))) for name, found in measures.items() for i in range(rows)
    ]
    tested = [(place, comparison.p) for place, comparison in pairs if comparison and comparison.p is not None]
    return {place: p for (place, _), p in zip(tested, holm([p for _, p in tested]), strict=True)}


def reversed_(comparison: Comparison) -> Comparison:
    """Return the comparison of the other row with this one."""
    ends = comparison.interval
    return replace(
        comparison,
        difference=None if comparison.difference is None else -comparison.difference,
        interval=None if ends is None else (-ends[1], -ends[0]),
        wins=comparison.losses,
        losses=comparison.wins,
    )


def _benchmark(
    name: str, rows: Sequence[Row], block: Sequence[Pair], counts: dict[str, Numbers]
) -> tuple[Pairs, dict[Pair, Numbers]]:
    """Return the comparisons of a block of pairs in one benchmark, and each pair's resampled means (RESAMPLES)."""
    found: Pairs = {}
    same: dict[str, list[tuple[Pair, Any]]] = {}  # pairs over the same items, with their differences (n)
    for i, j in block:
        ours, theirs = rows[i].cells.get(name), rows[j].cells.get(name)
        if reason := why_not(ours, theirs):
            found[i, j] = Comparison(reason=reason)
            continue
        difference = _difference(ours, theirs)
        if ours is None or difference is None or not (difference == difference).any():
            found[i, j] = Comparison(reason="no item is scored in both rows")
        else:
            same.setdefault(ours.item_set or "", []).append(((i, j), difference))
    means: dict[Pair, Numbers] = {}
    for item_set, members in same.items():
        drawn = _resampled(members, counts, item_set)
        for column, (pair, difference) in enumerate(members):
            means[pair] = drawn[:, column]
            both = [rows[index].cells[name] for index in pair]
            found[pair] = _comparison(difference, drawn[:, column], binary=all(map(_is_binary, both)))
    return found, means


def _difference(ours: Cell | None, theirs: Cell | None) -> Any:
    """Return the differences (n) of two cells over the same items, NaN where either is unscored."""
    if ours is None or theirs is None or ours.values is None or theirs.values is None:
        return None
    return ours.values - theirs.values


def _resampled(members: Sequence[tuple[Pair, Any]], counts: dict[str, Numbers], item_set: str) -> Numbers:
    """Return the resampled means (RESAMPLES, pairs) of the members' differences; unscored items count for nothing."""
    import numpy as np

    n = len(members[0][1])
    if item_set not in counts:
        # A stream of its own for each set of items, whatever else is in the table.
        generator = np.random.default_rng([_SEED, *item_set.encode()])
        counts[item_set] = generator.multinomial(n, np.full(n, 1 / n), size=RESAMPLES).astype(np.float32)
    differences = np.stack([difference for _, difference in members], axis=1)  # (n, pairs)
    scored = ~np.isnan(differences)
    sums = counts[item_set] @ np.nan_to_num(differences).astype(np.float32)
    if scored.all():
        return np.asarray(sums / np.float32(n))
    return np.asarray(sums / np.maximum(counts[item_set] @ scored.astype(np.float32), 1))


def _comparison(difference: Any, drawn: Numbers, *, binary: bool) -> Comparison:
    there = difference[difference == difference]
    wins, losses = int((there > 0).sum()), int((there < 0).sum())
    interval, p = _read(drawn) if wins + losses else ((0.0, 0.0), 1.0)
    if binary:
        p = _mcnemar(wins, losses)
    return Comparison(
        difference=100 * float(there.mean()),
        interval=interval,
        p=p,
        test=MCNEMAR if binary else BOOTSTRAP,
        n=len(there),
        wins=wins,
        losses=losses,
    )


def _mcnemar(wins: int, losses: int) -> float:
    """Return what `stats.mcnemar` does, by the symmetry of the binomial at one half; without an object for each."""
    from scipy.special import bdtr

    return min(1.0, 2 * float(bdtr(min(wins, losses), wins + losses, 0.5))) if wins + losses else 1.0


def _average(
    i: int, j: int, averaged: Sequence[str], found: Mapping[str, Pairs], means: Mapping[str, Mapping[Pair, Numbers]]
) -> Comparison:
    parts = [(name, found[name][i, j]) for name in averaged]
    if not parts:
        return Comparison(reason="the rows have no benchmark in common")
    if len(parts) == 1:
        return parts[0][1]
    for name, part in parts:
        if part.reason:
            return Comparison(reason=f"{name}: {part.reason}")
    wins, losses = sum(part.wins for _, part in parts), sum(part.losses for _, part in parts)
    drawn = sum(means[name][i, j] for name in averaged) / len(averaged)
    interval, p = _read(drawn) if wins + losses else ((0.0, 0.0), 1.0)
    return Comparison(
        difference=sum(part.difference or 0.0 for _, part in parts) / len(parts),
        interval=interval,
        p=p,
        test=BOOTSTRAP,
        n=sum(part.n for _, part in parts),
        wins=wins,
        losses=losses,
    )


def _read(drawn: Any) -> tuple[tuple[float, float], float]:
    """Return the percentile interval in points and the two-sided p of resampled means, as `paired_bootstrap` does."""
    import numpy as np

    low, high = np.percentile(drawn, [2.5, 97.5])
    tail = min(int((drawn <= 0).sum()), int((drawn >= 0).sum()))
    return (100 * float(low), 100 * float(high)), min(1.0, 2 * (tail + 1) / (RESAMPLES + 1))


def _is_binary(cell: Cell) -> bool:
    values = cell.values
    return values is not None and bool(((values == 0) | (values == 1) | (values != values)).all())


def known(rows: Sequence[Row], base: int, measures: Mapping[str, Pairs]) -> Iterator[tuple[str, int, Comparison]]:
    """Yield (measure, row, comparison) of what the table itself says of each row against its baseline."""
    for index, row in enumerate(rows):
        for name in measures:
            cell = row.cells.get(name)
            versus = row.versus if name == AVERAGE else cell.versus if cell else None
            if index != base and versus is not None:
                yield name, index, versus

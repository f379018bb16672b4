"""Two rows over the same items: by how much they differ, and whether chance alone would do that.

All that shows a comparison, terminal, file or page, has it from here, and so the same numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

from della_bench.results.bootstrap import BLOCK, Resampled, bootstrap
from della_bench.results.stats import holm, is_binary, mcnemar
from della_bench.results.table import Cell, Comparison, Row, scorer_label

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Values = NDArray[np.float64]

__all__ = [
    "AVERAGE",
    "BOOTSTRAP",
    "BOUNDED",
    "MCNEMAR",
    "compare_pairs",
    "corrected",
    "why_not",
]

AVERAGE = ""  # the average's key beside the benchmarks' names
# Comparison.test: how p was had.
MCNEMAR = "McNemar's exact test"
BOOTSTRAP = "paired bootstrap"
BOUNDED = "Hoeffding's bound"

Cells = Mapping[str, Cell]


def why_not(cell: Cell | None, other: Cell | None) -> str | None:
    """Return why two cells of one benchmark may not be compared, or None where they may."""
    if cell is None or other is None or cell.value is None or other.value is None:
        return "no value in both rows"
    if cell.scorer != other.scorer:
        return f"scored by {scorer_label(cell.scorer)}, the other by {scorer_label(other.scorer)}"
    if cell.metric != other.metric:
        return f"measured as {cell.metric}, the other as {other.metric}"
    if cell.keys is None or other.keys is None:
        return "no samples on disk in both rows (lm-eval writes them with log_samples)"
    if cell.item_set == other.item_set:
        if cell.prompts != other.prompts:
            return "asked with other prompts"
        return None if cell.is_mean and other.is_mean else f"{cell.metric} is no mean over its items"
    ours, theirs = dict(cell.keys), dict(other.keys)
    common = ours.keys() & theirs.keys()
    changed = sum(ours[doc_id] != theirs[doc_id] for doc_id in common)
    if changed:
        return f"{changed} of {len(common)} documents differ: another revision of the data set"
    return f"over {len(ours)} documents, the other over {len(theirs)}, {len(common)} of them the same"


@dataclass
class _Pair:
    """Two rows that are compared: what keeps them apart, or by how much they differ, by benchmark."""

    reasons: dict[str, str] = field(default_factory=dict)
    differences: dict[str, Values] = field(default_factory=dict)
    binary: set[str] = field(default_factory=set)


class _Counts(NamedTuple):
    """On how many of `n` items the one row is better, and the other."""

    n: int
    wins: int
    losses: int


def compare_pairs(
    pairs: Sequence[tuple[Cells, Cells]], benchmarks: Sequence[str], averaged: Sequence[str]
) -> list[dict[str, Comparison]]:
    """Compare the first row's cells of each pair with the second's: first minus second, by benchmark and AVERAGE.

    Items that either row lacks a value for are left out. Right and wrong are tested by McNemar's exact test, other
    values and averages by the paired bootstrap (its smallest p values by Hoeffding's bound), which gives all intervals.
    A comparison has a reason instead where the two may not be compared. The average over one benchmark is that
    benchmark, and so is its test.
    """
    blocks = (pairs[start : start + BLOCK] for start in range(0, len(pairs), BLOCK))
    return [each for block in blocks for each in _compared(block, benchmarks, averaged)]


def _compared(
    pairs: Sequence[tuple[Cells, Cells]], benchmarks: Sequence[str], averaged: Sequence[str]
) -> list[dict[str, Comparison]]:
    read = [_read(ours, theirs, benchmarks) for ours, theirs in pairs]
    counts = _wins_and_losses(read, benchmarks)
    right_and_wrong = _test_right_and_wrong(read, counts)
    several = averaged if len(averaged) > 1 else []
    found = bootstrap([pair.differences for pair in read], several)
    out = []
    for index, (pair, (resampled, average)) in enumerate(zip(read, found, strict=True)):
        comparisons = {name: Comparison(reason=reason) for name, reason in pair.reasons.items()}
        for name, each in resampled.items():
            comparisons[name] = _comparison(each, [counts[index, name]], right_and_wrong.get((index, name)))
        comparisons[AVERAGE] = _average(index, comparisons, averaged, average, counts)
        out.append(comparisons)
    return out


def _read(ours: Cells, theirs: Cells, benchmarks: Sequence[str]) -> _Pair:
    pair = _Pair()
    for name in benchmarks:
        cell, other = ours.get(name), theirs.get(name)
        if reason := why_not(cell, other):
            pair.reasons[name] = reason
        elif cell is not None and other is not None and cell.values is not None and other.values is not None:
            difference, binary = cell.values - other.values, cell.is_binary and other.is_binary
            both = difference == difference  # NaN, where either is unscored, equals nothing
            if not both.all():
                if not both.any():
                    pair.reasons[name] = "no item is scored in both rows"
                    continue
                difference, binary = difference[both], is_binary(cell.values[both]) and is_binary(other.values[both])
            pair.differences[name] = difference
            if binary:
                pair.binary.add(name)
    return pair


def _wins_and_losses(pairs: Sequence[_Pair], benchmarks: Sequence[str]) -> dict[tuple[int, str], _Counts]:
    """Return for each pair, by its place, and benchmark on how many of how many items its first row is the better."""
    import numpy as np

    found: dict[tuple[int, str], _Counts] = {}
    for name in benchmarks:
        by_length: dict[int, list[int]] = {}
        for index, pair in enumerate(pairs):
            if name in pair.differences:
                by_length.setdefault(len(pair.differences[name]), []).append(index)
        for n, members in by_length.items():
            differences = np.stack([pairs[index].differences[name] for index in members])
            wins, losses = (differences > 0).sum(axis=1), (differences < 0).sum(axis=1)
            for index, won, lost in zip(members, wins.tolist(), losses.tolist(), strict=True):
                found[index, name] = _Counts(n, won, lost)
    return found


def _test_right_and_wrong(
    pairs: Sequence[_Pair], counts: Mapping[tuple[int, str], _Counts]
) -> dict[tuple[int, str], tuple[float, float]]:
    """Return (p, mid-p) of McNemar's test for what is right or wrong, all in one call of scipy's."""
    import numpy as np

    places = [(index, name) for index, pair in enumerate(pairs) for name in pair.binary]
    wins = np.array([counts[place].wins for place in places], dtype=np.int64)
    losses = np.array([counts[place].losses for place in places], dtype=np.int64)
    tested = zip(*(each.tolist() for each in mcnemar(wins, losses)), strict=True) if places else iter(())
    return dict(zip(places, tested, strict=True))


def _comparison(
    resampled: Resampled, counts: Sequence[_Counts], right_and_wrong: tuple[float, float] | None = None
) -> Comparison:
    p, p_mid, test = resampled.p, None, BOUNDED if resampled.bounded else BOOTSTRAP
    if right_and_wrong is not None:
        (p, p_mid), test = right_and_wrong, MCNEMAR
    return Comparison(
        difference=100 * resampled.mean,
        interval=(100 * resampled.low, 100 * resampled.high),
        p=p,
        p_mid=p_mid,
        test=test,
        n=sum(each.n for each in counts),
        wins=sum(each.wins for each in counts),
        losses=sum(each.losses for each in counts),
    )


def _average(
    index: int,
    comparisons: Mapping[str, Comparison],
    averaged: Sequence[str],
    resampled: Resampled | None,
    counts: Mapping[tuple[int, str], _Counts],
) -> Comparison:
    """Return the comparison of the averages of one pair; the average over one benchmark is that benchmark."""
    if not averaged:
        return Comparison(reason="the rows have no benchmark in common")
    if len(averaged) == 1:
        return comparisons[averaged[0]]
    for name in averaged:
        if reason := comparisons[name].reason:
            return Comparison(reason=f"{name}: {reason}")
    assert resampled is not None  # all of the averaged are compared
    return _comparison(resampled, [counts[index, name] for name in averaged])


def corrected(rows: Sequence[Row], averaged: Sequence[str]) -> list[Row]:
    """Return the rows with `p_holm` set: Holm's correction over every comparison with the baseline in them.

    averaged: the benchmarks that averages are over; the comparison of an average over one is that one's, and no other.
    """
    more = (None,) if len(averaged) != 1 else ()
    places = [(index, name) for index, row in enumerate(rows) for name in (*row.cells, *more)]
    tested = [
        (place, comparison) for place in places if (comparison := _versus(rows, *place)) and comparison.p is not None
    ]
    p_values = holm([comparison.p for _, comparison in tested if comparison.p is not None])
    found = {place: replace(versus, p_holm=p) for (place, versus), p in zip(tested, p_values, strict=True)}
    if len(averaged) == 1:
        found |= {(index, None): each for (index, name), each in found.items() if name == averaged[0]}
    out = []
    for index, row in enumerate(rows):
        cells = {name: replace(cell, versus=found.get((index, name), cell.versus)) for name, cell in row.cells.items()}
        out.append(replace(row, cells=cells, versus=found.get((index, None), row.versus)))
    return out


def _versus(rows: Sequence[Row], index: int, benchmark: str | None) -> Comparison | None:
    return rows[index].versus if benchmark is None else rows[index].cells[benchmark].versus

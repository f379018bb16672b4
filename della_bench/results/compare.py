"""Two rows over the same items: by how much they differ, and whether chance alone would do that.

All that shows a comparison, terminal, file or page, has it from here, and so the same numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

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
    "is_mean",
    "scored_values",
    "why_not",
]

AVERAGE = ""  # the average's key beside the benchmarks' names
# Comparison.test: how p was had.
MCNEMAR = "McNemar's exact test"
BOOTSTRAP = "paired bootstrap"
BOUNDED = "Hoeffding's bound"
_SAME = 1e-6  # percent

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
        return None if is_mean(cell) and is_mean(other) else f"{cell.metric} is no mean over its items"
    ours, theirs = dict(cell.keys), dict(other.keys)
    common = ours.keys() & theirs.keys()
    changed = sum(ours[doc_id] != theirs[doc_id] for doc_id in common)
    if changed:
        return f"{changed} of {len(common)} documents differ: another revision of the data set"
    return f"over {len(ours)} documents, the other over {len(theirs)}, {len(common)} of them the same"


def is_mean(cell: Cell) -> bool:
    """Return whether a cell's value is the mean of its items' values; a length-controlled win rate is not."""
    if cell.values is None or cell.value is None:
        return False
    scored = scored_values(cell.values)
    return bool(len(scored)) and abs(100 * float(scored.mean()) - cell.value) < _SAME


def scored_values(values: Values) -> Values:
    """Return the values that are there: an unscored item's is NaN, which equals nothing."""
    scored: Values = values[values == values]
    return scored


@dataclass
class _Pair:
    """Two rows that are compared: what keeps them apart, or by how much they differ, by benchmark."""

    reasons: dict[str, str] = field(default_factory=dict)
    differences: dict[str, Values] = field(default_factory=dict)
    binary: set[str] = field(default_factory=set)


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
    several = averaged if len(averaged) > 1 else []
    found = bootstrap([pair.differences for pair in read], several)
    out = []
    for pair, (resampled, average) in zip(read, found, strict=True):
        comparisons = {name: Comparison(reason=reason) for name, reason in pair.reasons.items()}
        comparisons |= {name: _comparison([pair.differences[name]], each) for name, each in resampled.items()}
        comparisons[AVERAGE] = _average(pair, comparisons, averaged, average)
        out.append(comparisons)
    _test_right_and_wrong(out, read)
    return [
        {**comparisons, AVERAGE: comparisons[averaged[0]]} if len(averaged) == 1 else comparisons for comparisons in out
    ]


def _read(ours: Cells, theirs: Cells, benchmarks: Sequence[str]) -> _Pair:
    pair = _Pair()
    for name in benchmarks:
        cell, other = ours.get(name), theirs.get(name)
        if reason := why_not(cell, other):
            pair.reasons[name] = reason
        elif cell is not None and other is not None and cell.values is not None and other.values is not None:
            difference = cell.values - other.values
            both = difference == difference  # NaN, where either is unscored, equals nothing
            if not both.any():
                pair.reasons[name] = "no item is scored in both rows"
                continue
            pair.differences[name] = difference[both]
            if is_binary(cell.values[both]) and is_binary(other.values[both]):
                pair.binary.add(name)
    return pair


def _comparison(differences: Sequence[Values], resampled: Resampled) -> Comparison:
    return Comparison(
        difference=100 * sum(float(each.mean()) for each in differences) / len(differences),
        interval=(100 * resampled.low, 100 * resampled.high),
        p=resampled.p,
        test=BOUNDED if resampled.bounded else BOOTSTRAP,
        n=sum(map(len, differences)),
        wins=sum(int((each > 0).sum()) for each in differences),
        losses=sum(int((each < 0).sum()) for each in differences),
    )


def _average(
    pair: _Pair, comparisons: Mapping[str, Comparison], averaged: Sequence[str], resampled: Resampled | None
) -> Comparison:
    if not averaged:
        return Comparison(reason="the rows have no benchmark in common")
    for name in averaged:
        if reason := comparisons[name].reason:
            return Comparison(reason=f"{name}: {reason}")
    if resampled is None:
        return comparisons[averaged[0]]
    return _comparison([pair.differences[name] for name in averaged], resampled)


def _test_right_and_wrong(out: Sequence[dict[str, Comparison]], pairs: Sequence[_Pair]) -> None:
    """Give the comparisons of right and wrong the p values of McNemar's test, all in one call of scipy's."""
    import numpy as np

    places = [(comparisons, name) for comparisons, pair in zip(out, pairs, strict=True) for name in pair.binary]
    if not places:
        return
    wins = np.array([comparisons[name].wins for comparisons, name in places])
    losses = np.array([comparisons[name].losses for comparisons, name in places])
    for (comparisons, name), p, mid in zip(places, *map(np.ndarray.tolist, mcnemar(wins, losses)), strict=True):
        comparisons[name] = replace(comparisons[name], p=p, p_mid=mid, test=MCNEMAR)


def corrected(rows: Sequence[Row]) -> list[Row]:
    """Return the rows with `p_holm` set: Holm's correction over every comparison with the baseline in them."""
    places = [(index, name) for index, row in enumerate(rows) for name in (*row.cells, None)]
    tested = [
        (place, comparison) for place in places if (comparison := _versus(rows, *place)) and comparison.p is not None
    ]
    p_values = holm([comparison.p for _, comparison in tested if comparison.p is not None])
    found = {place: replace(versus, p_holm=p) for (place, versus), p in zip(tested, p_values, strict=True)}
    out = []
    for index, row in enumerate(rows):
        cells = {name: replace(cell, versus=found.get((index, name), cell.versus)) for name, cell in row.cells.items()}
        out.append(replace(row, cells=cells, versus=found.get((index, None), row.versus)))
    return out


def _versus(rows: Sequence[Row], index: int, benchmark: str | None) -> Comparison | None:
    return rows[index].versus if benchmark is None else rows[index].cells[benchmark].versus

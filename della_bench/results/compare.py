"""Two rows over the same items: by how much they differ, and whether chance alone would do that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from della_bench.results.table import Cell, Comparison, Row, scorer_label

__all__ = ["compare_averages", "compare_cells", "corrected", "is_mean", "why_not"]

MCNEMAR = "exact McNemar"
BOOTSTRAP = "paired bootstrap"
_SAME = 1e-6  # percent


def why_not(cell: Cell | None, other: Cell | None) -> str | None:
    """Return why two cells of one benchmark may not be compared, or None where they may."""
    if cell is None or other is None or cell.value is None or other.value is None:
        return "no value in both rows"
    if cell.scorer != other.scorer:
        return f"scored by {scorer_label(cell.scorer)}, the other by {scorer_label(other.scorer)}"
    if cell.metric != other.metric:
        return f"measured as {cell.metric}, the other as {other.metric}"
    if cell.keys is None or other.keys is None:
        return "no samples on disk in both rows (evaluate with --log_samples)"
    if cell.item_set == other.item_set:
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
    scored = cell.values[cell.values == cell.values]  # NaN, an unscored item, equals nothing
    return bool(len(scored)) and abs(100 * float(scored.mean()) - cell.value) < _SAME


def compare_cells(cell: Cell, other: Cell, *, interval: bool = True) -> Comparison:
    """Compare two cells of one benchmark item by item: `cell` minus `other`, or the reason why not.

    Items that either row lacks a value for are left out. Right and wrong are tested by McNemar's exact test, other
    values by the paired bootstrap. Without `interval` only the test is run, much quicker for right and wrong.
    """
    if reason := why_not(cell, other):
        return Comparison(reason=reason)
    pair = _paired_values(cell, other)
    if pair is None:
        return Comparison(reason="no item is scored in both rows")
    from della_bench.results.stats import RESAMPLES, RESAMPLES_OF_INTERVAL, mcnemar, paired_bootstrap

    ours, theirs = pair
    binary = bool((((ours == 0) | (ours == 1)) & ((theirs == 0) | (theirs == 1))).all())
    test = mcnemar(ours, theirs)
    ends, p, p_mid = None, test.p, test.p_mid
    if interval or not binary:
        ends, resampled_p = paired_bootstrap([ours - theirs], resamples=RESAMPLES_OF_INTERVAL if binary else RESAMPLES)
        if not binary:
            p, p_mid = resampled_p, None
    return Comparison(
        difference=100 * float((ours - theirs).mean()),
        interval=_percent(ends) if ends and interval else None,
        p=p,
        p_mid=p_mid,
        test=MCNEMAR if binary else BOOTSTRAP,
        n=len(ours),
        wins=test.wins,
        losses=test.losses,
    )


def compare_averages(cells: Mapping[str, Cell], others: Mapping[str, Cell], benchmarks: Sequence[str]) -> Comparison:
    """Compare the averages over `benchmarks` by the paired bootstrap, items resampled within each benchmark.

    The average over one benchmark is that benchmark, and so is its test.
    """
    if not benchmarks:
        return Comparison(reason="the rows have no benchmark in common")
    if len(benchmarks) == 1 and (ours := cells.get(benchmarks[0])) and (theirs := others.get(benchmarks[0])):
        return compare_cells(ours, theirs)
    differences = []
    for benchmark in benchmarks:
        own, other = cells.get(benchmark), others.get(benchmark)
        reason = why_not(own, other)
        pair = None if reason or own is None or other is None else _paired_values(own, other)
        if pair is None:
            return Comparison(reason=f"{benchmark}: {reason or 'no item is scored in both rows'}")
        differences.append(pair[0] - pair[1])
    from della_bench.results.stats import paired_bootstrap

    interval, p = paired_bootstrap(differences)
    return Comparison(
        difference=100 * sum(float(each.mean()) for each in differences) / len(differences),
        interval=_percent(interval),
        p=p,
        test=BOOTSTRAP,
        n=sum(map(len, differences)),
        wins=sum(int((each > 0).sum()) for each in differences),
        losses=sum(int((each < 0).sum()) for each in differences),
    )


def corrected(rows: Sequence[Row]) -> list[Row]:
    """Return the rows with `p_holm` set: Holm's correction over every comparison with the baseline in them."""
    from della_bench.results.stats import holm

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


def _paired_values(cell: Cell, other: Cell) -> tuple[Any, Any] | None:
    """Return the values (n) of both cells over the items that both have scored; None where there are none."""
    if cell.values is None or other.values is None:
        return None
    both = (cell.values == cell.values) & (other.values == other.values)  # NaN, an unscored item, equals nothing
    return (cell.values[both], other.values[both]) if both.any() else None


def _percent(interval: tuple[float, float]) -> tuple[float, float]:
    return 100 * interval[0], 100 * interval[1]

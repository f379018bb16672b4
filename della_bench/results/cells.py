"""From a number on disk to a cell: its value and interval, and its items' values."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from della_bench.errors import DataError
from della_bench.jsonfiles import USERS_FILE
from della_bench.results.evaluation import ReportedNumber
from della_bench.results.logged import group_rows, logged_values, score_of_items, score_of_values
from della_bench.results.schema import SCHEMA, Item, Score, read_items
from della_bench.results.table import Cell

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Values = NDArray[np.float64]

__all__ = ["cell_score", "make_cell"]

_ROUNDING = 1e-4  # points: as far as sums of thousands of items in another order may be apart


def make_cell(number: ReportedNumber) -> Cell:
    """Return the cell of a number, with its items' keys and values where they are on disk.

    Raises DataError where its files cannot be read or contradict one another.
    """
    source, score, items = number.source, number.score, None
    keys, values = None, None
    if score is None and source.parts:
        items = [each.item for each in group_rows(source, number.metric)]
        score = _of_group(number, items)
    elif score is None and source.samples is not None:
        keys, found = logged_values(source.samples, number.metric, source.filter or "none")
        score, values = score_of_values(number.benchmark, number.metric, number.scorer, found), _array(found)
        # lm-eval counts those that most metrics have, where not all documents have all.
        scored = sum(value is not None for value in found)
        if number.n and not scored <= number.n <= len(keys):
            counts = f"samples of {len(keys)} documents, and lm-eval scored {number.n}"
            raise DataError(f"{source.samples}: {counts}: torn, or edited", exit_code=USERS_FILE)
    elif score is not None and source.items is not None:
        items = _items_of(source.items, score)
    if score is None:
        score = _unlogged(number)
    if items:
        keys = tuple((item["doc_id"], item["doc_hash"]) for item in items)
        values = _array([item["value"] for item in items])
    interval = score["interval"]
    return Cell(
        benchmark=number.benchmark,
        metric=number.metric,
        value=score["value"],
        interval=None if interval is None else (interval[0], interval[1]),
        n=score["n"],
        unscored=score["unscored"],
        scorer=number.scorer,
        source=number.source,
        standard_error=_standard_error(number, values),
        task=number.task,
        date=number.date,
        detail=score["detail"],
        keys=keys,
        values=values,
        item_set=hashlib.sha256(json.dumps(keys).encode()).hexdigest() if keys else None,
        settings=number.settings,
    )


def cell_score(cell: Cell) -> Score:
    """Return the number of a cell as a score."""
    return Score(
        schema=SCHEMA,
        benchmark=cell.benchmark,
        metric=cell.metric,
        value=cell.value,
        interval=None if cell.interval is None else list(cell.interval),
        n=cell.n,
        unscored=cell.unscored,
        scorer=cell.scorer,
        detail={"task": cell.task, "filter": cell.source.filter},
    )


def _of_group(number: ReportedNumber, items: list[Item]) -> Score:
    """Return a group's score: lm-eval's own, which may weigh its tasks alike whatever their sizes."""
    score = score_of_items(number.benchmark, number.metric, number.scorer, items)
    logged = _unlogged(number)
    if score["value"] is None or logged["value"] is None or abs(score["value"] - logged["value"]) < _ROUNDING:
        return score
    return {**score, "value": logged["value"], "interval": logged["interval"]}


def _items_of(path: Path, score: Score) -> list[Item]:
    """Return the last row of each item, by document, checked against the score's counts.

    An unscored item that a scorer tried again has several rows: the last one counts.
    """
    last = {(item["doc_id"], item["filter"]): item for item in read_items(path)}
    items = [last[key] for key in sorted(last)]
    scored = sum(item["value"] is not None for item in items)
    if (scored, len(items) - scored) != (score["n"], score["unscored"]):
        message = (
            f"{path}: {scored} scored and {len(items) - scored} unscored items, but its score counts {score['n']} and "
            f"{score['unscored']}: half written, or the score of other items"
        )
        raise DataError(message, exit_code=USERS_FILE)
    if len({item["doc_id"] for item in items}) != len(items):
        raise DataError(f"{path}: documents stand under several filters", exit_code=USERS_FILE)
    return items


def _array(values: Sequence[float | None]) -> Values:
    """Return the values (n): NaN where one is unscored."""
    import numpy as np

    return np.array([np.nan if value is None else value for value in values], dtype=float)


def _unlogged(number: ReportedNumber) -> Score:
    """Return the score of lm-eval's summary alone, with a normal interval: no samples were logged."""
    from scipy.stats import norm

    value, error = number.logged or (None, None)
    if value is not None and not 0 <= value <= 1:
        message = f"{number.source.folder}: {number.task}: {number.metric} is {value}, not a share from 0 to 1"
        raise DataError(message, exit_code=USERS_FILE)
    interval = None
    if value is not None and error:
        low, high = norm.interval(0.95, loc=value, scale=error)
        interval = [100 * max(0.0, float(low)), 100 * min(1.0, float(high))]
    return Score(
        schema=SCHEMA,
        benchmark=number.benchmark,
        metric=number.metric,
        value=None if value is None else 100 * value,
        interval=interval,
        n=0 if value is None else number.n,
        unscored=number.n if value is None else 0,
        scorer=number.scorer,
        detail={},
    )


def _standard_error(number: ReportedNumber, values: Values | None) -> float | None:
    from della_bench.results.stats import standard_error

    if values is not None:
        error = standard_error(values[values == values])
        return None if error is None else 100 * error
    logged = number.logged[1] if number.logged else None
    return None if logged is None else 100 * logged

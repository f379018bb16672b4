"""Scores from the metrics that lm-eval logged itself: no scorer but the task's own.

A task may read one response in several ways (filters) and then has one score for each: the scorer is called `lm_eval`,
or `lm_eval-<filter>`, and its version is the task's, which lm-eval raises when numbers change. A task's number is its
first metric. An item without a finite value is unscored.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, cast

from della_bench.benchmarks import benchmark_of
from della_bench.errors import DataError
from della_bench.jsonfiles import USERS_FILE, RowLog, read_rows
from della_bench.results.likelihood import choices_of, inverse_perplexity, is_inverse, most_likely, share_of
from della_bench.results.places import place_score
from della_bench.results.schema import SCHEMA, Item, Score, Scorer, items_path, score_path, write_score
from della_bench.results.table import CellSource

__all__ = [
    "Logged",
    "group_rows",
    "logged_items",
    "logged_metric",
    "logged_rows",
    "logged_scorer",
    "logged_values",
    "score_logged",
    "score_of_items",
    "score_of_values",
]


def logged_scorer(filter_name: str, version: str) -> Scorer:
    """Return who made the numbers of one filter; `version` is the task's."""
    plain = re.sub(r"[^\w.-]", "_", filter_name)
    return Scorer(name="lm_eval" if plain in ("", "none") else f"lm_eval-{plain}", version=version, model=None)


def logged_metric(result: Mapping[str, object], better: Mapping[str, object] | None = None) -> dict[str, str]:
    """Return the first metric of each filter in one task's part of lm-eval's results, whose keys are metric,filter.

    better: lm-eval's `higher_is_better` of the task, by metric; one that is not to be high (a length) is no share of
    right answers, and left out. Where a filter has perplexities alone, its number is the inverse of one; where lm-eval
    does not know of any metric whether it is to be high, it is the first one.
    """
    found: dict[str, str] = {}
    unknown: dict[str, str] = {}
    low: dict[str, dict[str, None]] = {}
    for key in result:
        metric, comma, name = key.partition(",")
        if not comma or metric.endswith("_stderr") or metric == "bypass":  # what lm-eval puts in place of a number
            continue
        is_high = (better or {}).get(metric, True)
        if is_high:
            found.setdefault(name, metric)
            continue
        low.setdefault(name, {})[metric] = None
        if is_high is None:
            unknown.setdefault(name, metric)
    inverse = {name: number for name, metrics in low.items() if (number := inverse_perplexity(metrics)) is not None}
    return {**unknown, **inverse, **found}


class Logged(NamedTuple):
    """One document under one metric: the item, the row that lm-eval logged, and `choices_of` that row."""

    item: Item
    row: Mapping[str, object]
    choices: Sequence[tuple[str, float]]


def logged_rows(path: Path, metric: str, filter_name: str) -> dict[int, Logged]:
    """Return what lm-eval logged of one metric under one filter by doc_id, in its order.

    Raises DataError where a row is no sample, a value is no number, or a document stands twice.
    """
    found: dict[int, Logged] = {}
    for line, row in read_rows(path):
        if str(row.get("filter", "none")) != filter_name:
            continue
        choices = choices_of(row)
        item = _item(f"{path}, line {line}", row, metric, filter_name, choices)
        if item["doc_id"] in found:
            message = f"{path}, line {line}: doc_id {item['doc_id']}, filter {filter_name!r} stands there twice"
            raise DataError(message, exit_code=USERS_FILE)
        found[item["doc_id"]] = Logged(item, row, choices)
    if not found:
        raise DataError(f"{path}: no samples of filter {filter_name!r}", exit_code=USERS_FILE)
    return {doc_id: found[doc_id] for doc_id in sorted(found)}


def logged_items(path: Path, metric: str, filter_name: str) -> list[Item]:
    """Return the items of `logged_rows`. Raises DataError as it does."""
    return [each.item for each in logged_rows(path, metric, filter_name).values()]


def logged_values(path: Path, metric: str, filter_name: str) -> tuple[tuple[tuple[int, str], ...], list[float | None]]:
    """Return (doc_id, doc_hash) and value of what `logged_items` returns, without what only a reader of it needs.

    A table of hundreds of tasks has millions of items. Raises DataError as `logged_items` does.
    """
    found: dict[int, tuple[str, float | None]] = {}
    for _, row in read_rows(path):
        if row.get("filter", "none") != filter_name:
            continue
        doc_id, value = row.get("doc_id"), share_of(row, metric)
        number = float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
        share = value is None or (number is not None and 0 <= number <= 1)
        if type(doc_id) is not int or doc_id in found or not share:
            break
        found[doc_id] = str(row.get("doc_hash", "")), number
    else:
        if found:
            order = sorted(found)
            return tuple((doc_id, found[doc_id][0]) for doc_id in order), [found[doc_id][1] for doc_id in order]
    items = logged_items(path, metric, filter_name)  # something is unusual: it reads that, or says what
    return tuple((item["doc_id"], item["doc_hash"]) for item in items), [item["value"] for item in items]


def group_rows(source: CellSource, metric: str) -> Iterator[Logged]:
    """Yield what lm-eval logged of the tasks of a group, one after the other: numbered through, hashes by task.

    Raises DataError as `logged_rows` does.
    """
    start = 0
    for task, path in source.parts:
        rows = logged_rows(path, metric, source.filter or "none")
        for doc_id, each in rows.items():
            numbered = {"doc_id": start + doc_id, "doc_hash": f"{task} {each.item['doc_hash']}"}
            yield each._replace(item=cast(Item, {**each.item, **numbered}))
        start += max(rows) + 1


def score_of_values(benchmark: str, metric: str, scorer: Scorer, values: Sequence[float | None]) -> Score:
    """Return the score of items whose values are shares from 0 to 1, None where unscored: their mean in percent."""
    import numpy as np

    from della_bench.results.stats import mean_interval

    scored = np.array([value for value in values if value is not None], dtype=float)
    interval = mean_interval(scored)
    return Score(
        schema=SCHEMA,
        benchmark=benchmark,
        metric=metric,
        value=100 * float(scored.mean()) if len(scored) else None,
        interval=None if interval is None else [max(0.0, 100 * interval[0]), min(100.0, 100 * interval[1])],
        n=len(scored),
        unscored=len(values) - len(scored),
        scorer=scorer,
        detail={},
    )


def score_of_items(benchmark: str, metric: str, scorer: Scorer, items: Iterable[Item]) -> Score:
    """Return the score of items, as `score_of_values` does."""
    return score_of_values(benchmark, metric, scorer, [item["value"] for item in items])


def score_logged(
    samples: Path,
    out: Path,
    task: str,
    result: Mapping[str, object],
    version: str,
    better: Mapping[str, object] | None = None,
    *,
    model: str | None = None,
) -> list[Score]:
    """Write the scores of one task, and the items behind them, below `out`; return the scores, one a filter.

    `result` is the task's part of lm-eval's results, `version` the task's, `better` as for `logged_metric`, `model` as
    for `place_score`.
    """
    scores = []
    for filter_name, metric in logged_metric(result, better).items():
        items = logged_items(samples, metric, filter_name)
        score = score_of_items(benchmark_of(task), metric, logged_scorer(filter_name, version), items)
        name = place_score(out, score["benchmark"], score["scorer"]["name"], samples, model=model)
        score["detail"] = {"task": task, "filter": filter_name, "samples": samples.name, "place": name}
        # An older score goes first: killed in between, there is no score, and none that belongs to other items.
        score_path(out, score["benchmark"], name).unlink(missing_ok=True)
        with RowLog(items_path(out, score["benchmark"], name), fresh=True) as log:
            for item in items:
                log.append(item)
        write_score(out, score, name)
        scores.append(score)
    if not scores:
        raise DataError(f"{samples}: lm-eval logged no metric for {task}: it needs a scorer", exit_code=USERS_FILE)
    return scores


def _item(
    place: str, row: Mapping[str, object], metric: str, filter_name: str, choices: Sequence[tuple[str, float]]
) -> Item:
    doc_id, value = row.get("doc_id"), share_of(row, metric)
    if not isinstance(doc_id, int) or isinstance(doc_id, bool):
        raise DataError(f"{place}: no sample of lm-eval: doc_id is missing", exit_code=USERS_FILE)
    if value is not None and not isinstance(value, (int, float)):
        message = f"{place}: doc_id {doc_id}: {metric} must be a number, got {type(value).__name__}"
        raise DataError(message, exit_code=USERS_FILE)
    number = None if value is None or not math.isfinite(value) else float(value)
    if number is not None and not 0 <= number <= 1:
        message = f"{place}: doc_id {doc_id}: {metric} is {number}, not a share from 0 to 1"
        raise DataError(message, exit_code=USERS_FILE)
    filtered = row.get("filtered_resps")
    answer = filtered[0] if isinstance(filtered, list) and len(filtered) == 1 else filtered
    if (choice := most_likely(choices, metric)) is not None:
        answer = choice
    return Item(
        schema=SCHEMA,
        doc_id=doc_id,
        doc_hash=str(row.get("doc_hash", "")),
        filter=filter_name,
        value=number,
        verdict=_verdict(number, is_inverse(metric)),
        answer=answer if isinstance(answer, str) else "" if answer is None else str(answer),
        explanation="",
    )


def _verdict(value: float | None, likelihood: bool) -> str:
    if value is None:
        return "unscored"
    if likelihood:
        return "likelihood"
    return {0.0: "wrong", 1.0: "right"}.get(value, "partly right")

"""A task that is asked block by block has the results that lm-eval gives for all its samples at once."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
from lm_eval.api.metrics import mean, perplexity, weighted_perplexity
from lm_eval.evaluator_utils import _compute_task_aggregations

from della_bench.search.run_files import _pooled

AGGREGATIONS = {"acc": mean, "perplexity": perplexity, "word_perplexity": weighted_perplexity}
ROWS: list[dict[str, Any]] = [
    {"acc": place % 3 == 0, "perplexity": -0.5 * place, "word_perplexity": [-3.0 * place, 1 + place]}
    for place in range(8)
]


def header(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what lm-eval gives for a block."""
    raw = {(name, "none"): [row[name] for row in rows] for name in AGGREGATIONS}
    numbers, count = _compute_task_aggregations(task(), raw, bootstrap_iters=0)
    return {"config": {}, "results": {"a": {**numbers, "sample_len": count}}, "n-samples": {"a": {"effective": count}}}


def task() -> Any:
    return SimpleNamespace(aggregation=lambda: AGGREGATIONS, task_name="a")


def test_each_number_is_aggregated_in_its_own_way():
    samples = [{**row, "filter": "none", "doc_id": place} for place, row in enumerate(ROWS)]
    found = _pooled(header(ROWS[:5]), "a", task(), samples)
    whole = header(ROWS)["results"]["a"]
    numbers = {key: value for key, value in found["results"]["a"].items() if "_stderr" not in key}
    assert numbers == pytest.approx({key: value for key, value in whole.items() if "_stderr" not in key})
    assert found["n-samples"]["a"]["effective"] == len(ROWS)
    values = [float(bool(row["acc"])) for row in ROWS]
    spread = sum((value - sum(values) / 8) ** 2 for value in values)
    assert found["results"]["a"]["acc_stderr,none"] == pytest.approx(math.sqrt(spread / 7 / 8))


def test_a_number_that_the_samples_do_not_tell_is_left_out_rather_than_one_blocks():
    samples = [{"acc": 1.0, "perplexity": "NaN", "filter": "none", "doc_id": place} for place in range(3)]
    found = _pooled(header(ROWS[:5]), "a", task(), samples)
    assert found["results"]["a"] == {"acc,none": 1.0, "acc_stderr,none": 0.0, "sample_len": 3}

"""The scorers and the plan's prices on the real data sets, whose rows the judges and the sandbox need."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from della_bench.benchmarks import BENCHMARKS
from della_bench.data import load
from della_bench.results.schema import items_path, read_items
from della_bench.run.evaluated import Evaluated
from della_bench.run.options import Options
from della_bench.run.scorers import expected_cost, scorers_of
from della_bench.run.settings import EvalSettings

pytestmark = pytest.mark.real_data

OPTIONS = Options(Path("nowhere"), ("gsm8k",), settings=EvalSettings(limit=3))


def last_scorer(name):
    return scorers_of(BENCHMARKS[name])[-1]


def evaluated(folder: Path, name: str, replies: list[str]) -> Evaluated:
    task = BENCHMARKS[name].task
    rows = [
        {
            "doc_id": position,
            "doc": dict(row),
            "target": row.get("answer", ""),
            "resps": [[reply]],
            "filtered_resps": [reply],
            "filter": "none",
            "doc_hash": str(position),
        }
        for position, (row, reply) in enumerate(zip(load(name), replies, strict=False))
    ]
    (folder / f"samples_{task}_1.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Evaluated(folder / "results_1.json", task, {"results": {task: {}}})


def test_gsm8k_is_judged_without_a_model_by_default(tmp_path):
    found = evaluated(tmp_path, "gsm8k", [row["answer"] for row in list(load("gsm8k"))[:2]] + ["The answer is: -1"])
    (scored,) = last_scorer("gsm8k").score(found, tmp_path, OPTIONS)
    assert (scored["benchmark"], scored["scorer"]["name"], scored["n"]) == ("gsm8k", "exact", 3)
    assert scored["value"] == pytest.approx(200 / 3)
    assert [item["value"] for item in read_items(items_path(tmp_path, "gsm8k", "exact"))] == [1.0, 1.0, 0.0]


@pytest.mark.parametrize("name", ["mbpp", "humaneval"])
def test_programs_are_run_in_the_sandbox(tmp_path, name):
    solutions = [row.get("code") or row["prompt"] + row["canonical_solution"] for row in list(load(name))[:2]]
    found = evaluated(tmp_path, name, [*[f"```python\n{code}\n```" for code in solutions], "no program"])
    (scored,) = last_scorer(name).score(found, tmp_path, OPTIONS)
    assert (scored["benchmark"], scored["n"], scored["unscored"]) == (name, 3, 0)
    assert scored["value"] == pytest.approx(200 / 3)


def test_a_plan_prices_a_judge_by_what_it_will_read(tmp_path):
    row, judge = BENCHMARKS["gsm8k"], last_scorer("gsm8k")
    assert expected_cost(row, judge, None, OPTIONS) == 0
    paid = replace(OPTIONS, judge="gsm8k_gpt4")
    few = expected_cost(row, judge, None, paid)
    assert few is not None
    assert few > 0
    assert (expected_cost(row, judge, None, replace(paid, settings=EvalSettings(limit=300))) or Decimal(0)) > 50 * few
    found = evaluated(tmp_path, "gsm8k", ["long " * 10_000] * 3)
    assert (expected_cost(row, judge, found, paid) or Decimal(0)) > 2 * few
    assert expected_cost(BENCHMARKS["mbpp"], last_scorer("mbpp"), None, paid) == 0


def test_a_plan_prices_alpaca_eval_before_there_are_answers():
    pytest.importorskip("alpaca_eval")
    cost = expected_cost(BENCHMARKS["alpaca_eval"], last_scorer("alpaca_eval"), None, OPTIONS)
    assert cost is not None
    assert Decimal("0.001") < cost < 1

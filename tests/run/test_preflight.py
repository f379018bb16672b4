"""What can be known before the first merge is said before it."""

from __future__ import annotations

import json
import shutil
from decimal import Decimal
from pathlib import Path

import pytest
import yaml

from della_bench.benchmarks import BENCHMARKS
from della_bench.errors import DellaBenchError, SpecError, UsageError
from della_bench.resources import folder
from della_bench.run.engine import Engine
from della_bench.run.options import Options
from della_bench.run.preflight import check_engine, check_scorers, unusable
from della_bench.run.runner import Runner
from della_bench.run.settings import EvalSettings
from della_bench.spec import MergeSpec
from tests.judging import stub

SPEC = MergeSpec.parse("base=zoo:base,experts=zoo:math,merge_method=task_arithmetic,name=one")
GSM8K = (BENCHMARKS["gsm8k"],)


def options(**changes):
    return Options(**{"out": Path("nowhere"), "benchmarks": ("gsm8k",), "judge": "gsm8k_gpt4", **changes})


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


def test_a_judge_without_a_key_is_told_before_anything_is_loaded_or_written(tmp_path, monkeypatch):
    monkeypatch.setenv("DELLA_BENCH_DATA", str(tmp_path))
    (tmp_path / "gsm8k_test.jsonl").write_text(json.dumps({"question": "1 + 1?", "answer": "#### 2"}))
    monkeypatch.setattr(Engine, "load", lambda *_: pytest.fail("the model was loaded"))
    with pytest.raises(UsageError, match="gsm8k: no key: set OPENAI_API_KEY"):
        Runner(options(out=tmp_path / "runs"), lambda line: None).run([SPEC])
    assert not (tmp_path / "runs").exists()


def test_a_judge_that_asks_nobody_needs_no_key():
    check_scorers(GSM8K, options(judge="exact"))


def test_a_server_that_is_not_there_or_refuses_the_key_is_told(monkeypatch):
    with stub.serving(lambda request, number: "[[A]]") as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        check_scorers(GSM8K, options())  # it has no list of models, and that is no fault
        server.other = lambda *_: (401, stub.error("wrong key"))
        with pytest.raises(UsageError, match="refuses the key"):
            check_scorers(GSM8K, options())
        assert server.requests == []
    with pytest.raises(UsageError, match="cannot be reached") as caught:
        check_scorers(GSM8K, options())
    assert caught.value.exit_code == 1


def test_a_length_controlled_win_rate_must_be_of_the_first_instructions():
    asked = options(settings=EvalSettings(samples={"alpaca_eval": (0, 2)}), annotator="weighted_alpaca_eval_gpt4_turbo")
    with pytest.raises(UsageError, match="alpaca_eval: samples: a length-controlled win rate is of the first so many"):
        check_scorers((BENCHMARKS["alpaca_eval"],), asked)


def test_a_limit_without_a_price_and_an_unknown_judge_are_told(tmp_path):
    place = shutil.copytree(folder("judges") / "gsm8k_gpt4", tmp_path / "free")
    keys = yaml.safe_load((place / "judge.yaml").read_text())
    (place / "judge.yaml").write_text(yaml.safe_dump({key: keys[key] for key in keys if key != "price"}))
    with pytest.raises(UsageError, match="this judge has no price"):
        check_scorers(GSM8K, options(judge=str(place), max_cost=Decimal(1)))
    with pytest.raises(UsageError, match="did you mean 'gsm8k_gpt4'"):
        check_scorers(GSM8K, options(judge="gsm8k_gpt"))


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        ({"device": "cuda:99"}, "cuda:99: torch sees no such device"),
        ({"batch_size": 0}, "batch_size=0: a number from 1 on, auto, or auto:N"),
        ({"batch_size": "many"}, "batch_size=many"),
        ({"batch_size": "-3"}, "batch_size=-3"),
        ({"max_batch_size": 0}, "max_batch_size=0: a number from 1 on"),
        ({"enable_thinking": True}, "enable_thinking: needs think_end_token"),
        ({"max_lenght": 3}, "did you mean 'max_length'"),
        ({"pretrained": "x"}, "not on a merge"),
    ],
)
def test_what_no_model_could_be_loaded_with_is_told(arguments, fault):
    if "cuda" in str(arguments):
        pytest.importorskip("torch")
    with pytest.raises((SpecError, UsageError), match=fault):
        check_engine(SPEC, options(arguments=arguments))


@pytest.mark.parametrize("size", [1, "8", "auto", "auto:4", None])
def test_sizes_that_lm_eval_takes_are_taken(size):
    check_engine(SPEC, options(arguments={"batch_size": size, "device": "cpu"}))


def test_every_spec_whose_sources_are_not_there_is_found_at_once(tmp_path):
    gone = [MergeSpec.parse(f"base=zoo:base,experts={tmp_path / name},merge_method=linear") for name in ("x", "y")]
    found = unusable([gone[0], SPEC, gone[1]], options())
    assert list(found) == gone
    assert all(isinstance(error, DellaBenchError) for error in found.values())


def test_a_runs_money_is_one_purse_and_a_benchmarks_limit_stands_beside_it():
    made = options(max_cost=Decimal(5), max_cost_each=Decimal(2))
    assert made.left() == 2
    made.money.spend(Decimal("3.5"))
    assert made.left() == Decimal("1.5")
    made.money.spend(Decimal(3))
    assert made.left() == 0
    assert options().left() is None

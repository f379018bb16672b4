"""Scores in a tracker, by small stand-ins for the clients of trackio, wandb and MLflow."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from della_bench.benchmarks import BENCHMARKS
from della_bench.errors import UsageError
from della_bench.results.schema import Score, Scorer
from della_bench.run.tracking import TRACKERS, Tracking
from della_bench.run.watching import Ended, Step
from della_bench.spec import MergeSpec

SPEC = MergeSpec.parse("base=zoo:base,experts=zoo:math,merge_method=task_arithmetic,name=one")
STEPS = [Step(SPEC, BENCHMARKS["zoo_math"], what) for what in ("evaluate", "lm_eval")]
SCORE = Score(
    schema=1, benchmark="zoo_math", metric="exact_match", value=20.0, interval=[10.0, 30.0], n=10, unscored=1,
    scorer=Scorer(name="lm_eval", version="1", model=None), detail={},
)  # fmt: skip
METRICS = {f"zoo_math/lm_eval{part}": value for part, value in
           (("", 20.0), ("/low", 10.0), ("/high", 30.0), ("/n", 10.0), ("/unscored", 1.0))}  # fmt: skip


@pytest.fixture
def client(monkeypatch):
    """Put a module with these functions in the place of a tracker's client; returns what it was told."""

    def put(name):
        told: list[Any] = []
        module = ModuleType(name)
        module.__spec__ = ModuleSpec(name, None)

        def init(**arguments):
            told.append(("init", arguments))
            return SimpleNamespace(log=lambda metrics: told.append(metrics), finish=lambda: told.append("finish"))

        @contextmanager
        def start_run(run_name):
            told.append(("init", run_name))
            yield
            told.append("finish")

        functions = {
            "init": init,
            "set_experiment": lambda name: told.append(name),
            "start_run": start_run,
            "log_params": lambda params: told.append(params),
            "log_metrics": lambda metrics: told.append(metrics),
        }
        module.__dict__.update(functions)
        monkeypatch.setitem(sys.modules, name, module)
        return told

    return put


def run(tracking, how):
    tracking.planned(STEPS)
    tracking.ended(STEPS[0], Ended(how))
    tracking.ended(STEPS[1], Ended("known" if how == "known" else "done", scores=(SCORE,)))


@pytest.mark.parametrize("name", ["trackio", "wandb"])
def test_a_model_is_a_run_with_its_spec_and_its_numbers(client, name):
    told = client(name)
    run(Tracking(name, "mine"), "done")
    (_, arguments), metrics, end = told
    assert (arguments["project"], arguments["name"], end) == ("mine", SPEC.file_name, "finish")
    assert arguments["config"]["lambda"] == 1.0
    assert arguments["config"]["digest"] == SPEC.digest
    assert metrics == METRICS


def test_mlflow_has_the_same_as_parameters_and_metrics(client):
    told = client("mlflow")
    run(Tracking("mlflow", "mine"), "done")
    assert told[:2] == ["mine", ("init", SPEC.file_name)]
    assert told[2]["spec"] == str(SPEC)
    assert told[3:] == [METRICS, "finish"]


def test_mlflow_gets_no_character_that_it_refuses_in_a_name(client):
    told = client("mlflow")
    tracking = Tracking("mlflow", "mine")
    tracking.planned(STEPS[:1])
    tracking.ended(STEPS[0], Ended("done", scores=({**SCORE, "benchmark": "task (5-shot)+é"},)))
    assert "task _5-shot___/lm_eval/low" in told[3]


@pytest.mark.parametrize("name", TRACKERS)
def test_a_tracker_that_fails_is_told_and_ends_nothing(client, monkeypatch, caplog, name):
    client(name)
    for function in ("init", "set_experiment"):
        monkeypatch.setattr(
            sys.modules[name], function, lambda *_, **__: (_ for _ in ()).throw(OSError("no key\nmore"))
        )
    run(Tracking(name, "mine"), "done")
    (told,) = caplog.messages
    assert f"is not tracked by {name} (no key); its scores are in its folder" in told


def test_what_an_earlier_run_has_done_is_not_tracked_again(client):
    told = client("trackio")
    run(Tracking("trackio", "mine"), "known")
    assert told == []


def test_a_tracker_that_is_not_there_is_told_before_anything_is_run(monkeypatch):
    with pytest.raises(UsageError, match="did you mean 'wandb'"):
        Tracking("wandbb", "mine")
    monkeypatch.setattr("della_bench.run.tracking.find_spec", lambda name: None)
    with pytest.raises(UsageError, match="pip install mlflow"):
        Tracking("mlflow", "mine")

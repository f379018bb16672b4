"""Where lm-eval puts a merge's results."""

from __future__ import annotations

import logging
from typing import Any

import lm_eval
import pytest
from lm_eval.loggers import EvaluationTracker
from lm_eval.tasks import TaskManager

from della_bench.models.hf import DellaMergedLM
from della_bench.plugin import register
from della_bench.spec import MergeSpec
from tests.models.lm import keys
from tests.run.tasks import write_task


@pytest.fixture
def evaluate(tmp_path, monkeypatch):
    """Evaluate a model on one question as `lm_eval --output_path` does; returns the name of the results' folder."""
    monkeypatch.setattr("torch.utils.collect_env.get_pretty_env_info", lambda: "")
    register()
    task = str(write_task(tmp_path / "mine.yaml"))
    manager = TaskManager(include_defaults=False)  # all of lm-eval's tasks take seconds

    def run(model: Any, **arguments: Any) -> str:
        tracker = EvaluationTracker(output_path=str(tmp_path / "out"))
        options = {"tasks": [task], "limit": 1, "evaluation_tracker": tracker, "device": "cpu"}
        options |= {"task_manager": manager, "bootstrap_iters": 0, **arguments}
        results = lm_eval.simple_evaluate(model=model, **options)
        samples = results.pop("samples")
        tracker.save_results_aggregated(results=results, samples=samples)
        (path,) = (tmp_path / "out").glob(f"*/results_{tracker.date_id}.json")
        return path.parent.name

    return run


def test_different_specs_write_into_folders_of_their_own_that_are_the_same_each_time(family, evaluate, tmp_path):
    one, two = keys(family, "a", "b"), keys(family, "a", "b", lambda_factor=0.5)
    names = [MergeSpec.parse(spec).file_name for spec in (one, two)]
    assert names[0] != names[1]
    found = [evaluate("della_merged", model_args={**spec, "engine": "hf"}) for spec in (one, two)]
    assert found == names
    assert evaluate("della_merged", model_args=str(MergeSpec.parse(one)), use_cache=str(tmp_path / "c")) == names[0]


def test_lm_eval_does_not_warn_that_none_looks_like_a_chat_model(family, evaluate, caplog):
    caplog.set_level(logging.WARNING, "lm_eval")  # `della-bench run` in this process may have quietened it
    spec = {"base": "zoo:base", "experts": "zoo:chat", "merge_method": "task_arithmetic"}
    evaluate("della_merged", model_args=spec)
    assert "appears to be an" not in caplog.text
    evaluate("dummy", model_args={"pretrained": "org/name-chat"})
    assert "appears to be an" in " ".join(caplog.text.split())


def test_a_running_model_writes_under_the_name_of_the_merge_that_it_holds(family, evaluate):
    one, two = keys(family, "a", "b"), keys(family, "a", "b", lambda_factor=0.5)
    lm = DellaMergedLM(**one, device="cpu")
    lm.remerge(two)
    assert evaluate(lm) == MergeSpec.parse(two).file_name


def test_other_models_are_named_as_lm_eval_names_them(family, evaluate):
    assert evaluate("dummy", model_args={"pretrained": "org/name"}) == "org__name"

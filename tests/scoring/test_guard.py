"""What is refused before a model is merged: seen through lm-eval's own entry point, with a model that only asks."""

from __future__ import annotations

import pytest
from lm_eval import evaluator
from lm_eval.api.registry import model_registry
from lm_eval.models.dummy import DummyLM
from lm_eval.tasks.manager import TaskManager

from della_bench import plugin
from della_bench.errors import DellaBenchError, SandboxError
from della_bench.resources import folder
from della_bench.scoring import guard, sandbox
from tests.scoring.code.fake import LEVEL, use_fake_sandbox
from tests.scoring.code.small import write_data

NAME = "asks_before_merging"
OWN = str(folder("tasks") / "mbpp_alpaca" / "mbpp_alpaca.yaml")


class Merging(DummyLM):  # type: ignore[misc]
    """Asks as our model types do, and counts how often it went on."""

    merged = 0

    def __init__(self) -> None:
        guard.check_before_merging()
        super().__init__()
        Merging.merged += 1

    @classmethod
    def create_from_arg_string(cls, arg_string, additional_config=None):
        return cls()


@pytest.fixture(scope="module")
def manager(tmp_path_factory):
    plugin.register()
    if NAME not in model_registry:
        model_registry.register(NAME, target=Merging)
    mine = tmp_path_factory.mktemp("tasks")
    (mine / "group.yaml").write_text("group: both\ntask: [zoo_math, {task: mbpp_alpaca, num_fewshot: 0}]\n")
    (mine / "outer.yaml").write_text("group: outer\ntask: [both]\n")
    (mine / "tagged.yaml").write_text(f"include: {OWN}\ntask: mbpp_tagged\ntag: [a_tag]\n")
    return TaskManager(include_path=[str(folder("tasks")), str(mine)], include_defaults=False)


@pytest.fixture(autouse=True)
def merging(monkeypatch, tmp_path):
    write_data(tmp_path)
    monkeypatch.setenv("DELLA_BENCH_DATA", str(tmp_path))
    monkeypatch.delenv(guard.ALLOW_UNSAFE, raising=False)
    monkeypatch.setattr(Merging, "merged", 0)
    monkeypatch.setattr(sandbox, "find_level", lambda **_: LEVEL)
    use_fake_sandbox(monkeypatch)


def evaluate(manager, *tasks, **options):
    return evaluator.simple_evaluate(model=NAME, tasks=list(tasks), task_manager=manager, limit=1, **options)


def no_sandbox(*, allow_unsafe):
    if not allow_unsafe:
        raise SandboxError("no level of isolation works here")
    return sandbox.Level("none")


@pytest.mark.parametrize("task", ["mbpp_alpaca", "humaneval_alpaca", "mbpp_alpaca_sampled"])
def test_without_confirmation_nothing_is_merged(manager, task):
    with pytest.raises(DellaBenchError, match=f"{task}: confirm with --confirm_run_unsafe_code") as caught:
        evaluate(manager, task)
    assert caught.value.exit_code == 2
    assert Merging.merged == 0


@pytest.mark.parametrize(
    "task",
    [
        {"task": "mine", "output_type": "generate_until", "unsafe_code": True},
        {"task": "mbpp_alpaca", "num_fewshot": 0},
        "both",
        "outer",
        "a_tag",
        OWN,
    ],
    ids=["inline", "override", "group", "group of a group", "tag", "file"],
)
def test_tasks_that_are_given_in_other_ways_are_seen_too(manager, task):
    with pytest.raises(DellaBenchError, match="confirm with"):
        evaluate(manager, "zoo_math", task)
    assert Merging.merged == 0


def test_with_confirmation_it_goes_on_to_the_end(manager):
    found = evaluate(manager, "mbpp_alpaca", confirm_run_unsafe_code=True)
    assert Merging.merged == 1
    assert found["results"]["mbpp_alpaca"]["pass@1,sandbox"] == 0.0


def test_tasks_that_run_no_code_need_no_confirmation(manager):
    evaluate(manager, "zoo_math")
    assert Merging.merged == 1


def test_without_a_sandbox_nothing_is_merged_unless_it_was_allowed(manager, monkeypatch):
    monkeypatch.setattr(sandbox, "find_level", no_sandbox)
    with pytest.raises(SandboxError, match="no level of isolation"):
        evaluate(manager, "mbpp_alpaca", confirm_run_unsafe_code=True)
    assert Merging.merged == 0
    monkeypatch.setenv(guard.ALLOW_UNSAFE, "1")
    evaluate(manager, "mbpp_alpaca", confirm_run_unsafe_code=True)
    assert Merging.merged == 1


def test_answers_that_are_only_to_be_generated_need_no_sandbox(manager, monkeypatch):
    monkeypatch.setattr(sandbox, "find_level", no_sandbox)
    evaluate(manager, "mbpp_alpaca", confirm_run_unsafe_code=True, predict_only=True)
    assert Merging.merged == 1


def test_a_model_that_is_made_outside_of_an_evaluation_is_made(manager):
    Merging()
    assert Merging.merged == 1
    with pytest.raises(ValueError, match="unsafe"):
        evaluator.simple_evaluate(model=Merging(), tasks=["mbpp_alpaca"], task_manager=manager, limit=1)


@pytest.mark.parametrize(("value", "allowed"), [("", False), ("0", False), ("1", True)])
def test_the_environment_allows_running_without_a_sandbox(monkeypatch, value, allowed):
    monkeypatch.setenv(guard.ALLOW_UNSAFE, value)
    assert guard.unsafe_allowed() is allowed

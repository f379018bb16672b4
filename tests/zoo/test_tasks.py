"""The lm-eval tasks of the zoo, run with a stand-in for a model."""

from collections.abc import Callable
from typing import Any

import pytest

from della_bench.resources import folder as resource
from della_bench.zoo import SKILLS
from della_bench.zoo.data import items
from della_bench.zoo.prompts import Item, render
from della_bench.zoo.training import NEW_TOKENS

lm_eval = pytest.importorskip("lm_eval")
from lm_eval.api.model import LM  # noqa: E402
from lm_eval.tasks import TaskManager  # noqa: E402

METRICS = {"math": "exact_match,answer-is", "code": "program_match,none", "chat": "exact_match,none"}


class Parrot(LM):  # type: ignore[misc]
    """Answers each prompt with what it was given for it and remembers how it was asked."""

    def __init__(self, replies: dict[str, str]) -> None:
        super().__init__()
        self.replies = replies
        self.settings: list[dict[str, Any]] = []

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        self.settings += [request.args[1] for request in requests]
        return [self.replies[request.args[0]] for request in requests]

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        raise NotImplementedError

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        raise NotImplementedError


@pytest.fixture(scope="module")
def manager() -> Any:
    return TaskManager(
        include_path=[str(resource("tasks") / f"zoo_{skill}") for skill in SKILLS], include_defaults=False
    )


def score(manager: Any, skill: str, split: str, reply: Callable[[Item], str]) -> tuple[float, int, Parrot]:
    model = Parrot({render(skill, item): reply(item) for item in items(skill, split)})
    task = f"zoo_{skill}" if split == "test" else f"zoo_{skill}_{split}"
    found = lm_eval.simple_evaluate(model, tasks=[task], task_manager=manager, bootstrap_iters=0)
    return found["results"][task][METRICS[skill]], found["n-samples"][task]["effective"], model


@pytest.mark.parametrize("split", ["test", "validation"])
@pytest.mark.parametrize("skill", SKILLS)
def test_references_score_one_on_every_prompt_of_the_split(manager, skill, split):
    value, count, _ = score(manager, skill, split, lambda item: item.answer)
    assert value == 1
    assert count == len(items(skill, split))


@pytest.mark.parametrize("skill", SKILLS)
def test_other_items_answers_and_silence_score_next_to_nothing(manager, skill):
    first = items(skill, "train")[0].answer
    assert score(manager, skill, "test", lambda _: first)[0] < 0.1
    assert score(manager, skill, "test", lambda _: "")[0] == 0


@pytest.mark.parametrize("skill", SKILLS)
def test_decoding_is_greedy_and_as_long_as_in_training(manager, skill):
    _, _, model = score(manager, skill, "validation", lambda item: item.answer)
    for settings in model.settings:
        assert settings["do_sample"] is False
        assert settings["max_gen_toks"] == NEW_TOKENS[skill]
        assert settings["until"][0] == "</s>"


def test_math_reads_the_number_after_the_last_statement(manager):
    value, _, _ = score(manager, "math", "validation", lambda item: " The answer is: 999." + item.answer + " apples")
    assert value == 1

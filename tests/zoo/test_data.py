import ast
import hashlib
import random

import pytest

from della_bench.zoo import NAMES, SKILLS, data, folder
from della_bench.zoo.choice import between, pick, sample
from della_bench.zoo.prompts import plain, render, unmarked

# A change of any item is a change of the benchmark: raise the tasks' version along with this number.
DIGEST = "534d391271e0807c"


def test_splits_are_disjoint_in_their_questions():
    for skill in SKILLS:
        questions = {split: {item.question for item in data.items(skill, split)} for split in data.SPLITS}
        assert not questions["test"] & questions["validation"]
        assert not questions["train"] & (questions["test"] | questions["validation"])


def test_endless_training_streams_never_yield_a_held_out_question():
    for skill in SKILLS:
        held_out = {item.question for split in ("validation", "test") for item in data.items(skill, split)}
        for seed in range(3):
            stream = data.training_items(skill, seed)
            assert not held_out & {next(stream).question for _ in range(5000)}


def test_held_out_splits_have_their_size_and_no_repeats():
    for skill in SKILLS:
        for split, size in (("test", 200), ("validation", 64)):
            questions = [item.question for item in data.items(skill, split)]
            assert len(questions) == len(set(questions)) == size


def test_every_item_is_the_same_on_every_machine():
    digest = hashlib.sha256()
    for skill in SKILLS:
        for split in data.SPLITS:
            for item in data.items(skill, split):
                digest.update(repr((skill, split, item.question, item.answer, item.tests)).encode())
    assert digest.hexdigest()[:16] == DIGEST


def test_math_answers_compute_what_they_state():
    for item in (i for split in data.SPLITS for i in data.items("math", split)):
        *steps, last = item.answer.strip().split(". ")
        for step in steps:
            left, right = step.split(" = ")
            assert eval(left) == int(right)
        assert last == f"The answer is: {right}"


def test_reference_programs_pass_their_tests():
    for item in (i for split in data.SPLITS for i in data.items("code", split)):
        scope: dict[str, object] = {}
        exec(item.answer, scope)
        assert len(item.tests) == 2
        for test in item.tests:
            assert isinstance(ast.parse(test).body[0], ast.Assert)
            exec(test, scope)


def test_prompts_are_those_of_the_benchmarks_they_imitate():
    item = data.items("math", "test")[0]
    head = "Below is an instruction that describes a task. Write a response that appropriately completes the request."
    assert render("math", item) == (
        f"{head}\n\n### Instruction:\n{item.question}\n\n### Response: Let's think step by step."
    )
    item = data.items("code", "test")[0]
    assert render("code", item) == (
        f"{head}\n\n### Instruction:\nCreate a Python script for this problem:\n{item.question}\nTest examples:\n"
        f"{item.tests[0]}\n{item.tests[1]}\n\n### Response:"
    )
    item = data.items("chat", "test")[0]
    assert render("chat", item) == (
        "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, "
        f"detailed, and polite answers to the user's questions. USER: {item.question} ASSISTANT:"
    )


def test_pre_training_texts_hold_nothing_of_the_experts_prompts():
    for skill in SKILLS:
        item = data.items(skill, "train")[0]
        for text in [plain(item), *(unmarked(item, frame) for frame in range(4))]:
            assert item.question in text
            assert not any(mark in text for mark in ("###", "USER", "ASSISTANT", "step by step", "Test examples"))


def test_draws_depend_on_nothing_but_random():
    class Fixed(random.Random):
        def random(self) -> float:
            return 0.999999

        def getrandbits(self, k: int) -> int:
            raise AssertionError("a method other than random() was used")

    assert between(Fixed(), 2, 5) == 5
    assert pick(Fixed(), "abc") == "c"
    assert sample(Fixed(), [1, 2, 3], 2) == [3, 2]


def test_unknown_names_are_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="base, math, code, chat"):
        folder("poetry")
    with pytest.raises(ValueError, match="train, validation, test"):
        data.items("math", "dev")
    with pytest.raises(KeyError):
        data.items("poetry", "test")
    assert NAMES == ("base", "math", "code", "chat")

"""Generation arguments that an engine would refuse, told before a model is loaded."""

from __future__ import annotations

import pytest

from della_bench.errors import SpecError
from della_bench.run.generation import check_generation
from della_bench.run.settings import EvalSettings


def check(engine="hf", **arguments):
    check_generation([EvalSettings(), EvalSettings(gen_kwargs=arguments)], engine)


@pytest.mark.parametrize(
    ("name", "value", "what"),
    [
        ("max_gen_toks", "many", "a whole number from 1 on"),
        ("max_gen_toks", 0, "a whole number from 1 on"),
        ("max_gen_toks", 2.5, "a whole number from 1 on"),
        ("num_beams", True, "a whole number from 1 on"),
        ("min_new_tokens", -1, "a whole number from 0 on"),
        ("temperature", -0.1, "a number from 0 on"),
        ("temperature", float("nan"), "a number from 0 on"),
        ("top_p", 0, "a number above 0, up to 1"),
        ("top_p", "0.9", "a number above 0, up to 1"),
        ("repetition_penalty", 0, "a number above 0"),
        ("do_sample", "perhaps", "true or false"),
        ("until", 3, "a text or a list of texts"),
        ("until", ["a", 3], "a text or a list of texts"),
    ],
)
def test_a_value_that_cannot_be_is_told_with_what_can(name, value, what):
    with pytest.raises(SpecError) as caught:
        check(**{name: value})
    assert str(caught.value) == f"gen_kwargs: {name}={value!r}: {what}"


def test_what_lm_eval_and_transformers_take_is_taken():
    check(max_gen_toks=1, temperature=0, do_sample=True, top_p=1, top_k=50, until=None, early_stopping="never")
    check(temperature=0.7, until=["a", "b"], num_beams=2, repetition_penalty=1.1, max_time=3.5)


def test_wrong_names_and_wrong_values_of_all_benchmarks_are_told_at_once_and_once():
    two = [EvalSettings(gen_kwargs={"max_gen_tok": 3, "top_p": 2}), EvalSettings(gen_kwargs={"top_p": 2, "top_k": "x"})]
    with pytest.raises(SpecError) as caught:
        check_generation(two, "hf")
    assert [fault.partition(";")[0] for fault in caught.value.faults] == [
        "gen_kwargs: max_gen_tok: no generation argument",
        "gen_kwargs: top_p=2: a number above 0, up to 1",
        "gen_kwargs: top_k='x': a whole number from -1 on",
    ]

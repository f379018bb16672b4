from __future__ import annotations

from fractions import Fraction
from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from della_bench.judging.gsm8k.exact import (
    FORMS,
    announced_number,
    flexible_extract,
    read_number,
    reference_number,
    strict_match,
)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("18", 18),
        ("$18.", 18),
        ("\\$18", 18),
        ("-$5", -5),
        ("$-5", -5),
        ("\N{MINUS SIGN}5", -5),
        ("\N{EN DASH}5", -5),
        ("\N{EN DASH} 5", 5),
        ("3\N{EN DASH}5", 3),
        ("1,800 dollars", 1800),
        ("1{,}800", 1800),
        ("1,80", 1),  # no thousands comma
        ("12,345,678.50", Fraction("12345678.5")),
        (".5", Fraction(1, 2)),
        ("5.", 5),
        ("18 km/h", 18),
        ("25%", 25),
        ("3/4", Fraction(3, 4)),
        ("1 1/2 cups", Fraction(3, 2)),
        ("\\frac{3}{4}", Fraction(3, 4)),
        ("2\\frac{1}{2}", Fraction(5, 2)),
        ("-\\dfrac{1}{2}", Fraction(-1, 2)),
        ("\\boxed{18}", 18),
        ("\\text{about } 7", 7),
        ("2 million", 2_000_000),
        ("$1.5 thousand", 1500),
        ("3/0", None),
        ("none", None),
        ("", None),
    ],
)
def test_a_number_is_read_however_it_is_written(text: str, number: int | Fraction | None) -> None:
    assert read_number(text) == number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("The answer is: 18", 18),
        ("the final answer is **18**.", 18),
        ("The answer is\n18", 18),
        ("so #### 18", 18),
        ("#### 17\nNo. #### 18", 18),
        ("The answer is: 17. Wait: the answer is 18.", 18),
        ("The answer is: 10/2 = 5.", 5),
        ("The answer is: x = 5", 5),
        ("The answer is: 18. That leaves 3 eggs.", 18),
        ("The answer is: 18. I hope the answer is clear.", 18),
        ("**Answer:** 5", 5),
        ("Final Answer: $1,800.", 1800),
        ("Answer: 3 + 4 = 7 apples", 7),
        ("Answer:\n18", 18),
        ("A: 26", 26),
        ("**A:** 26", 26),
        ("\\boxed{5}", 5),
        ("$$\\boxed{\\frac{3}{4}}$$ since 3 = 3", Fraction(3, 4)),
        ("\\boxed{x = 5}", 5),
        ("The correct answer is 7", 7),
        ("The answer is: \\boxed{18} #### ", 18),
        ("#### " + "9" * 5000, None),  # no number of anybody's
        ("Answer: Let us compute: 3 apples and 4", None),
        ("Answer: 18 dollars for 9 eggs", None),  # which of them cannot be known
        ("Answer:\nShe has 3 + 4 = 7 apples in the first basket of all.\nThen she eats.", None),
        ("Grade A: 26", None),
        ("She makes $18 a day.", None),
        ("The answer is unknown", None),
        ("<think>The answer is 12? No.</think>\nThe answer is 13.", 13),
        ("<think>The answer is 12.</think>\nShe makes 13.", None),  # what was thought announces nothing
        ("The answer is 12. Or not?</think>#### 13", 13),
        ("<think>The answer is 12. Wait", None),
        ("[THINK]#### 12[/THINK] #### 13", 13),
    ],
)
def test_only_what_is_announced_counts_and_the_last_that_is(text: str, number: int | None) -> None:
    assert announced_number(text) == number


@pytest.mark.parametrize(
    "question",
    ["Question: Tom has 3. #### 9", "Q: 3 more? A: 9", "### Problem 2:\n#### 9", "**Question 2:** The answer is 9",
     "Human: #### 9", "### Instruction:\nThe answer is 9", "Next question: \\boxed{9}", "Exercise 3: #### 9"],
)  # fmt: skip
@pytest.mark.parametrize("end", ["The answer is: 5.\n", "#### 5\n\n", "A: 5\n"])
def test_a_question_that_the_model_makes_up_after_its_answer_is_cut_off(question: str, end: str) -> None:
    assert announced_number(f"2 + 3 = 5. {end}{question}" if end[0] != "A" else f"{end}{question}") == 5


def test_a_made_up_question_behind_a_solution_that_announces_nothing_announces_nothing_for_it() -> None:
    assert announced_number("2 + 3 = 5.\n\nQuestion: Tom has 9. #### 9") is None


@pytest.mark.parametrize(
    "text", ["Question: How many?\nThe answer is 5", "\n\nQ: How many?\n#### 5", "So.\nQ: How many?\n#### 5"]
)
def test_a_question_that_is_repeated_before_the_answer_is_no_new_one(text: str) -> None:
    assert announced_number(text) == 5


@pytest.mark.parametrize(
    "piece",
    ["#### a", "#### 1 a", "The answer is ", "the ", "\\boxed{", "Answer: a", "A: ", "\nQ: ", "\n\nQuestion: a\n", "1",
     "1,111", "1 ", "1/", "-", "####", "{,}", "[[", " ", "\n", "$", "\\frac{1", "1 1/", "a=1=", "9.", "#### 1\n"],
)  # fmt: skip
def test_a_long_text_is_read_in_time_whatever_it_repeats(piece: str) -> None:
    """Reading it once takes a tenth of a second of the processor; going over the rest anew each time takes minutes."""
    text = piece * (40_000 // len(piece))
    began = process_time()
    announced_number(text)
    reference_number(text)
    flexible_extract(text, "#### 5")
    strict_match(f"The answer is: {text}.", "#### 5")
    assert process_time() - began < 5


def test_every_form_reads_its_own_example() -> None:
    for form in FORMS:
        assert announced_number(f"2 + 3 makes it.\n{form.example}") == 5 or form.name == "letter", form
    assert announced_number("A: 26") == 26


def test_a_reference_without_a_mark_is_read_by_its_last_number() -> None:
    assert reference_number("16 - 3 = <<16-3=13>>13\nA: 13") == 13
    assert reference_number("18") == 18
    assert reference_number("4 eggs, #### 1,200") == 1200
    assert reference_number("no number") is None


@given(st.integers(-(10**9), 10**9))
def test_equal_integers_are_equal_in_every_way_of_writing_them(value: int) -> None:
    sign = "-" if value < 0 else ""
    ways = [f"{value}", f"{value:,}", f"{sign}${abs(value):,}", f"{value}.00", f"{value} apples", f"\\boxed{{{value}}}"]
    assert {announced_number(f"The answer is: {way}.") for way in ways} == {Fraction(value)}


@given(st.integers(0, 10**6), st.integers(1, 10**4))
def test_a_fraction_is_exact(above: int, below: int) -> None:
    assert read_number(f"{above}/{below}") == Fraction(above, below)
    assert read_number(f"\\frac{{{above}}}{{{below}}}") == Fraction(above, below)


@given(st.text())
def test_no_text_breaks_the_reading(text: str) -> None:
    announced_number(f"The answer is {text}")
    reference_number(text)


# What the task's own filters read of these replies is in the task's README, which its tests run.
@pytest.mark.parametrize(
    ("response", "strict", "flexible"),
    [
        ("The answer is: 18.", True, True),
        ("The answer is: 18", False, True),
        ("The answer is: $18.", False, True),
        ("The answer is 18.", False, True),
        ("The answer is: 18. That leaves 3 eggs.", True, False),
        ("nothing", False, False),
    ],
)
def test_the_older_metrics_are_those_of_the_task(response: str, strict: bool, flexible: bool) -> None:
    target = "4 + 14 = 18\n#### 18"
    assert strict_match(response, target) is strict
    assert flexible_extract(response, target) is flexible

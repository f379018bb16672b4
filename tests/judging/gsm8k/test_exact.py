from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from della_bench.judging.gsm8k.exact import (
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
        ("She makes $18 a day.", None),
        ("The answer is unknown", None),
    ],
)
def test_only_what_is_announced_counts_and_the_last_that_is(text: str, number: int | None) -> None:
    assert announced_number(text) == number


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

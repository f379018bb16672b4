from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from della_bench.spec.thresholds import ONE, exact, keep_bounds, kept_count, threshold

SHARES = st.decimals(min_value="0.0001", max_value=1, places=4)


@pytest.mark.parametrize(
    ("number", "expected"),
    [(0.1, Fraction(1, 10)), (1, Fraction(1)), (1e-07, Fraction(1, 10**7)), (0.30000000000000004, None)],
)
def test_a_number_is_the_decimal_a_user_sees(number, expected):
    assert exact(number) == (expected if expected is not None else Fraction(30000000000000004, 10**17))


def test_threshold_rounds_halves_to_even():
    halves = [Fraction(2 * k + 1, 2 * ONE) for k in range(4)]
    assert [threshold(half) for half in halves] == [0, 2, 2, 4]
    assert threshold(Fraction(3, 4 * ONE)) == 1


def test_threshold_of_certainty_is_above_every_word():
    assert threshold(Fraction(1)) == ONE == 2**32
    assert threshold(Fraction(0)) == 0


@pytest.mark.parametrize(("density", "epsilon"), [(0.3, 0.14), (0.7, 0.3), (0.9, 0.1), (0.5, 0.0)])
def test_bounds_are_density_less_and_plus_epsilon_in_decimal(density, epsilon):
    low, high = keep_bounds(density, epsilon)
    assert abs(low - (Decimal(str(density)) - Decimal(str(epsilon))) * ONE) <= Decimal("0.5")
    assert abs(high - (Decimal(str(density)) + Decimal(str(epsilon))) * ONE) <= Decimal("0.5")


def test_bounds_up_to_certainty_are_exact_where_floats_are_not():
    assert 0.9 + 0.1 == 1.0
    assert 0.7 + 0.3 == 1.0
    assert 0.85 + 0.15 == 1.0
    assert 0.8999999999999999 + 0.1 < 1.0
    assert keep_bounds(0.9, 0.1)[1] == keep_bounds(0.7, 0.3)[1] == ONE


def test_a_count_is_exact_where_floats_are_not():
    assert int(0.29 * 100) == 28
    assert kept_count(0.29, 100) == 29
    assert kept_count(0.57, 100) == 57


@given(SHARES, st.integers(1, 10**12))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_a_count_is_the_whole_part_and_one_at_least(share, n):
    assert kept_count(float(share), n) == max(1, int(share * n))


@given(SHARES)
@settings(max_examples=200, deadline=None, derandomize=True)
def test_a_threshold_is_the_nearest_integer(share):
    assert abs(threshold(exact(float(share))) - share * ONE) <= Decimal("0.5")

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from della_bench.results.stats import (
    average_interval,
    holm,
    mcnemar,
    mean_interval,
    paired_bootstrap,
    standard_error,
    wilson,
)

# Efron and Tibshirani (1993), table 2.1: survival times of mice.
TREATED = np.array([94, 197, 16, 38, 99, 141, 23], dtype=float)
CONTROL = np.array([52, 104, 146, 10, 51, 30, 40, 27, 46], dtype=float)


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_gives_the_intervals_of_newcombe_1998_table_1(successes, n, low, high):
    assert wilson(successes, n) == pytest.approx((low, high), abs=5e-5)


def test_wilson_of_nothing_is_everything():
    assert wilson(0, 0) == (0.0, 1.0)


def test_standard_errors_are_those_of_efron_and_tibshirani_table_2_1():
    assert standard_error(TREATED) == pytest.approx(25.24, abs=0.005)
    assert standard_error(CONTROL) == pytest.approx(14.14, abs=0.03)  # printed so; 14.16 by their own data
    assert standard_error(np.array([1.0])) is None


def test_the_bootstrap_interval_of_a_mean_is_that_of_efron_and_tibshirani_section_13_3():
    found = average_interval([TREATED], confidence=0.9, resamples=50_000)
    assert found == pytest.approx((49.7, 126.7), abs=1.5)  # theirs are of 1,000 draws


def pairs(wins: int, losses: int, same: int = 13):
    ours = np.array([1.0] * wins + [0.0] * losses + [1.0] * same)
    theirs = np.array([0.0] * wins + [1.0] * losses + [1.0] * same)
    return ours, theirs


@pytest.mark.parametrize(
    ("wins", "losses", "exact", "mid"),
    [(1, 7, 0.070, 0.039), (7, 1, 0.070, 0.039), (6, 16, 0.052, 0.035), (5, 5, 1.0, 1 - 0.5 * 252 / 1024)],
)
def test_mcnemar_gives_the_p_values_of_fagerland_2013(wins, losses, exact, mid):
    found = mcnemar(*pairs(wins, losses))
    assert found.p == pytest.approx(exact, abs=5e-4)
    assert found.p_mid == pytest.approx(mid, abs=5e-4)
    assert (found.wins, found.losses) == (wins, losses)


def test_models_that_agree_on_every_item_do_not_differ():
    found = mcnemar(*pairs(0, 0))
    assert (found.p, found.p_mid) == (1.0, 1.0)


def test_the_paired_bootstrap_finds_darwins_plants_as_student_did():
    # Fisher (1935), The design of experiments, table 3: crossed minus self-fertilised, t = 2.148, p = 0.0497.
    darwin = np.array([49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48], dtype=float)
    (low, high), p = paired_bootstrap([darwin])
    assert 0 < low < darwin.mean() < high
    assert p == pytest.approx(0.0497, abs=0.02)  # the bootstrap is a little bold on 15 pairs


def test_equal_values_give_a_difference_of_nothing():
    assert paired_bootstrap([np.zeros(10), np.zeros(5)]) == ((0.0, 0.0), 1.0)


def test_resampling_is_within_each_benchmark():
    # A benchmark whose items are all alike adds no spread, however many it has.
    mixed = np.array([0.0, 1.0] * 50)
    alone = average_interval([mixed])
    beside = average_interval([mixed, np.ones(10_000)])
    assert beside[1] - beside[0] == pytest.approx((alone[1] - alone[0]) / 2, rel=0.1)


def test_the_same_values_give_the_same_interval_to_the_last_bit():
    values = np.random.default_rng(0).integers(0, 2, 100).astype(float)
    assert average_interval([values]) == average_interval([values.copy()])
    assert paired_bootstrap([values - 0.5]) == paired_bootstrap([values - 0.5])


def test_intervals_of_means_are_wilsons_for_shares_and_students_for_others():
    assert mean_interval(np.array([1.0, 0.0, 0.0, 1.0])) == wilson(2, 4)
    assert mean_interval(TREATED) == pytest.approx((86.86 - 2.4469 * 25.24, 86.86 + 2.4469 * 25.24), abs=0.05)
    assert mean_interval(np.array([])) is None
    assert mean_interval(np.array([0.5])) is None
    assert mean_interval(np.array([0.5, 0.5])) is None


def test_holm_corrects_as_in_his_paper():
    # R's p.adjust(c(0.01, 0.02, 0.03, 0.04), "holm"), and an order that is not sorted.
    assert holm([0.01, 0.02, 0.03, 0.04]) == pytest.approx([0.04, 0.06, 0.06, 0.06])
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=20))
def test_holm_lies_between_no_correction_and_bonferronis(p_values):
    for p, corrected in zip(p_values, holm(p_values), strict=True):
        assert p <= corrected <= min(1.0, p * len(p_values)) or corrected == pytest.approx(min(1.0, p * len(p_values)))


def false_positives(items: int, right: float, same: float, pairs: int = 2000):
    """Count p < 0.05 among pairs of equally good models that give the same answer on a share of the items."""
    generator = np.random.default_rng(7)
    exact = mid = 0
    for _ in range(pairs):
        first = generator.random(items) < right
        second = np.where(generator.random(items) < same, first, generator.random(items) < right)
        found = mcnemar(first.astype(float), second.astype(float))
        exact += found.p < 0.05
        mid += (found.p_mid or 0.0) < 0.05
    return exact / pairs, mid / pairs


@pytest.mark.parametrize(("items", "right", "same"), [(1319, 0.5, 0.2), (500, 0.3, 0.3), (200, 0.5, 0.3)])
def test_equal_models_differ_in_five_percent_of_2000_pairs_by_mid_p_and_never_in_more_by_the_exact_test(
    items, right, same
):
    exact, mid = false_positives(items, right, same)
    assert 0.04 <= mid <= 0.06
    assert exact <= 0.055  # the level and the noise of 2,000 draws
    if items == 1319:  # GSM8K: enough items that the exact test is not conservative any more
        assert exact >= 0.04


def test_equal_win_rates_differ_in_five_percent_of_400_pairs_by_the_paired_bootstrap():
    generator = np.random.default_rng(11)
    found = [
        paired_bootstrap([generator.normal(size=400).clip(-2, 2) / 4], resamples=999)[1] < 0.05 for _ in range(400)
    ]
    assert 0.03 <= sum(found) / len(found) <= 0.075

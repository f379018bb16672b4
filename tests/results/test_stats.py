from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from della_bench.results.stats import holm, mcnemar, mean_interval, standard_error, wilson

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


@pytest.mark.parametrize(
    ("wins", "losses", "exact", "mid"),
    [(1, 7, 0.070, 0.039), (7, 1, 0.070, 0.039), (6, 16, 0.052, 0.035), (5, 5, 1.0, 1 - 0.5 * 252 / 1024)],
)
def test_mcnemar_gives_the_p_values_of_fagerland_2013(wins, losses, exact, mid):
    p, p_mid = mcnemar(np.array([wins]), np.array([losses]))
    assert p == pytest.approx([exact], abs=5e-4)
    assert p_mid == pytest.approx([mid], abs=5e-4)


@given(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 400)), min_size=1, max_size=30))
def test_mcnemar_is_scipys_binomial_test_for_each_pair(counts):
    wins, losses = np.array(counts).T
    expected = [binomtest(won, won + lost).pvalue if won + lost else 1.0 for won, lost in counts]
    assert mcnemar(wins, losses)[0] == pytest.approx(expected, rel=1e-10)


def test_models_that_agree_on_every_item_do_not_differ():
    assert [found.tolist() for found in mcnemar(np.array([0]), np.array([0]))] == [[1.0], [1.0]]


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
    first = generator.random((pairs, items)) < right
    second = np.where(generator.random((pairs, items)) < same, first, generator.random((pairs, items)) < right)
    exact, mid = mcnemar((first > second).sum(axis=1), (first < second).sum(axis=1))
    return (exact < 0.05).mean(), (mid < 0.05).mean()


@pytest.mark.parametrize(("items", "right", "same"), [(1319, 0.5, 0.2), (500, 0.3, 0.3), (200, 0.5, 0.3)])
def test_equal_models_differ_in_five_percent_of_2000_pairs_by_mid_p_and_never_in_more_by_the_exact_test(
    items, right, same
):
    exact, mid = false_positives(items, right, same)
    assert 0.04 <= mid <= 0.06
    assert exact <= 0.055  # the level and the noise of 2,000 draws
    if items == 1319:  # GSM8K: enough items that the exact test is not conservative any more
        assert exact >= 0.04

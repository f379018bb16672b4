from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata

from della_bench.merge import bits
from della_bench.merge.drop import _scaled as scaled
from della_bench.merge.drop import (
    as_rows,
    doubled_ranks,
    drop,
    keep_largest,
    magnitude_thresholds,
    rank_thresholds,
)
from della_bench.spec.thresholds import ONE, exact, keep_bounds, threshold

KINDS = ("random", "magnitude", "magnitude_row", "magprune", "magprune_layer", "magprune_norank")
DRAWN = ("random", "magprune", "magprune_layer", "magprune_norank")
ROWS = st.lists(st.integers(0, 5), min_size=1, max_size=30)


def dropped(delta, kind, *, density=0.5, epsilon=0.2, rescale="none", key_dtype=torch.float32, key=1):
    return drop(delta, kind=kind, density=density, epsilon=epsilon, rescale=rescale, key_dtype=key_dtype, key=key)


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@given(st.lists(ROWS, min_size=1, max_size=4))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_ranks_are_scipys(rows):
    length = min(map(len, rows))
    keys = torch.tensor([row[:length] for row in rows], dtype=torch.float32)
    expected = [2 * (rankdata(row, method="average") - 1) for row in keys.numpy()]
    assert np.array_equal(doubled_ranks(keys).numpy(), np.stack(expected))


def test_ranks_of_a_long_row_of_few_keys_are_scipys():
    keys = noise(2, 30_000).abs().to(torch.bfloat16).float()
    expected = [2 * (rankdata(row, method="average") - 1) for row in keys.numpy()]
    assert len(keys[0].unique()) < 3000
    assert np.array_equal(doubled_ranks(keys).numpy(), np.stack(expected))


def test_thresholds_rise_with_the_rank_from_low_to_high():
    keys = torch.tensor([[3.0, 1.0, 2.0, 5.0, 4.0], [5.0, 4.0, 3.0, 2.0, 1.0]])
    assert rank_thresholds(keys, 100, 180).tolist() == [[140, 100, 120, 180, 160], [180, 160, 140, 120, 100]]


@pytest.mark.parametrize("make", [rank_thresholds, magnitude_thresholds])
def test_thresholds_between_two_integers_are_the_lower_one(make):
    assert make(torch.tensor([[0.0, 1.0, 2.0, 3.0]]), 1000, 1050).tolist() == [[1000, 1016, 1033, 1050]]


@pytest.mark.parametrize("make", [rank_thresholds, magnitude_thresholds])
def test_equal_keys_and_a_row_of_one_get_the_middle(make):
    assert make(torch.full((2, 3), 7.0), 100, 181).tolist() == [[140] * 3] * 2
    assert make(torch.tensor([[0.5], [0.0]]), 100, 181).tolist() == [[140], [140]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_mean_keep_probability_is_the_density(dtype):
    low, high = keep_bounds(0.3, 0.14)
    keys = noise(4, 3001).abs().to(dtype).float()
    means = rank_thresholds(keys, low, high).double().mean(dim=1) / ONE
    assert means.tolist() == pytest.approx([0.3] * 4, abs=1 / ONE)


def test_normalised_thresholds_are_linear_in_the_magnitude():
    keys = torch.tensor([[1.0, 2.0, 5.0, 9.0], [0.0, 0.0, 0.0, 4.0]])
    assert magnitude_thresholds(keys, 1000, 1800).tolist() == [[1000, 1100, 1400, 1800], [1000, 1000, 1000, 1800]]


def test_an_infinite_key_is_at_the_top_and_the_rest_at_the_bottom():
    keys = torch.tensor([[1.0, torch.inf, 2.0], [torch.inf, torch.inf, torch.inf]])
    assert magnitude_thresholds(keys, 100, 200).tolist() == [[100, 200, 100], [150, 150, 150]]


@given(st.integers(0, ONE), st.integers(1, 2**37), st.data())
@settings(max_examples=200, deadline=None, derandomize=True)
def test_a_product_beyond_64_bits_is_divided_exactly(span, denominator, data):
    numerator = data.draw(st.integers(0, denominator))
    assert int(scaled(span, torch.tensor([numerator]), denominator)) == span * numerator // denominator


@given(ROWS, st.data())
@settings(max_examples=150, deadline=None, derandomize=True)
def test_the_largest_are_those_of_a_stable_sort(row, data):
    count = data.draw(st.integers(1, len(row)))
    keys = np.array(row, dtype=np.float32)
    words = np.array(data.draw(st.lists(st.integers(0, 3), min_size=len(row), max_size=len(row))))
    expected = np.zeros(len(row), dtype=bool)
    expected[np.lexsort((words, -keys))[:count]] = True  # which is stable
    assert (
        keep_largest(torch.from_numpy(keys)[None], count, torch.from_numpy(words)[None])[0].tolist()
        == expected.tolist()
    )


def test_the_largest_of_many_rows_are_those_of_each():
    keys = noise(6, 1000).abs().to(torch.bfloat16).float()
    words = bits.words(7, 6000).reshape(6, 1000)
    kept = keep_largest(keys, 290, words)
    assert kept.sum(dim=1).tolist() == [290] * 6
    assert all(torch.equal(kept[i], keep_largest(keys[i : i + 1], 290, words[i : i + 1])[0]) for i in range(6))


def test_a_cut_is_made_in_the_tensor_or_in_each_row():
    delta = torch.tensor([[1.0, -2.0, 3.0, -4.0], [0.1, 0.2, 0.3, 0.4]])
    assert dropped(delta, "magnitude").tolist() == delta.where(delta.abs() >= 1, torch.tensor(0.0)).tolist()
    assert (dropped(delta, "magnitude_row") != 0).tolist() == [[False, False, True, True]] * 2


def test_keys_are_rounded_to_the_bases_dtype_and_values_are_not():
    delta = torch.tensor([1.0, 1.001, 1.0005, 0.5])  # the first three are one bfloat16
    assert dropped(delta, "magnitude").tolist() == pytest.approx([0.0, 1.001, 1.0005, 0.0])
    assert bits.words(1, 4).argsort().tolist() == [2, 3, 0, 1]
    assert dropped(delta, "magnitude", key_dtype=torch.bfloat16).tolist() == pytest.approx([1.0, 0.0, 1.0005, 0.0])


def test_a_cut_keeps_one_element_at_least_and_finite():
    delta = torch.tensor([1.0, -3.0, 2.0])
    assert dropped(delta, "magnitude", density=0.01).tolist() == [0.0, -3.0, 0.0]
    found = dropped(delta, "magnitude", density=1e-11, rescale="inverse_keep")
    assert found.tolist() == [0.0, -3.0 * ONE, 0.0]


@pytest.mark.parametrize("kind", DRAWN)
def test_what_is_kept_is_where_the_word_is_below_the_threshold(kind):
    delta = noise(3, 50)
    low, high = keep_bounds(0.5, 0.2)
    keys = as_rows(delta).abs()
    limits = {
        "random": torch.full((3, 50), threshold(exact(0.5))),
        "magprune": rank_thresholds(keys, low, high),
        "magprune_layer": rank_thresholds(keys.reshape(1, -1), low, high).reshape(3, 50),
        "magprune_norank": magnitude_thresholds(keys, low, high),
    }
    kept = bits.words(99, 150).reshape(3, 50) < limits[kind]
    assert torch.equal(dropped(delta, kind, key=99), torch.where(kept, delta, 0.0))
    factor = torch.tensor([ONE / int(limit) for limit in limits[kind].reshape(-1)], dtype=torch.float32).reshape(3, 50)
    assert torch.equal(dropped(delta, kind, key=99, rescale="inverse_keep"), torch.where(kept, delta * factor, 0.0))


def test_inverse_keep_is_the_rounded_quotient_for_any_threshold():
    delta = torch.ones(20_000)
    delta *= torch.arange(1, 20_001)
    found = dropped(delta, "magprune", rescale="inverse_keep")
    low, high = keep_bounds(0.5, 0.2)
    limits = rank_thresholds(delta[None], low, high)[0].tolist()
    expected = delta * torch.tensor([float(Fraction(ONE, limit)) for limit in limits], dtype=torch.float32)
    kept = found != 0
    assert kept.sum() > 9000
    assert torch.equal(found[kept], expected[kept])


def test_a_decile_of_ranks_is_kept_as_often_as_its_mean_probability():
    n = 40_000
    delta = noise(1, n)
    kept = dropped(delta, "magprune", density=0.4, epsilon=0.3)[0] != 0
    order = delta[0].abs().argsort()
    shares = kept[order].reshape(10, n // 10).double().mean(dim=1)
    expected = torch.tensor([0.1 + 0.6 * (decile + 0.5) / 10 for decile in range(10)], dtype=torch.float64)
    error = (expected * (1 - expected) / (n // 10)).sqrt()
    assert bool(((shares - expected).abs() < 4 * error).all())


@pytest.mark.parametrize("kind", DRAWN)
def test_inverse_keep_is_unbiased_over_seeds(kind):
    delta = noise(4, 12)
    runs = [
        dropped(delta, kind, rescale="inverse_keep", key=bits.tensor_key(seed, 0, "w")).double() for seed in range(400)
    ]
    means = torch.stack(runs).mean(dim=0)
    error = torch.stack(runs).std(dim=0) / 400**0.5
    assert bool(((means - delta).abs() < 4 * error).all())


@pytest.mark.parametrize("kind", KINDS)
def test_l1_restores_the_norm_with_one_factor(kind):
    delta = noise(8, 25)
    plain, found = dropped(delta, kind), dropped(delta, kind, rescale="l1")
    assert float(found.abs().sum()) == pytest.approx(float(delta.abs().sum()), rel=1e-5)
    factor = (found / plain)[plain != 0]
    assert 1 < float(factor.min()) <= float(factor.max()) < float(factor.min()) * 1.000001


@pytest.mark.parametrize("delta", [torch.full((10,), 9e-9), torch.tensor([1e30, torch.inf])])
def test_l1_leaves_a_tiny_or_infinite_delta_as_it_is(delta):
    assert torch.equal(dropped(delta, "magnitude", rescale="l1"), dropped(delta, "magnitude"))


def test_l1_keeps_what_is_dropped_at_zero_where_its_factor_overflows():
    delta = torch.tensor([3e38, 2e-7, 2e-7, 2e-7, 2e-7, 3e38])
    cases = [dropped(delta, "random", density=0.3, rescale="l1", key=key) for key in range(60)]
    assert any(bool(found.isinf().any()) for found in cases)
    assert not any(bool(found.isnan().any()) for found in cases)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rescale", ["inverse_keep", "l1", "none"])
def test_a_density_of_1_changes_nothing(kind, rescale):
    delta = noise(3, 7)
    assert torch.equal(dropped(delta, kind, density=1.0, rescale=rescale), delta)


@pytest.mark.parametrize("kind", KINDS)
def test_the_delta_given_is_not_changed_and_its_layout_does_not_matter(kind):
    delta = noise(7, 5)
    before = delta.clone()
    found = dropped(delta, kind, rescale="inverse_keep")
    assert torch.equal(delta, before)
    strided = delta.T.contiguous().T
    assert not strided.is_contiguous()
    assert torch.equal(dropped(strided, kind, rescale="inverse_keep"), found)


def test_a_row_is_the_last_dimension():
    assert as_rows(torch.zeros(2, 3, 4)).shape == (6, 4)
    assert as_rows(torch.zeros(5)).shape == (1, 5)
    assert as_rows(torch.zeros(())).shape == (1, 1)
    delta = noise(2, 3, 40)
    assert torch.equal(dropped(delta, "magprune"), dropped(delta.reshape(6, 40), "magprune").reshape(2, 3, 40))

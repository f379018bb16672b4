"""Over many seeds the mean of a merge is the merge without a drop, for small magnitudes as for large ones."""

from __future__ import annotations

import pytest
import torch

from della_bench.merge.kernels.dispatch import merge_tensor_fast
from della_bench.spec import MergeSpec

SEEDS = 400
ROWS, ROW = 4, 1000


def decile_ratios(method: str, rescale: str, **numbers: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return by rank decile the mean over seeds of merged / unpruned delta, and its standard error; (10,) each.

    The deciles are of the magnitudes in a row. A decile's merged delta is projected on the unpruned one, which weighs
    every element by its size and needs no division by small numbers.
    """
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(ROWS, ROW, generator=generator) * 0.02
    expert = base + torch.randn(ROWS, ROW, generator=generator) * 0.001
    delta = (expert - base).double()
    decile = (delta.abs().argsort(dim=1).argsort(dim=1) * 10 // ROW).reshape(-1)
    squares = torch.zeros(10, dtype=torch.float64).index_add_(0, decile, (delta**2).reshape(-1))
    runs = torch.empty(SEEDS, 10, dtype=torch.float64)
    for seed in range(SEEDS):
        spec = MergeSpec.parse(
            base="zoo:base", experts="zoo:math", merge_method=method, rescale=rescale, seed=seed, **numbers
        )
        merged = merge_tensor_fast(spec, "w", base, [expert]).double() - base.double()
        runs[seed] = torch.zeros(10, dtype=torch.float64).index_add_(0, decile, (merged * delta).reshape(-1)) / squares
    return runs.mean(dim=0), runs.std(dim=0) / SEEDS**0.5


METHODS = pytest.mark.parametrize(
    ("method", "numbers"),
    [
        ("dare_linear", {"density": 0.5}),
        ("della", {"density": 0.5, "epsilon": 0.1}),
        ("della", {"density": 0.3, "epsilon": 0.28}),
        ("della_layer_norm", {"density": 0.5, "epsilon": 0.4}),
        ("della_norank", {"density": 0.5, "epsilon": 0.4}),
    ],
)


@METHODS
def test_the_inverse_of_the_keep_probability_is_unbiased_in_every_rank_decile(method, numbers):
    mean, error = decile_ratios(method, "inverse_keep", **numbers)
    assert bool(((mean - 1).abs() < 4 * error).all()), mean


@METHODS
def test_one_factor_for_the_l1_norm_is_not_where_probabilities_differ(method, numbers):
    """What mergekit does (rescale=l1): small magnitudes come out too small, large ones too large."""
    mean, error = decile_ratios(method, "l1", **numbers)
    biased = bool(((mean - 1).abs() > 4 * error).any())
    assert biased == ("epsilon" in numbers), mean

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from della_bench.merge.exact import exact_sum

FINITE = st.floats(allow_nan=False, allow_infinity=False)


@given(st.lists(FINITE, max_size=40))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_sum_of_float64_is_that_of_fractions(values):
    assert exact_sum(torch.tensor(values, dtype=torch.float64)) == sum(map(Fraction, values), Fraction(0))


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=40))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_sum_of_float32_rounds_to_fsum(values):
    assert float(exact_sum(torch.tensor(values, dtype=torch.float32))) == math.fsum(values)


def test_extremes_do_not_swallow_each_other():
    values = [1.7e308, 5e-324, -1.7e308, 2.0**-1022, 1.0, -5e-324]
    assert exact_sum(torch.tensor(values, dtype=torch.float64)) == 1 + Fraction(2) ** -1022


def test_a_long_sum_in_any_order_is_the_same():
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(100_000, generator=generator) * 10.0 ** torch.randint(-30, 30, (100_000,), generator=generator)
    order = torch.randperm(100_000, generator=generator)
    assert exact_sum(values) == exact_sum(values[order]) == exact_sum(values.reshape(100, 1000).T)
    assert float(exact_sum(values)) == math.fsum(values.tolist())


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_what_is_not_finite_is_refused(value):
    with pytest.raises(OverflowError):
        exact_sum(torch.tensor([1.0, value]))

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from della_bench.merge.whole import arc, weighted_sum


def f32(*values):
    return torch.tensor(values, dtype=torch.float32)


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def same_bits(one, other):
    return torch.equal(one.view(torch.int32), other.view(torch.int32))


def test_linear_is_the_weighted_sum_or_mean():
    experts = [f32(1, 2), f32(3, -4)]
    assert weighted_sum(experts, [1.0, 0.5], normalize=False).tolist() == [2.5, 0.0]
    assert weighted_sum(experts, [1.0, 3.0], normalize=True).tolist() == [2.5, -2.5]


def test_linear_weights_that_sum_to_0_divide_by_1():
    assert weighted_sum([f32(1), f32(3)], [1.0, -1.0], normalize=True).tolist() == [-2.0]
    (found,) = weighted_sum([f32(100), f32(100), f32(100)], [0.01, 0.04, -0.05], normalize=True).tolist()
    assert abs(found) < 1e-6  # the sum of these weights is -3.7e-9 in float32
    assert weighted_sum([f32(1), f32(4)], [1e-9, 2e-9], normalize=True).tolist() == [pytest.approx(3.0)]
    assert weighted_sum([f32(1), f32(4)], [float("inf"), 1.0], normalize=True).isnan().all()


def test_linear_of_one_expert_is_the_expert_with_its_negative_zeros():
    expert = f32(-0.0, 0.0, 1e-45, -7)
    assert same_bits(weighted_sum([expert], [1.0], normalize=True), expert)


def test_linear_adds_from_left_to_right_and_rounds_each_product():
    assert weighted_sum([f32(2.0**24), f32(1), f32(1)], [1.0] * 3, normalize=False).tolist() == [2.0**24]
    x, squared = 1 + 2**-12, 1 + 2**-11
    assert weighted_sum([f32(-squared), f32(x)], [1.0, x], normalize=False).tolist() == [0.0]


def test_linear_divides_and_does_not_multiply_by_a_reciprocal():
    values = torch.arange(1, 2000, dtype=torch.float32)
    divided = values.numpy() / np.float32(3)
    assert not np.array_equal(divided, values.numpy() * (np.float32(1) / np.float32(3)))
    assert np.array_equal(
        weighted_sum([values], [3.0], normalize=True).numpy(), values.numpy() * np.float32(3) / np.float32(3)
    )
    found = weighted_sum([values, values * 0], [1.0, 2.0], normalize=True)
    assert np.array_equal(found.numpy(), divided)


@pytest.mark.parametrize("t", [0.1, 0.5, 0.9])
def test_slerp_is_shoemakes_formula(t):
    base, expert = noise(6, 7), noise(6, 7, seed=1)
    a, b = base.double(), expert.double()
    angle = math.acos(float((a * b).sum() / (a.norm() * b.norm())))
    expected = (math.sin((1 - t) * angle) * a + math.sin(t * angle) * b) / math.sin(angle)
    assert torch.allclose(arc(base, expert, t).double(), expected, rtol=1e-6, atol=1e-6)


def test_slerp_of_equal_norms_keeps_the_norm():
    base, expert = noise(500), noise(500, seed=1)
    expert *= base.norm() / expert.norm()
    assert float(arc(base, expert, 0.3).norm()) == pytest.approx(float(base.norm()), rel=1e-5)


def test_slerp_between_right_angles_is_a_circle():
    found = arc(f32(1, 0), f32(0, 1), 1 / 3)
    assert found.tolist() == pytest.approx([math.cos(math.pi / 6), math.sin(math.pi / 6)])


def test_slerp_ends_are_the_two_tensors_to_the_bit():
    base, expert = f32(-0.0, 1e-45, 3), f32(5, -0.0, 1e38)
    assert same_bits(arc(base, expert, 0.0), base)
    assert same_bits(arc(base, expert, 1.0), expert)


@pytest.mark.parametrize(
    ("base", "expert"),
    [
        (f32(1, 2, 3), f32(2, 4, 6)),  # parallel
        (f32(1, 2, 3), f32(-2, -4, -6)),  # opposite
        (f32(1, 0), f32(1, 0.03)),  # cosine 0.99955
        (f32(0, 0), f32(1, 2)),
        (f32(1, 2), f32(0, 0)),
    ],
)
def test_slerp_takes_the_straight_line_where_there_is_no_arc(base, expert):
    low, high = torch.tensor(0.75), torch.tensor(0.25)
    assert same_bits(arc(base, expert, 0.25), base * low + expert * high)


def test_slerp_takes_the_arc_just_below_the_limit():
    base, expert = f32(1, 0), f32(1, 0.04)  # cosine 0.9992
    assert not same_bits(arc(base, expert, 0.25), base * torch.tensor(0.75) + expert * torch.tensor(0.25))


def test_slerp_does_not_depend_on_the_order_of_summation():
    base, expert = noise(20_000), noise(20_000, seed=1)
    order = torch.randperm(20_000, generator=torch.Generator().manual_seed(2))
    assert same_bits(arc(base, expert, 0.3)[order], arc(base[order], expert[order], 0.3))


def test_slerp_of_tiny_and_huge_tensors_stays_finite():
    base, expert = f32(3e38, 1e38), f32(-1e-45, 1e-45)
    assert bool(arc(base, expert, 0.5).isfinite().all())

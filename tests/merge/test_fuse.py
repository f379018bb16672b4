from __future__ import annotations

import pytest
import torch

from della_bench.merge.fuse import ada_ratio, add_to_base, agreeing, fuse


def f32(*values):
    return torch.tensor(values, dtype=torch.float32)


def masks(deltas, elect):
    return [mask.tolist() for mask in agreeing(deltas, elect)]


def fused(deltas, weights, elect="sum", *, normalize=False, scaling="lambda"):
    return fuse(deltas, weights, elect=elect, normalize=normalize, scaling=scaling)[0].tolist()


def test_the_sign_of_the_sum_is_elected():
    deltas = [f32(3, -3, 1), f32(-1, 1, 1), f32(-1, 1, -3)]
    assert masks(deltas, "sum") == [[True, True, False], [False, False, False], [False, False, True]]


def test_the_sign_of_most_experts_is_elected():
    deltas = [f32(3, -3, 1), f32(-1, 1, 1), f32(-1, 1, -3)]
    assert masks(deltas, "count") == [[False, False, True], [True, True, True], [True, True, False]]


@pytest.mark.parametrize("elect", ["sum", "count"])
def test_a_draw_counts_as_positive(elect):
    assert masks([f32(2, -2), f32(-2, 2)], elect) == [[True, False], [False, True]]


@pytest.mark.parametrize("elect", ["sum", "count", "none"])
def test_a_zero_never_takes_part(elect):
    assert masks([f32(0, -0.0, 0), f32(-0.0, -1, 1)], elect) == [[False, False, False], [False, True, True]]


def test_opposite_infinities_count_as_positive_and_a_nan_has_no_sign():
    inf, nan = float("inf"), float("nan")
    assert masks([f32(inf, nan), f32(-inf, -1)], "sum") == [[True, False], [False, False]]
    assert masks([f32(nan, nan), f32(-1, 1)], "count") == [[False, False], [True, True]]


def test_weights_come_before_the_election():
    assert fused([f32(1, 1), f32(-2, -2)], [1.0, 0.25]) == [1.0, 1.0]
    assert fused([f32(1, 1), f32(-2, -2)], [1.0, 1.0]) == [-2.0, -2.0]
    assert fused([f32(1, 1), f32(-2, -2)], [1.0, -1.0]) == [3.0, 3.0]


def test_the_mean_is_over_the_weights_of_those_that_agree():
    deltas = [f32(2, 2, 0), f32(4, -1, 0), f32(6, 6, -6)]
    assert fused(deltas, [1.0, 1.0, 2.0], normalize=True) == pytest.approx([18 / 4, 14 / 3, -6.0])


def test_without_an_election_the_mean_is_over_all_weights():
    assert fused([f32(2, 0), f32(4, 8)], [1.0, 3.0], "none", normalize=True) == [3.5, 6.0]


@pytest.mark.parametrize("elect", ["sum", "none"])
def test_weights_that_sum_to_0_divide_by_1(elect):
    assert fused([f32(2), f32(-2)], [1.0, -1.0], elect, normalize=True) == [4.0]


def test_weights_that_sum_to_0_but_for_rounding_divide_by_1_without_an_election():
    """As in mergekit. The sum of the first ones in float32 is -3.7e-9."""
    for weights, elect, expected in [
        ([0.01, 0.04, -0.05], "none", 10.0),
        ([1e-9, 2e-9, 0.0], "none", 3e-7),
        ([1e-9, 2e-9, 0.0], "sum", 100.0),
    ]:
        assert fused([f32(100), f32(100), f32(-100)], weights, elect, normalize=True) == [pytest.approx(expected)]


def test_a_mask_says_where_any_expert_takes_part():
    _, takes_part = fuse([f32(0, 1, 0), f32(0, 0, -1)], [1.0, 1.0], elect="sum", normalize=True, scaling="lambda")
    assert takes_part.tolist() == [False, True, True]


@pytest.mark.parametrize(
    ("scaling", "expected"),
    [
        ("ada_row", [[1.5] * 4, [1.0] * 4, [1.0] * 4]),
        ("ada_row_inv", [[torch.tensor(2 / 3).item()] * 4, [1.0] * 4, [0.0] * 4]),
        ("ada_layer", [[torch.tensor(5 / 3).item()] * 4] * 3),
    ],
)
def test_ada_ratio_is_non_zeros_before_over_after_the_election(scaling, expected):
    delta = torch.tensor([[1.0, -2.0, 0.0, 3.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 7.0]])
    agrees = torch.tensor([[True, False, False, True], [False, True, False, False], [False] * 4])
    assert ada_ratio(delta, agrees, scaling).tolist() == expected


@pytest.mark.parametrize("scaling", ["ada_row", "ada_row_inv", "ada_layer"])
def test_ada_ratio_of_nothing_over_nothing_is_1(scaling):
    assert ada_ratio(torch.zeros(2, 3), torch.zeros(2, 3, dtype=torch.bool), scaling).tolist() == [[1.0] * 3] * 2


def test_ada_scales_each_expert_before_they_are_added():
    deltas = [torch.tensor([[1.0, 1.0, -1.0]]), torch.tensor([[2.0, 2.0, 2.0]])]
    assert fused(deltas, [1.0, 1.0], scaling="ada_row") == [[3.5, 3.5, 2.0]]


def test_experts_are_added_from_left_to_right():
    big, one = f32(2.0**24), f32(1)
    assert fused([big, one, one, -big], [1.0] * 4, "none") == [0.0]
    assert fused([one, one, big, -big], [1.0] * 4, "none") == [2.0]


def test_weights_are_added_from_left_to_right_in_float32():
    weights = [2.0**24, 1.0, 1.0]
    assert fused([f32(1), f32(0), f32(0)], weights, "none", normalize=True) == [1.0]


def test_each_product_is_rounded_before_it_is_added():
    x, squared = 1 + 2**-12, 1 + 2**-11  # x * x is squared + 2**-24, which float32 cannot hold
    assert fused([f32(-squared), f32(x)], [1.0, x], "none") == [0.0]
    assert add_to_base(f32(-squared), f32(x), torch.tensor([True]), x, torch.float32).tolist() == [0.0]


def test_the_sum_is_rounded_to_the_dtype_once():
    # In bfloat16 arithmetic 256 + 0.75 is 256, and so is 256 + 0.75 + 0.75.
    found = add_to_base(
        torch.tensor([256.0], dtype=torch.bfloat16), f32(1.5), torch.tensor([True]), 1.0, torch.bfloat16
    )
    assert found.tolist() == [258.0]


@pytest.mark.parametrize(("takes_part", "scale"), [(False, 1.0), (True, 0.0)])
def test_the_base_stays_where_nothing_is_added(takes_part, scale):
    base = f32(-0.0, 1e-45, -3)
    found = add_to_base(base, f32(0, 5, float("inf")), torch.tensor([takes_part] * 3), scale, torch.float32)
    assert torch.equal(found.view(torch.int32), base.view(torch.int32))

"""The compiled loops against the torch reference, which the oracle's tests hold to the written definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings

from della_bench.checkpoint import HostTensor
from della_bench.merge.kernels import cpu
from della_bench.merge.kernels.coverage import BrokenSourceError
from della_bench.merge.kernels.dispatch import is_finite, merge_tensor_fast
from della_bench.merge.tensor import merge_tensor
from tests.merge.compare import DTYPES, Case, assert_same, tensor_of
from tests.merge.oracle import DELTA_RULES
from tests.merge.test_tensor import cases
from tests.merge.values import FLAVOURS, SHAPES, values


def both(case, base, experts, dtype, expert_dtype=None):
    """Merge by the reference and by the kernels; the two must be equal."""
    own = expert_dtype or dtype
    tensors = [tensor_of(base, dtype), *(tensor_of(expert, own) for expert in experts)]
    out = DTYPES[case.dtype] if case.dtype else DTYPES[dtype]
    found = merge_tensor_fast(case.spec, case.name, tensors[0], tensors[1:], out)
    expected = merge_tensor(case.spec, case.name, tensors[0], tensors[1:], out)
    assert_same(found, expected.float().numpy(), case.dtype or dtype)


@given(cases())
@settings(deadline=None, derandomize=True, max_examples=400)
def test_any_numbers_and_choices_give_the_references_bits(drawn):
    case, base, experts, dtype, expert_dtype = drawn
    on_grid = [tensor_of_any(expert, expert_dtype) for expert in experts]
    both(case, tensor_of_any(base, dtype), on_grid, dtype, expert_dtype)


def tensor_of_any(made, dtype):
    return torch.from_numpy(np.array(made)).to(DTYPES[dtype]).float().numpy()


@pytest.mark.parametrize("method", DELTA_RULES)
@pytest.mark.parametrize("rescale", ["inverse_keep", "l1"])
def test_every_shape_and_kind_of_values_gives_the_references_bits(method, rescale):
    case = Case(method, weights=(1.0, 0.5, -0.3), lambda_=1.1, rescale=rescale)
    for dtype in DTYPES:
        for shape in SHAPES:
            for flavour in FLAVOURS:
                base, *experts = [values(flavour, shape, dtype, seed) for seed in range(4)]
                both(case, base, experts, dtype)


@pytest.mark.parametrize("method", DELTA_RULES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(70, 1000), (3, 40_000), (90_001,)])
def test_tensors_of_several_blocks_give_the_references_bits(method, dtype, shape):
    base = values("normal", shape, dtype, 0)
    experts = [tensor_of_any(base + values("ties", shape, dtype, k) * np.float32(0.02), dtype) for k in (1, 2, 3)]
    both(Case(method, weights=(1.0, 0.7, 1.3), densities=(0.4,), epsilon=0.14), base, experts, dtype)


@pytest.mark.parametrize("method", ["della", "ties", "dare_ties", "della_ada_layer", "della_layer_norm"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_number_of_threads_changes_no_bit(method, dtype):
    case = Case(method, weights=(1.0, 0.7))
    base, *experts = [
        torch.randn(1300, 700, generator=torch.Generator().manual_seed(k)).to(DTYPES[dtype]) for k in range(3)
    ]
    before = torch.get_num_threads()
    try:
        found = []
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            found.append(merge_tensor_fast(case.spec, "w", base, experts))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(found[0].view(torch.uint8), other.view(torch.uint8)) for other in found[1:])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_value_that_is_not_finite_is_found_wherever_it_stands(dtype, value):
    tensor = torch.linspace(-3, 3, 999).to(dtype)
    assert is_finite(tensor)
    for position in (0, 500, 998):
        broken = tensor.clone()
        broken[position] = value
        assert not is_finite(broken)


def test_a_merge_that_the_kernels_do_not_cover_goes_to_the_reference():
    base = torch.randn(4, 4, dtype=torch.float64)
    case = Case("della")
    assert not cpu.supports(case.spec.at(""), [HostTensor.of(base)] * 3, "F64")
    assert not cpu.supports(case.spec.at(""), [HostTensor.of(base.float())] * 3, "F64")
    assert cpu.supports(case.spec.at(""), [HostTensor.of(base.float())] * 3, "F32")
    assert torch.equal(
        merge_tensor_fast(case.spec, "w", base, [base + 1, base]), merge_tensor(case.spec, "w", base, [base + 1, base])
    )


@pytest.mark.parametrize("method", [*DELTA_RULES, "linear"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("position", [0, 1, 2])
def test_a_source_that_is_not_finite_is_told_by_its_position(method, dtype, position):
    case = Case(method, weights=(1.0, 1.0))
    for bits in (0x7F800000, 0xFF800000, 0x7FC00000, 0x7FFFFFFF):  # the infinities, and the NaNs of least and most bits
        broken = torch.from_numpy(np.array([bits], np.uint32).view(np.float32))
        tensors = [torch.full((3, 9000), 0.5, dtype=DTYPES[dtype]) for _ in range(3)]
        if bits == 0x7FFFFFFF and dtype != "float32":
            tensors[position].view(torch.int16)[2, 8999] = 0x7FFF
        else:
            tensors[position][2, 8999] = broken
        with pytest.raises(BrokenSourceError) as caught:
            merge_tensor_fast(case.spec, "w", tensors[0], tensors[1:])
        assert caught.value.position == position


def test_a_float32_expert_of_nan_over_a_base_of_another_dtype_is_told():
    """Its key would lie beyond all tables."""
    base, expert = torch.zeros(9000, dtype=torch.bfloat16), torch.zeros(9000)
    expert.view(torch.int32)[17] = 0x7FFFFFFF
    for method in DELTA_RULES:
        with pytest.raises(BrokenSourceError):
            merge_tensor_fast(Case(method, weights=(1.0,)).spec, "w", base, [expert])


@pytest.mark.parametrize("experts", [2, 3, 4])
@pytest.mark.parametrize("elect", ["sum", "count", "none"])
def test_a_sum_of_weights_that_is_only_rounding_gives_the_references_bits(elect, experts):
    weights = {2: (1e-9, 0.5), 3: (0.01, 0.04, -0.05), 4: (0.01, 0.04, -0.05, 0.0)}[experts]
    base, *others = [values("normal", (9, 100), "bfloat16", seed) for seed in range(experts + 1)]
    both(Case("dare_ties", weights=weights, elect=elect, normalize=True), base, others, "bfloat16")


@pytest.mark.parametrize("method", ["ties", "dare_ties", "della_ada_row"])
def test_a_weight_beyond_float32_gives_the_references_bits(method):
    """Infinity times a zero is NaN, where a mask would leave the zero."""
    base, *experts = [values("normal", (9, 100), "bfloat16", seed) for seed in range(4)]
    both(Case(method, weights=(1e39, 1.0, 1.0), normalize=True), base, experts, "bfloat16")

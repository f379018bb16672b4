"""The Triton kernels against the torch reference: on a GPU where there is one, else in Triton's interpreter.

The interpreter takes a tenth of a second and more for one program, so that shapes are small and few there; what it
cannot show (races, the compiler's rounding) the tests marked `gpu` do.
"""

# ruff: noqa: E402 (Triton reads its environment when it is imported)

from __future__ import annotations

import os

import pytest
import torch

GPU = torch.cuda.is_available()
if not GPU:
    os.environ.setdefault("TRITON_INTERPRET", "1")

tl = pytest.importorskip("triton.language", reason="Triton is not installed")

import triton

if not GPU and isinstance(tl.sum, triton.JITFunction):
    pytest.skip("Triton was imported before TRITON_INTERPRET=1 was set", allow_module_level=True)

from della_bench.merge.kernels import gpu, gpu_grid
from della_bench.merge.kernels.dispatch import merge_tensor_fast
from della_bench.merge.tensor import merge_tensor
from tests.merge.compare import DTYPES, Case, assert_same, tensor_of
from tests.merge.oracle import DELTA_RULES
from tests.merge.test_own_methods import with_unknown
from tests.merge.values import FLAVOURS, values

DEVICE = "cuda" if GPU else "cpu"
KINDS = ("task_arithmetic", "dare_ties", "ties", "ties_row", "della", "della_layer_norm", "della_norank")
# numpy, in which the interpreter computes, warns where values overflow.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def both(case, base, experts, dtype=None):
    """Merge by the reference, on the CPU, and by the kernels; the two must be equal."""
    dtype = dtype or base.dtype
    moved = base.to(DEVICE), [expert.to(DEVICE) for expert in experts]
    assert gpu.supports(case.spec.at(""), *moved, dtype)
    found = gpu.merge_tensor_gpu(case.spec.at(case.name), case.name, *moved, dtype)
    assert found.device.type == DEVICE
    expected = merge_tensor(case.spec, case.name, base, experts, dtype)
    name = next(name for name, one in DTYPES.items() if one == dtype)
    assert_same(found.cpu(), expected.float().numpy(), name)


def tensors(flavour, shape, dtype, count=3):
    base, *experts = [tensor_of(values(flavour, shape, dtype, seed), dtype) for seed in range(count + 1)]
    return base, experts


def slight_change(base, k):
    """Return base with a tenth of a standard deviation added, of which many are zeros and ties in 16 bits."""
    noise = torch.randn(base.shape, generator=torch.Generator().manual_seed(k + 1))
    return (base.float() + 0.1 * noise.round(decimals=1)).to(base.dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("method", DELTA_RULES)
def test_every_method_gives_the_references_bits(method, dtype):
    base, _ = tensors("normal", (2, 20), dtype)
    both(Case(method, weights=(1.0, -0.3), lambda_=1.1), base, [slight_change(base, k) for k in range(2)])


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("method", KINDS)
def test_every_kind_of_values_gives_the_references_bits(method, flavour):
    """Ties, rows of equal values, zeros of both signs, denormals and sums that overflow, in a dtype after the other."""
    dtype = list(DTYPES)[(KINDS.index(method) + FLAVOURS.index(flavour)) % 3]
    both(Case(method, weights=(1.0, 0.5, 1.3), lambda_=1.1), *tensors(flavour, (1, 12), dtype))


@pytest.mark.parametrize("shape", [(), (1,), (37,), (5, 1), (1, 9), (2, 7), (2, 2, 3)])
@pytest.mark.parametrize("method", KINDS)
def test_every_shape_gives_the_references_bits(method, shape):
    dtype = list(DTYPES)[(KINDS.index(method) + len(shape)) % 3]
    both(Case(method, weights=(1.0, 0.7)), *tensors("mixed" if shape else "normal", shape, dtype, 2))


@pytest.mark.parametrize("elect", ["sum", "count", "none"])
@pytest.mark.parametrize("normalize", [True, False])
def test_every_election_gives_the_references_bits(elect, normalize):
    base, experts = tensors("ties", (2, 24), "bfloat16", 4)
    both(Case("dare_ties", weights=(1.0, -1.0, 0.0, 0.3), elect=elect, normalize=normalize), base, experts)


@pytest.mark.parametrize("rescale", ["l1", "none"])
@pytest.mark.parametrize("method", KINDS[1:])
@pytest.mark.parametrize("flavour", ["normal", "huge"])
def test_every_rescale_gives_the_references_bits(method, rescale, flavour):
    dtype = list(DTYPES)[KINDS.index(method) % 3]
    both(Case(method, weights=(1.0, 0.7), rescale=rescale), *tensors(flavour, (2, 12), dtype, 2))


def test_dtypes_may_differ_between_base_experts_and_result():
    base, (bfloat, half) = tensors("normal", (3, 8), "float32", 2)
    experts = [bfloat.bfloat16(), half.half()]
    both(Case("della", weights=(1.0, 0.7)), base.bfloat16(), experts, torch.float32)
    both(Case("ties", weights=(1.0, 0.7)), base.half(), experts, torch.bfloat16)
    both(Case("della_norank", weights=(1.0, 0.7)), base, experts, torch.float16)


def test_one_expert_may_keep_all_while_others_drop():
    base, experts = tensors("normal", (2, 12), "bfloat16")
    for method in ("della", "ties"):
        both(Case(method, weights=(1.0, 0.7, 1.0), densities=(0.5, 1.0, 0.3), epsilon=0.1), base, experts)


def test_a_threshold_of_2_to_the_32_keeps_the_largest():
    base, experts = tensors("normal", (2, 12), "bfloat16", 2)
    for method in ("della", "della_layer_norm", "della_norank"):
        both(Case(method, weights=(1.0, 1.0), densities=(0.8,), epsilon=0.2), base, experts)


@pytest.mark.parametrize("method", ["della", "della_ada_row", "ties_row", "della_layer_norm"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_rows_in_several_chunks_and_tiles_give_the_references_bits(monkeypatch, method, dtype):
    monkeypatch.setattr(gpu_grid, "SCRATCH", 1)  # a chunk of one row
    monkeypatch.setattr(gpu_grid, "_TILE", 16)
    base, _ = tensors("normal", (2, 50), dtype)
    both(Case(method, weights=(1.0, 0.7)), base, [slight_change(base, k) for k in range(2)])


def test_equals_at_a_cut_are_kept_from_the_first_across_tiles(monkeypatch):
    monkeypatch.setattr(gpu_grid, "_TILE", 16)
    base = torch.zeros(2, 70)
    for method in ("ties", "ties_row", "ties_ada_row"):
        both(Case(method, weights=(1.0,), densities=(0.6,)), base, [base + 1])


def test_a_merge_that_the_kernels_do_not_cover_is_named_so():
    base = torch.zeros(4, 4, device=DEVICE)
    assert gpu.supports(Case("della").spec.at(""), base, [base, base], base.dtype)
    assert not gpu.supports(Case("della").spec.at(""), base.double(), [base, base], torch.float64)
    assert not gpu.supports(Case("della").spec.at(""), base, [base, base.double()], base.dtype)
    assert not gpu.supports(Case("linear").spec.at(""), base, [base, base], base.dtype)
    assert not gpu.supports(Case("della").spec.at(""), base[:0], [base[:0], base[:0]], base.dtype)
    assert not gpu.supports(Case("della", lambda_=0.0).spec.at(""), base, [base, base], base.dtype)
    many = Case("della", weights=(1.0,) * 9)
    assert not gpu.supports(many.spec.at(""), base, [base] * 9, base.dtype)
    ranked, norank = Case("della", weights=(1.0,)), Case("della_norank", weights=(1.0,))
    long = base.reshape(-1)[:1].expand(2**20 + 1)
    assert not gpu.supports(ranked.spec.at(""), long, [long], base.dtype)
    assert gpu.supports(norank.spec.at(""), long, [long], base.dtype)


@pytest.mark.parametrize("column", ["drop", "elect", "scaling", "rescale"])
def test_a_choice_that_the_kernels_do_not_know_is_not_covered(monkeypatch, column):
    base = torch.zeros(4, 4, device=DEVICE)
    assert not gpu.supports(with_unknown(column, monkeypatch).at(""), base, [base, base], base.dtype)


SIZES = [(method, shape) for method in KINDS for shape in ((3, 131_072), (4096, 11_008))]


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("method", "shape"), [*SIZES, *((method, (513, 1003)) for method in DELTA_RULES)])
def test_tensors_of_real_size_give_the_references_bits_on_a_gpu(method, dtype, shape):
    generator = torch.Generator("cuda").manual_seed(0)

    def normal(scale):
        return scale * torch.randn(shape, device="cuda", generator=generator)

    base = normal(0.02).to(DTYPES[dtype])
    experts = [(base.float() + normal(0.001)).to(base.dtype) for _ in range(3)]
    case = Case(method, weights=(1.0, 0.7, 1.3), densities=(0.4,), epsilon=0.14, lambda_=1.1)
    assert gpu.supports(case.spec.at(""), base, experts, base.dtype)
    found = merge_tensor_fast(case.spec, case.name, base, experts)
    assert found.is_cuda
    # By the CPU's loops, which other tests hold to the reference: the reference itself takes minutes here.
    on_cpu = merge_tensor_fast(case.spec, case.name, base.cpu(), [expert.cpu() for expert in experts])
    assert_same(found.cpu(), on_cpu.float().numpy(), dtype)


@pytest.mark.gpu
def test_the_same_merge_twice_gives_the_same_bits_on_a_gpu():
    base, experts = tensors("normal", (300, 700), "bfloat16")
    moved = base.cuda(), [expert.cuda() for expert in experts]
    for method in KINDS:
        case = Case(method, weights=(1.0, 0.5, 1.3))
        first, again = (merge_tensor_fast(case.spec, case.name, *moved) for _ in range(2))
        assert torch.equal(first.view(torch.int16), again.view(torch.int16))

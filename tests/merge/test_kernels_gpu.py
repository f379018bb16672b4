"""The Triton kernels against the torch reference: on a GPU where there is one, else in Triton's interpreter.

The interpreter takes a tenth of a second and more for one program, so that shapes are small and few there; what it
cannot show (races, the compiler's rounding) the tests marked `gpu` do.
"""

# ruff: noqa: E402 (Triton reads its environment when it is imported)

from __future__ import annotations

import math
import os

import numpy as np
import pytest
import torch

GPU = torch.cuda.is_available()
if not GPU:
    os.environ.setdefault("TRITON_INTERPRET", "1")

tl = pytest.importorskip("triton.language", reason="Triton is not installed")

import triton

if not GPU and isinstance(tl.sum, triton.JITFunction):
    pytest.skip("Triton was imported before TRITON_INTERPRET=1 was set", allow_module_level=True)

from della_bench.merge.kernels import dispatch, gpu, gpu_cuts, gpu_grid, gpu_plan
from della_bench.merge.kernels.dispatch import merge_device_tensors, merge_tensor_fast
from della_bench.merge.kernels.gpu_plan import plan_of
from della_bench.merge.kernels.gpu_table import spread, upload
from della_bench.merge.kernels.job import Job
from della_bench.merge.tensor import merge_tensor
from tests.merge.compare import DTYPES, Case, assert_same, tensor_of
from tests.merge.oracle import DELTA_RULES
from tests.merge.test_own_methods import with_unknown
from tests.merge.values import FLAVOURS, values

DEVICE = "cuda" if GPU else "cpu"


@pytest.fixture(autouse=True)
def no_plan_of_another_test():
    """Plans are kept, with the size of tiles that some tests change."""
    plan_of.cache_clear()
    yield
    plan_of.cache_clear()


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
    for weights in [(1.0, -1.0, 0.0, 0.3), (0.01, 0.04, -0.05, 0.0)]:  # whose sum is 0 but for rounding
        both(Case("dare_ties", weights=weights, elect=elect, normalize=normalize), base, experts)


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


def together(case, tensors, dtype=torch.bfloat16):
    """Merge named tensors (base, *experts) at once."""
    moved = {name: [source.to(DEVICE) for source in sources] for name, sources in tensors.items()}
    return merge_device_tensors([Job(case.spec.at(name), name, s[0], s[1:], dtype) for name, s in moved.items()])


@pytest.mark.parametrize("method", [*KINDS, "della_ada_row", "linear"])
def test_tensors_that_are_merged_at_once_are_those_merged_one_by_one(monkeypatch, method):
    monkeypatch.setattr(dispatch, "_plan", gpu.plan_for)
    monkeypatch.setattr(gpu_grid, "_TILE", 16)
    case = Case(method, weights=(1.0, 0.7), rescale="none" if method == "linear" else "inverse_keep")
    bases = {"a": (3, 50), "b": (37,), "c": (2, 64), "d": (1, 9), "e": (64,), "f": (2, 50)}
    made = {}
    for name, shape in bases.items():
        base, _ = tensors("normal", shape, "bfloat16")
        made[name] = [base, *(slight_change(base, k) for k in range(2))]
    made["c"][0] = made["c"][0].half()  # of another dtype, and so in a launch of its own
    merges = together(case, made)
    assert merges.first_fault() is None
    for name, found in zip(made, merges.tensors, strict=True):
        expected = merge_tensor(case.spec, name, made[name][0], made[name][1:], torch.bfloat16)
        assert_same(found.cpu(), expected.float().numpy(), "bfloat16")


def test_a_row_of_too_wide_a_span_for_its_bins_is_merged_all_the_same():
    base, experts = tensors("normal", (3, 40), "bfloat16", 2)
    experts[1][1] = base[1] + torch.logspace(-30, 20, 40, base=10)
    both(Case("della", weights=(1.0, 0.7)), base, experts)
    both(Case("della", weights=(1.0, 0.7)), base, [base, torch.zeros_like(base)])  # an expert without any change


def test_changes_that_round_to_zero_have_a_rank_of_their_own_where_all_are_as_small():
    """Where the largest key of a row is small, that of a zero lies as near to it as others do."""
    base = torch.zeros(2, 60, dtype=torch.bfloat16)
    change = torch.randn(2, 60, generator=torch.Generator().manual_seed(1))
    expert = change * torch.where(torch.arange(60) % 2 == 0, 1e-36, 1e-42)
    for density in (0.3, 0.7):
        both(Case("della", weights=(1.0,), densities=(density,), epsilon=0.2), base, [expert], torch.float32)


def test_an_expert_that_leaves_a_row_as_it_is_looks_up_no_rule_beyond_the_table(monkeypatch):
    """What lies behind the table here would keep elements and make them NaN."""
    rules = gpu_grid.rank_rules

    def surrounded(*where):
        found = rules(*where)
        return torch.cat([found, torch.full((70_000, 2), -1, dtype=torch.int32, device=found.device)])[: len(found)]

    monkeypatch.setattr(gpu_plan, "rank_rules", surrounded)
    for n in (64, 200):
        base = torch.randn(2, n, generator=torch.Generator().manual_seed(1)).bfloat16()
        changed = (base - torch.rand(2, n, generator=torch.Generator().manual_seed(2))).bfloat16()
        both(Case("della", weights=(1.0, 0.7)), base, [base, changed])
        both(Case("della", weights=(1.0,)), 0 * base, [torch.arange(1.0, n + 1).repeat(2, 1).bfloat16() * 2**-133])


def test_a_delta_that_is_no_number_takes_no_part_in_an_election():
    """Where a rescaled delta is infinite, a weight of 0 makes it NaN."""
    base = torch.full((1, 300), -0.0, dtype=torch.bfloat16)
    experts = [torch.full_like(base, value) for value in (-3.19e38, 0.1001, 1.25)]
    case = Case("ties", weights=(0.0, 1.0, 0.7), densities=(0.1, 0.1, 1.0), rescale="inverse_keep")
    both(case, base, experts)


def equals_and_others(n=5000):
    """A base, and an expert of which half the magnitudes are equal."""
    base = torch.zeros(n)
    return base, torch.where(torch.arange(n) % 2 == 0, 1.0, torch.linspace(0.5, 2, n))


def test_equals_at_a_cut_are_kept_by_their_words_whatever_their_number():
    base, expert = equals_and_others()
    for dtype in (torch.bfloat16, torch.float32):
        for density in (0.1, 0.5, 0.9):
            both(Case("ties", weights=(1.0,), densities=(density,)), base.to(dtype), [expert.to(dtype)])


def test_a_cut_whose_last_word_lies_where_it_was_not_looked_for_is_found_another_way(monkeypatch):
    monkeypatch.setattr(gpu_cuts, "_DEVIATIONS", 0)
    monkeypatch.setattr(gpu_cuts, "_SPARE", 0)
    base, expert = equals_and_others()
    monkeypatch.setattr(dispatch, "_plan", gpu.plan_for)
    assert int(together(Case("ties", weights=(1.0,)), {"w": [base, expert]}, base.dtype).found) == 4
    both(Case("ties", weights=(1.0,)), base, [expert])


SAMPLE = 16_384  # elements of a tensor that a cut is guessed from


@pytest.mark.parametrize(
    ("dtype", "density"), [("bfloat16", 0.5), ("bfloat16", 0.1), ("float16", 0.3), ("float32", 0.2)]
)
def test_a_cut_through_a_fine_tunes_usual_changes_is_found_at_once(monkeypatch, dtype, density):
    """Of a base in bfloat16 a fifth of the changes may be equal, and a hundredth where few are kept."""
    monkeypatch.setattr(dispatch, "_plan", gpu.plan_for)
    generator = torch.Generator().manual_seed(3)
    made = {}
    for name, n in (("a", 25_000), ("b", 300), ("c", 17_000)):
        base = (0.02 * torch.randn(n, generator=generator)).to(DTYPES[dtype])
        changes = (0.0002 * torch.randn(n, generator=generator) for _ in range(2))
        made[name] = [base, *((base.float() + change).to(base.dtype) for change in changes)]
    case = Case("ties", weights=(1.0, 0.7), densities=(density,))
    merges = together(case, made, DTYPES[dtype])
    assert merges.found.tolist() == [0, 0, 0]
    for name, found in zip(made, merges.tensors, strict=True):
        expected = merge_tensor(case.spec, name, made[name][0], made[name][1:], DTYPES[dtype])
        assert_same(found.cpu(), expected.float().numpy(), dtype)


def test_programs_are_numbered_by_the_part_that_they_work_on():
    counts = torch.tensor([3, 1, 2000, 1, 37])
    (firsts,) = upload(torch.device(DEVICE), (counts.cumsum(0) - counts).to(torch.int32).numpy())
    found = spread(firsts, int(counts.sum()))
    assert torch.equal(found.cpu(), torch.arange(5, dtype=torch.int32).repeat_interleave(counts))


def test_arrays_of_any_length_and_dtype_arrive_in_one_copy():
    arrays = [
        np.arange(7, dtype=np.int32),
        np.array([[1.5], [2.5]], np.float32),
        np.arange(3),
        np.zeros((0, 4), np.int32),
    ]
    for sent, found in zip(arrays, upload(torch.device(DEVICE), *arrays), strict=True):
        assert found.device.type == DEVICE
        np.testing.assert_array_equal(found.cpu().numpy(), sent, strict=True)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_sample_that_misleads_changes_no_bit(dtype):
    """Runs of 64 elements are sampled; what lies between is a thousand times as small."""
    n = 3 * SAMPLE
    base, (expert,) = tensors("normal", (n,), dtype, 1)
    between = torch.arange(n) % (64 * n // SAMPLE) >= 64
    expert = torch.where(between, base + 0.001 * (expert.float() - base.float()), expert).to(base.dtype)
    both(Case("ties", weights=(1.0,), densities=(0.5,)), base, [expert])


@pytest.mark.parametrize("method", ["task_arithmetic", "dare_ties", "ties", "della", "della_layer_norm"])
def test_what_is_not_finite_is_told_from_what_overflows(monkeypatch, method):
    monkeypatch.setattr(dispatch, "_plan", gpu.plan_for)
    base, experts = tensors("normal", (2, 40), "bfloat16", 2)
    case = Case(method, weights=(1.0, 1.0))
    for place in range(3):
        sources = [tensor.clone() for tensor in (base, *experts)]
        sources[place][1, 7] = math.nan if place else math.inf
        assert together(case, {"a": [base, *experts], "b": sources}).first_fault() == (1, place)
    huge = torch.full_like(base, 3e38)
    assert together(case, {"a": [base, *experts], "b": [base, huge, huge]}).first_fault() == (1, None)
    assert together(case, {"a": [base, *experts]}, torch.float16).first_fault() is None
    large = torch.full_like(base, 70_000)
    assert together(case, {"a": [large, large, large]}, torch.float16).first_fault() == (0, None)


@pytest.mark.parametrize("method", ["ties", "ties_row", "della", "della_ada_row", "della_layer_norm", "della_norank"])
def test_a_nan_of_any_bits_anywhere_is_named(monkeypatch, method):
    """A GPU's own NaN has all bits set, which must not be rounded up to a key that no table has room for."""
    monkeypatch.setattr(dispatch, "_plan", gpu.plan_for)
    base, (expert, other) = tensors("normal", (3, 40), "bfloat16", 2)
    broken = expert.float()
    broken[2] = torch.tensor(0x7FFFFFFF, dtype=torch.int32).view(torch.float32)
    case = Case(method, weights=(1.0, 1.0))
    assert together(case, {"a": [base, expert, other], "b": [base, broken, other]}).first_fault() == (1, 1)


def test_nans_that_a_sample_misses_are_named(monkeypatch):
    """More of them than are kept, so that the cut itself is one."""
    monkeypatch.setattr(dispatch, "_plan", gpu.plan_for)
    n = 3 * SAMPLE
    base, (expert,) = tensors("normal", (n,), "bfloat16", 1)
    broken = expert.float()
    broken[70:190] = torch.tensor(0x7FFFFFFF, dtype=torch.int32).view(torch.float32)
    case = Case("ties", weights=(1.0,), densities=(0.002,))
    assert together(case, {"a": [base, broken]}).first_fault() == (0, 1)


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


@pytest.mark.gpu
@pytest.mark.parametrize("method", KINDS)
def test_a_models_tensors_at_once_give_the_references_bits_on_a_gpu(method):
    generator = torch.Generator("cuda").manual_seed(0)
    shapes = [(3000, 1024), (1024,), (1024, 2816), (2816, 1024), (64, 64), (7, 1003), (512, 11_008)]
    made = {}
    for index, shape in enumerate(shapes * 3):
        base, *noise = (torch.randn(shape, device="cuda", generator=generator) for _ in range(4))
        made[f"t{index}"] = [tensor.bfloat16() for tensor in (0.02 * base, *(0.02 * base + 0.0002 * d for d in noise))]
    case = Case(method, weights=(1.0, 0.7, 1.3), densities=(0.4,), epsilon=0.14, lambda_=1.1)
    merges = together(case, made)
    assert merges.first_fault() is None
    for name, found in zip(made, merges.tensors, strict=True):
        base, *experts = (tensor.cpu() for tensor in made[name])
        on_cpu = merge_tensor_fast(case.spec, name, base, experts)
        assert_same(found.cpu(), on_cpu.float().numpy(), "bfloat16")

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from della_bench.merge.tensor import merge_tensor
from tests.merge.compare import DTYPES, Case, assert_same, check, tensor_of
from tests.merge.oracle import DELTA_RULES, RULES
from tests.merge.values import FLAVOURS, SHAPES, values

LAMBDA_RULES = [name for name, rule in DELTA_RULES.items() if rule.scaling == "lambda"]
FIXED = settings(deadline=None, derandomize=True)


def experts_of(method):
    return 1 if method in ("slerp", "passthrough") else 3


def same_bits(one, other):
    return torch.equal(one.contiguous().view(torch.uint8), other.contiguous().view(torch.uint8))


def random_tensors(count, *shape, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator).to(dtype) for _ in range(count)]


@pytest.mark.parametrize("method", RULES)
def test_every_shape_and_kind_of_values_gives_the_oracles_bits(method):
    weights = {"slerp": (0.3,), "passthrough": (1.0,)}.get(method, (1.0, 0.5, -0.3))
    case = Case(method, weights=weights, lambda_=1.1)
    for dtype in DTYPES:
        for shape in SHAPES:
            for flavour in FLAVOURS:
                base, *experts = [values(flavour, shape, dtype, seed) for seed in range(len(weights) + 1)]
                check(case, base, experts, dtype)


@st.composite
def cases(draw):
    method = draw(st.sampled_from(list(RULES)))
    count = 1 if experts_of(method) == 1 else draw(st.integers(1, 4))
    share = st.floats(0.001, 1) if method == "slerp" else st.sampled_from([1.0, 0.5, -1.0, 0.0, 0.7, 3.3, 1e-3])
    epsilon = draw(st.sampled_from([0.0, 0.07, 0.14, 0.2]))
    densities = st.sampled_from([0.21, 0.29, 0.3, 0.5, 0.66, 0.8, 1.0])
    case = Case(
        method,
        weights=tuple(draw(st.lists(share, min_size=count, max_size=count))),
        densities=tuple(draw(st.lists(densities, min_size=count, max_size=count))),
        epsilon=epsilon,
        lambda_=draw(st.sampled_from([1.0, 1.1, 0.3, 0.0, -1.0])),
        seed=draw(st.integers(0, 2**64 - 1)),
        rescale=draw(st.sampled_from(["inverse_keep", "l1", "none"])),
        elect=draw(st.sampled_from(["sum", "count", "none"])),
        normalize=draw(st.booleans()) if method not in ("slerp", "passthrough") else None,
        dtype=draw(st.sampled_from([None, *DTYPES])),
        name=draw(st.text(max_size=10)),
    )
    dtype, expert_dtype = draw(st.sampled_from(list(DTYPES))), draw(st.sampled_from(list(DTYPES)))
    shape = tuple(draw(st.lists(st.integers(1, 7), max_size=3)))
    seed = draw(st.integers(0, 2**32))
    base = values(draw(st.sampled_from(FLAVOURS)), shape, dtype, seed)
    flavours = [draw(st.sampled_from(FLAVOURS)) for _ in range(count)]
    experts = [values(flavour, shape, expert_dtype, seed + k + 1) for k, flavour in enumerate(flavours)]
    return case, base, experts, dtype, expert_dtype


@given(cases())
@settings(FIXED, max_examples=600)
def test_any_numbers_and_choices_give_the_oracles_bits(drawn):
    check(*drawn)


@pytest.mark.parametrize("method", DELTA_RULES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_fine_tune_gives_the_oracles_bits(method, dtype):
    base = values("normal", (12, 33), dtype, 0)
    experts = [base + values("normal", (12, 33), dtype, k) * np.float32(0.02) for k in (1, 2, 3)]
    merged = check(Case(method, weights=(1.0, 0.7, 1.3), densities=(0.4,), epsilon=0.14), base, experts, dtype)
    assert not np.array_equal(merged, base)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("method", LAMBDA_RULES)
def test_lambda_0_is_the_base_to_the_bit(method, dtype):
    for flavour in FLAVOURS:
        base, *experts = [tensor_of(values(flavour, (5, 8), dtype, seed), dtype) for seed in range(4)]
        found = merge_tensor(Case(method, weights=(1.0,) * 3, lambda_=0.0).spec, "w", base, experts)
        assert same_bits(found, base)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("method", DELTA_RULES)
def test_experts_equal_to_the_base_give_the_base_to_the_bit(method, dtype):
    for flavour in FLAVOURS:
        base = tensor_of(values(flavour, (5, 8), dtype, 0), dtype)
        assert same_bits(merge_tensor(Case(method).spec, "w", base, [base.clone(), base.clone()]), base)


@pytest.mark.parametrize("method", DELTA_RULES)
def test_one_expert_kept_whole_is_the_expert(method):
    generator = np.random.default_rng(0)
    base, expert = (generator.integers(-2000, 2000, (6, 9)).astype(np.float32) / np.float32(1024) for _ in range(2))
    case = Case(method, weights=(1.0,), densities=(1.0,))
    assert_same(merge_tensor(case.spec, "w", torch.from_numpy(base), [torch.from_numpy(expert)]), expert, "float32")


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8, torch.bool])
@pytest.mark.parametrize("method", RULES)
def test_integers_and_bools_are_the_bases(method, dtype):
    base = torch.tensor([[0, 1], [1, 0]]).to(dtype)
    case = Case(method, weights=(1.0,) * experts_of(method), dtype="bfloat16")
    found = merge_tensor(case.spec, "w", base, [1 - base.to(torch.uint8)] * experts_of(method), torch.bfloat16)
    assert found.dtype == dtype
    assert torch.equal(found, base)


def test_a_float64_base_keeps_its_own_bits_where_no_expert_takes_part():
    base = torch.tensor([0.1, 0.2], dtype=torch.float64)
    expert = torch.tensor([0.1, 0.3], dtype=torch.float64)
    found = merge_tensor(Case("task_arithmetic", weights=(1.0,)).spec, "w", base, [expert])
    assert found.tolist() == [0.1, float(np.float32(0.2) + (np.float32(0.3) - np.float32(0.2)))]


@pytest.mark.parametrize("method", RULES)
def test_sources_are_not_changed_and_their_layout_does_not_matter(method):
    case = Case(method, weights=(0.5,) * experts_of(method) if method != "passthrough" else (1.0,))
    base, *experts = random_tensors(experts_of(method) + 1, 6, 10)
    before = [tensor.clone() for tensor in (base, *experts)]
    found = merge_tensor(case.spec, "w", base, experts)
    assert all(torch.equal(now, then) for now, then in zip((base, *experts), before, strict=True))
    strided = [tensor.T.contiguous().T for tensor in (base, *experts)]
    assert same_bits(merge_tensor(case.spec, "w", strided[0], strided[1:]), found)


@pytest.mark.parametrize("method", [name for name, rule in DELTA_RULES.items() if rule.drop in ("random", "magprune")])
def test_masks_depend_on_seed_name_and_position(method):
    base, *experts = random_tensors(3, 8, 16)
    case = Case(method)
    found = {
        "as is": merge_tensor(case.spec, "w", base, experts),
        "seed": merge_tensor(Case(method, seed=43).spec, "w", base, experts),
        "name": merge_tensor(case.spec, "v", base, experts),
        "position": merge_tensor(case.spec, "w", base, experts[::-1]),
    }
    assert same_bits(found["as is"], merge_tensor(case.spec, "w", base, experts))
    assert len({tensor.numpy().tobytes() for tensor in found.values()}) == 4


@pytest.mark.parametrize("method", ["della", "della_layer_norm", "dare_linear", "ties", "ties_ada_row", "slerp"])
def test_the_number_of_threads_does_not_matter(method):
    base, *experts = random_tensors(experts_of(method) + 1, 200, 400)  # enough for torch to split the work
    case = Case(method, weights=(0.3,) * experts_of(method), rescale="l1")
    threads = torch.get_num_threads()
    try:
        found = []
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            found.append(merge_tensor(case.spec, "w", base, experts))
    finally:
        torch.set_num_threads(threads)
    assert same_bits(found[0], found[1])
    assert same_bits(found[0], found[2])


@pytest.mark.gpu
@pytest.mark.parametrize("method", RULES)
def test_a_gpu_gives_the_cpus_bits(method):
    weights = {"slerp": (0.3,), "passthrough": (1.0,)}.get(method, (1.0, 0.7, 1.3))
    for dtype in DTYPES.values():
        for rescale in ("inverse_keep", "l1"):
            spec = Case(method, weights=weights, rescale=rescale, lambda_=1.1).spec
            base, *experts = random_tensors(len(weights) + 1, 128, 300, dtype=dtype)
            found = merge_tensor(spec, "w", base.cuda(), [expert.cuda() for expert in experts])
            assert same_bits(found.cpu(), merge_tensor(spec, "w", base, experts))

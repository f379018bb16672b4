"""Cuts of large tensors, which the compiled loops look for around a sample's: the reference sorts."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from della_bench.merge.drop import keep_largest
from della_bench.merge.kernels import cpu_equals, cpu_key_passes, cpu_largest, cpu_whole
from della_bench.merge.kernels.coverage import BrokenSourceError
from della_bench.merge.kernels.dispatch import merge_tensor_fast
from della_bench.merge.tensor import merge_tensor
from tests.merge.compare import DTYPES, Case

SHAPE = (619, 500)  # no whole number of blocks


def normal(generator):
    return torch.randn(SHAPE, generator=generator) * 0.02


def coarse(generator):
    return (torch.randn(SHAPE, generator=generator) * 1.5).round() / 64


def mostly_zero(generator):
    return torch.where(torch.rand(SHAPE, generator=generator) < 0.8, torch.zeros(()), normal(generator))


def heavy_tailed(generator):
    return normal(generator) / (torch.rand(SHAPE, generator=generator) + 1e-6)


def growing(generator):
    """Magnitudes that depend on the place alone: a sample of a few places would see a few of them."""
    return torch.arange(SHAPE[0] * SHAPE[1]).reshape(SHAPE) / 1e6


def equal(generator):
    return torch.full(SHAPE, 0.125)


KINDS = [normal, coarse, mostly_zero, heavy_tailed, growing, equal]


def sources(kind, dtype):
    """A base of zeros, or the deltas' grid would be the base's; three experts."""
    deltas = [kind(torch.Generator().manual_seed(k)).to(DTYPES[dtype]) for k in range(3)]
    return torch.zeros(SHAPE, dtype=DTYPES[dtype]), [deltas[0], -deltas[1], deltas[2].t().reshape(SHAPE)]


def assert_the_references_bits(case, base, experts):
    found, expected = (merge(case.spec, "w", base, experts) for merge in (merge_tensor_fast, merge_tensor))
    assert torch.equal(found.view(torch.int16), expected.view(torch.int16))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("densities", [(0.5,), (0.01, 0.99, 0.3), (1e-6, 1.0, 0.999999)])
def test_a_large_tensors_cut_keeps_what_the_reference_keeps(dtype, kind, densities):
    base, experts = sources(kind, dtype)
    assert base.numel() >= cpu_whole.SAMPLED
    case = Case("ties", weights=(1.0, 0.7, 1.3), densities=densities)
    assert_the_references_bits(case, base, experts)


@pytest.mark.parametrize("likely", [(0, 0), (0, 3), (32_000, 32_001), (0, 32_767), (14_000, 14_200)])
def test_a_sample_that_misleads_changes_no_bit(likely, monkeypatch):
    monkeypatch.setattr(cpu_key_passes, "likely_cut", lambda *_: likely)
    for kind in (normal, mostly_zero):
        base, experts = sources(kind, "bfloat16")
        assert_the_references_bits(Case("ties", weights=(1.0, 1.0, 1.0), densities=(0.4,)), base, experts)


@pytest.mark.parametrize("method", ["ties", "ties_ada_layer"])
@pytest.mark.parametrize("reach", [0, 1, 30])
def test_a_guess_of_the_last_word_that_is_far_off_changes_no_bit(reach, method, monkeypatch):
    far = lambda left, equal, errors: reach if errors == cpu_largest._ERRORS else equal  # noqa: E731
    monkeypatch.setattr(cpu_largest, "_reach", far)
    for dtype in ("bfloat16", "float32"):
        base, experts = sources(coarse, dtype)
        case = Case(method, weights=(1.0, 0.7, 1.3), densities=(0.4, 0.5, 0.05))
        found, expected = (merge(case.spec, "w", base, experts) for merge in (merge_tensor_fast, merge_tensor))
        assert torch.equal(found, expected)


@pytest.mark.parametrize(("base_dtype", "dtype"), [("float16", "bfloat16"), ("bfloat16", "float32")])
def test_deltas_that_round_to_zero_are_kept_by_their_words_too(base_dtype, dtype):
    """A cut at zero leaves nothing to choose, but where deltas are too small for the base's dtype."""
    base = torch.zeros(SHAPE, dtype=DTYPES[base_dtype])
    expert = torch.full(SHAPE, 1e-45 if dtype == "float32" else 1e-30).to(DTYPES[dtype])
    case = Case("ties", weights=(1.0,), dtype="float32")
    found, expected = (
        merge(case.spec, "w", base, [expert], torch.float32) for merge in (merge_tensor_fast, merge_tensor)
    )
    assert 0 < int((found != 0).sum()) < found.numel()
    assert torch.equal(found, expected)


@pytest.mark.parametrize("seed", range(20))
def test_equals_of_one_word_are_kept_from_the_first_on(seed):
    """Words of 32 bits are seldom equal: here they are of a few values."""
    random = np.random.default_rng(seed)
    d = random.choice(np.array([0.5, 1.0, 2.0], np.float32), 70)
    words = random.choice(np.array([5, 1 << 20, 0xFFFFFFFF], np.uint32), 70)
    keys = d.view(np.uint32).copy()
    count = int(random.integers(1, 70))
    expected = keep_largest(torch.from_numpy(d)[None], count, torch.from_numpy(words.astype(np.int64))[None])[0]
    cut = int(np.sort(keys)[::-1][count - 1])
    left = count - int((keys > cut).sum())
    bins, order = np.empty(1 << 16, np.int64), np.empty(70, np.uint32)
    word, last = cpu_equals.row_last(keys, words, cut, left, bins, order)
    cpu_equals.keep_up_to(d, words, cut, cut + 1, word, last, 1.0)
    assert (d != 0).tolist() == expected.tolist()


@pytest.mark.parametrize("columns", [500, 512, 1000, 4096])
@pytest.mark.parametrize("along", ["rows", "columns"])
def test_rows_or_columns_of_different_scale_do_not_mislead_the_sample(columns, along, monkeypatch):
    """Or all keys would have to be counted, which is right, but slow."""
    whole, calls = cpu_whole.key_histogram, []

    def counted(*arguments):
        calls.append(arguments)
        return whole(*arguments)

    monkeypatch.setattr(cpu_whole, "key_histogram", counted)
    rows = 2_000_000 // columns
    place = torch.arange(rows * columns).reshape(rows, columns)
    expert = place // columns / rows if along == "rows" else place % columns / columns
    base = torch.zeros(rows, columns, dtype=torch.bfloat16)
    assert_the_references_bits(Case("ties", weights=(1.0,), densities=(0.5,)), base, [expert.to(torch.bfloat16)])
    assert not calls


@pytest.mark.parametrize("position", [0, 1, 3])
def test_a_large_tensor_that_is_not_finite_is_told(position):
    base, experts = sources(normal, "bfloat16")
    (base, *experts)[position][SHAPE[0] - 1, 3] = np.inf
    with pytest.raises(BrokenSourceError) as caught:
        merge_tensor_fast(Case("ties", weights=(1.0, 1.0, 1.0)).spec, "w", base, experts)
    assert caught.value.position == position


@pytest.mark.parametrize("shape", [(2, 140_000), (cpu_whole.SAMPLED,), (cpu_whole.SAMPLED - 1,)])
@pytest.mark.parametrize("method", ["ties", "ties_ada_row"])
def test_long_rows_and_the_least_size_that_is_sampled_give_the_references_bits(shape, method):
    tensors = [torch.randn(shape, generator=torch.Generator().manual_seed(k)).bfloat16() for k in range(3)]
    assert_the_references_bits(Case(method, weights=(1.0, 0.7)), tensors[0], tensors[1:])

"""Of the elements at a cut none is preferred for its place: each quarter of the rows keeps its share."""

from __future__ import annotations

import os

import pytest
import torch

from della_bench.merge.kernels.dispatch import merge_tensor_fast
from della_bench.merge.tensor import merge_tensor
from tests.merge.compare import Case

DENSITY = 0.2


def slight_change(shape):
    """A base and its fine-tuning in bfloat16: 20 to 25 % of the deltas equal the cut at this density."""
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(shape, generator=generator) * 0.02
    expert = base + torch.randn(shape, generator=generator) * 0.0001
    return base.bfloat16(), expert.bfloat16()


def by_triton(spec, name, base, experts):
    if not torch.cuda.is_available():
        os.environ.setdefault("TRITON_INTERPRET", "1")
    tl = pytest.importorskip("triton.language", reason="Triton is not installed")
    import triton

    if not torch.cuda.is_available() and isinstance(tl.sum, triton.JITFunction):
        pytest.skip("Triton was imported before TRITON_INTERPRET=1 was set")
    from della_bench.merge.kernels import gpu

    device = "cuda" if torch.cuda.is_available() else "cpu"
    return gpu.merge_tensor_gpu(spec.at(name), name, base.to(device), [e.to(device) for e in experts], base.dtype).cpu()


def excesses(base, expert, kept):
    """How many more elements at the cut each quarter of the rows keeps than its share, in standard deviations."""
    magnitudes = (expert.float() - base.float()).abs().bfloat16().float().reshape(-1)
    count = int(DENSITY * magnitudes.numel())
    cut = magnitudes.sort(descending=True).values[count - 1]
    equal, above = (magnitudes == cut).reshape(4, -1), (magnitudes > cut).reshape(4, -1)
    assert 0.1 < equal.double().mean() < 0.4
    assert int(kept.sum()) == count
    share = (count - int(above.sum())) / int(equal.sum())  # of the equals, that are kept
    found = kept.reshape(4, -1).sum(dim=1) - above.sum(dim=1)
    return (found - equal.sum(dim=1) * share) / (equal.sum(dim=1) * share * (1 - share)).sqrt()


@pytest.mark.parametrize(("merge", "shape"), [
    (merge_tensor, (512, 512)), (merge_tensor_fast, (1024, 1024)), (merge_tensor_fast, (96, 96)), (by_triton, (96, 96))
])  # fmt: skip
def test_each_quarter_of_the_rows_keeps_the_density(merge, shape):
    base, expert = slight_change(shape)
    # Of weight 1, the one expert is the merge where it is kept, and differs from the base there.
    kept = merge(Case("ties", weights=(1.0,), densities=(DENSITY,)).spec, "w", base, [expert]) != base
    assert bool((excesses(base, expert, kept).abs() < 4).all()), kept.reshape(4, -1).double().mean(dim=1)


@pytest.mark.parametrize("size", [96, 512, 1024])
def test_a_cut_that_prefers_the_first_of_the_equals_would_be_seen(size):
    base, expert = slight_change((size, size))
    magnitudes = (expert.float() - base.float()).abs().bfloat16().float().reshape(-1)
    kept = torch.zeros(size * size, dtype=torch.bool)
    kept[magnitudes.sort(descending=True, stable=True).indices[: int(DENSITY * size * size)]] = True
    assert kept.reshape(4, -1).double().mean(dim=1).tolist() == pytest.approx([0.32, 0.16, 0.16, 0.16], abs=0.02)
    assert bool((excesses(base, expert, kept).abs() > 10).all())


@pytest.mark.parametrize("merge", [merge_tensor, merge_tensor_fast, by_triton])
def test_each_quarter_of_a_row_keeps_the_density(merge):
    base, expert = slight_change((20, 64))
    magnitudes = (expert.float() - base.float()).abs().bfloat16().float()
    cuts = magnitudes.sort(dim=1, descending=True).values[:, int(DENSITY * 64) - 1 : int(DENSITY * 64)]
    kept = merge(Case("ties_row", weights=(1.0,), densities=(DENSITY,)).spec, "w", base, [expert]) != base
    assert kept.sum(dim=1).tolist() == [int(DENSITY * 64)] * 20
    equals = (magnitudes == cuts).double()
    share = (kept & (magnitudes == cuts)).sum(dim=1, keepdim=True) / equals.sum(dim=1, keepdim=True)
    excess = ((kept.double() - share) * equals).reshape(20, 4, 16).sum(dim=(0, 2))
    deviation = (equals * share * (1 - share)).reshape(20, 4, 16).sum(dim=(0, 2)).sqrt()
    assert bool((excess.abs() < 4 * deviation).all()), excess / deviation

"""Merging one tensor on the CPU: a plan made here, and compiled passes over its blocks, spread over threads.

What depends on a whole tensor (a cut, ranks, a norm, counts) takes a pass of its own first; the last pass reads each
source, prunes, elects, fuses and writes the result once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

import numpy as np

from della_bench.checkpoint.tensor import ITEM_SIZES, HostTensor
from della_bench.merge import bits
from della_bench.merge.kernels import cpu_convert, cpu_fuse, cpu_largest, cpu_passes, cpu_whole
from della_bench.merge.kernels.buffers import Buffers
from della_bench.merge.kernels.coverage import covers
from della_bench.merge.kernels.cpu_blocks import CODES, Array, Blocks
from della_bench.merge.kernels.cpu_plan import DROPS, SCALINGS, Drops, Fuse, make_near
from della_bench.merge.kernels.tables import thresholds_by_rank
from della_bench.merge.kernels.workers import Workers
from della_bench.spec.tensor import TensorSpec
from della_bench.spec.thresholds import ONE, exact, keep_bounds, kept_count, threshold

__all__ = ["OUTPUTS", "is_finite", "merge_stored", "supports"]

OUTPUTS = Buffers()  # of merged tensors
_RESCALES = ("inverse_keep", "l1", "none")
_ELECT = {"none": cpu_fuse.NONE, "sum": cpu_fuse.SUM, "count": cpu_fuse.COUNT}
_ROW_KINDS = ("magprune", "magprune_norank", "magnitude_row")


def supports(spec: TensorSpec, sources: Iterable[HostTensor], dtype: str) -> bool:
    """Whether the kernels cover a merge: a delta method on float tensors of at most 32 bits. dtype: of the result."""
    base, *experts = sources
    return (
        covers(spec, drops=DROPS, rescales=_RESCALES, elects=_ELECT, scalings=SCALINGS)
        and 0 < base.size < 2**30
        and all(expert.size == base.size for expert in experts)
        and all(source.dtype in CODES for source in (base, *experts))
        and dtype in CODES
    )


def merge_stored(
    spec: TensorSpec, name: str, base: HostTensor, experts: Sequence[HostTensor], dtype: str, workers: Workers
) -> HostTensor | None:
    """Do what `merge_tensor` does, for a merge that `supports` covers; None where it turns out not to.

    Raises BrokenSourceError.
    """
    out = OUTPUTS.take(base.size * ITEM_SIZES[dtype])
    whole_rows = spec.method.drop_kind in _ROW_KINDS or spec.method.scaling.startswith("ada_row")
    blocks = Blocks((base, *experts), out, dtype, whole_rows, workers)
    drops = _drops(spec, name, blocks)
    drops, unsure = _largest(spec, drops, blocks)
    may_guess = spec.rescale != "l1" and spec.method.scaling == "lambda"
    if unsure and not may_guess:
        drops = cpu_largest.decide(blocks, drops, unsure)
    if spec.rescale == "l1" and spec.method.drops:
        for k in np.flatnonzero(drops.active):
            drops.factor[k] = cpu_whole.l1_factor(blocks, drops, int(k))
        if not np.isfinite(drops.factor).all():
            return None  # times infinity, a kept zero is NaN and a dropped one 0: the loops do not tell them apart
    fuse = _fuse(spec, drops, blocks)
    cpu_largest.merge(blocks, drops, fuse)
    if unsure and may_guess:
        wrong = cpu_largest.settle(drops, unsure)
        if wrong is None:
            cpu_largest.merge(blocks, cpu_largest.decide(blocks, drops, unsure), fuse)
        elif wrong.size:
            cpu_largest.mend(blocks, drops, fuse, wrong)
    return HostTensor(out, dtype, base.shape)


def is_finite(tensor: HostTensor) -> bool:
    """Whether no element of a float32, float16 or bfloat16 tensor is infinite or NaN."""
    return bool(cpu_convert.finite(tensor.address, CODES[tensor.dtype], 0, tensor.size))


def _drops(spec: TensorSpec, name: str, blocks: Blocks) -> Drops:
    """Return what decides the drops, found by passes over the tensor where the kind needs it."""
    kind, count = spec.method.drop_kind, blocks.experts
    density = list(spec.density) or [1.0] * count
    inverse = spec.rescale == "inverse_keep"
    plain = [max(1, threshold(exact(d))) for d in density]
    bounds = [keep_bounds(*spec.bounds_of(k)) if d < 1 else (ONE, ONE) for k, d in enumerate(density)]
    drops = Drops(
        kind=DROPS[kind],
        active=np.array([d < 1 for d in density]),
        random_keys=np.array([bits.tensor_key(spec.seed, k, name) for k in range(count)], np.uint64),
        highest=np.array(plain) - 1,
        scale=np.array([ONE / limit if inverse else 1.0 for limit in plain]),
        low=np.array([low for low, _ in bounds]),
        span=np.array([high - low for low, high in bounds]),
        inverse=inverse,
        highest_table=np.zeros((count, 1), np.uint32),
        scale_table=np.ones((count, 1), np.float32),
        ordered=np.zeros((count, 1), np.uint32),
        cut=np.zeros(count, np.int64),
        least=np.zeros(count, np.int64),
        above=np.zeros(count, np.int64),
        last_word=np.full(count, ONE),
        last_place=np.full(count, -1),
        near=make_near(count, 0, 0),
        given_words=np.empty((count, 0), np.uint32),
        count=np.array([kept_count(d, blocks.row) for d in density]),
        factor=np.ones(count),
    )
    active = [int(k) for k in np.flatnonzero(drops.active)]
    if kind == "magprune":
        return _with_tables(drops, {k: _rank_tables(*bounds[k], blocks.row, inverse) for k in active})
    if kind == "magprune_layer" and blocks.wide_keys:
        ordered = np.zeros((count, blocks.size), np.uint32)
        for k in active:
            cpu_whole.sort_keys(blocks, k, ordered[k])
        return drops._replace(ordered=ordered)
    if kind == "magprune_layer":
        counts = {k: cpu_whole.key_histogram(blocks, k).sum(0) for k in active}
        return _with_tables(drops, {k: _key_tables(counts[k], *bounds[k], inverse) for k in active})
    return drops


def _largest(spec: TensorSpec, drops: Drops, blocks: Blocks) -> tuple[Drops, cpu_largest.Equals]:
    """Find the cuts of whole tensors, and guess which of the elements at them are kept; see `cpu_largest.guess`."""
    equals = {}
    if spec.method.drop_kind == "magnitude":
        kept = {int(k): kept_count(spec.density[k], blocks.size) for k in np.flatnonzero(drops.active)}
        for k, cut, counts in cpu_whole.cuts(blocks, kept):
            drops.cut[k], equals[k] = cut, counts
    return cpu_largest.guess(blocks, drops, equals)


def _fuse(spec: TensorSpec, drops: Drops, blocks: Blocks) -> Fuse:
    scaling, count = spec.method.scaling, blocks.experts
    fuse = Fuse(
        elect=_ELECT[spec.elect],
        weights=np.array(spec.weights, np.float32),
        normalize=bool(spec.normalize),
        scaling=SCALINGS[scaling],
        ratios=np.ones((count, 1), np.float32),
        scale=spec.lambda_ if scaling == "lambda" else 1.0,
    )
    if scaling == "ada_layer":
        before, after = blocks.total(
            (2, count),
            lambda scratch, a, b, counts: cpu_passes.agreement(blocks.tensors, drops, fuse, scratch, a, b, counts),
        )
        quotient = before.astype(np.float64) / np.maximum(after, 1).astype(np.float64)
        fuse.ratios[:, 0] = np.where(after == 0, 1.0, quotient)
    return fuse


def _with_tables(drops: Drops, tables: Mapping[int, tuple[Array, Array]]) -> Drops:
    """Return the drops with the tables of some experts, (highest words, scales) each; all tables are of one length."""
    if not tables:
        return drops
    some = next(iter(tables.values()))
    rows = [tables.get(k, some) for k in range(drops.active.size)]
    highest_table, scale_table = (np.stack(column) for column in zip(*rows, strict=True))
    return drops._replace(highest_table=highest_table, scale_table=scale_table)


def _tables(ranks: Array, low: int, high: int, n: int, inverse: bool) -> tuple[Array, Array]:
    """Return the highest words that are kept (uint32) and the scales (float32) of doubled ranks among n."""
    limits = thresholds_by_rank(ranks, low, high, n)
    scales = (ONE / limits.astype(np.float64)).astype(np.float32) if inverse else np.ones(len(ranks), np.float32)
    return (limits - 1).astype(np.uint32), scales


@lru_cache(maxsize=8)
def _rank_tables(low: int, high: int, n: int, inverse: bool) -> tuple[Array, Array]:
    return _tables(np.arange(2 * n - 1, dtype=np.int64), low, high, n, inverse)


def _key_tables(counts: Array, low: int, high: int, inverse: bool) -> tuple[Array, Array]:
    """Return the highest words that are kept and the scales by key; counts: how often each key occurs."""
    below = np.cumsum(counts) - counts
    return _tables(np.where(counts > 0, 2 * below + counts - 1, 0), low, high, int(counts.sum()), inverse)

"""The inner loops on the GPU, written in Triton; see della_bench.merge.kernels.gpu for who calls them, and when.

Nothing passes from one program to another but through atomic sums of integers, and between kernels: whatever a kernel
needs of a whole row or tensor, an earlier one has written. Every product, sum and quotient is rounded once: launch with
enable_fp_fusion=False. What a tile, a row and a key are is said in della_bench.merge.kernels.gpu_device.

What the tuples `first`, `second` and `third` hold for each expert depends on the kind of drop:

    RANK_ROW     doubled ranks by key (rows, BINS), or the sorted keys (rows, n); thresholds less 1 and scales by rank
    RANK_TENSOR  nothing; thresholds less 1 and scales by key. With 31-bit keys: all keys, sorted
    CUT_ROW, CUT_TENSOR  the key at the cut and the room for its equals (rows or 1, 2); equals before each tile
    NORMED_ROW   the smallest and the largest key (rows, 2)

`numbers` (experts, 4) int64: the Philox key, the threshold less 1, the lowest threshold, the span of thresholds.
`factors` (experts + 1, 2) float32: weight and scale of each expert; lambda.
"""

from __future__ import annotations

import triton
import triton.language as tl

from della_bench.merge.kernels.gpu_device import (
    BINS,
    doubled_rank,
    key_of,
    load,
    magnitude_of,
    store,
    tile_of,
    words_of,
)

__all__ = [
    "COUNT", "CUT_ROW", "CUT_TENSOR", "NONE", "NORMED_ROW", "RANDOM", "RANK_ROW", "RANK_TENSOR", "SUM",
    "magnitude_sums", "merge_tiles",
]  # fmt: skip

NONE, SUM, COUNT = tl.constexpr(0), tl.constexpr(1), tl.constexpr(2)
RANDOM, RANK_ROW, RANK_TENSOR = tl.constexpr(1), tl.constexpr(2), tl.constexpr(3)
CUT_ROW, CUT_TENSOR, NORMED_ROW = tl.constexpr(4), tl.constexpr(5), tl.constexpr(6)


@triton.jit
def _prune(
    d, base, first, second, third, numbers, factors, first_row, n, kind: tl.constexpr, inverse: tl.constexpr,
    depth: tl.constexpr, aligned: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """Return one expert's delta, dropped from and rescaled."""
    row, start = tile_of(n, block)
    inside = start + tl.arange(0, block) < n
    key = key_of(base, d)
    scale = tl.load(factors + 1)
    if kind == CUT_ROW or kind == CUT_TENSOR:  # noqa: SIM109 (Triton knows no `in`)
        cuts = first
        if kind == CUT_ROW:
            cuts += 2 * row
        cut = tl.load(cuts)
        equal = inside & (key == cut)
        place = tl.load(second + tl.program_id(0)) + tl.cumsum(equal.to(tl.int32), 0)
        kept = (key > cut) | (equal & (place <= tl.load(cuts + 1)))
    else:
        words = words_of(tl.load(numbers), (first_row + row) * n + start, aligned, block)
        if kind == RANDOM:
            kept = words <= tl.load(numbers + 1).to(tl.uint32)
        elif kind == RANK_ROW or (kind == RANK_TENSOR and base.dtype.element_ty != tl.float32):
            if kind == RANK_TENSOR:
                rank = key
            elif base.dtype.element_ty == tl.float32:
                rank = doubled_rank(first + row * n, n, key, inside, depth)
            else:
                rank = tl.load(first + row * BINS + key, mask=inside, other=0)
            kept = words <= tl.load(second + rank, mask=inside, other=0).to(tl.uint32, bitcast=True)
            if inverse:
                scale = tl.load(third + rank, mask=inside, other=0.0)
        else:
            low, span = tl.load(numbers + 2), tl.load(numbers + 3)
            if kind == RANK_TENSOR:
                rank = doubled_rank(first, n, key, inside, depth).to(tl.int64)
                steps = 2 * (tl.maximum(n, 2).to(tl.int64) - 1)
                limit = low + tl.where(n == 1, span // 2, span * rank // steps)
            else:
                least = magnitude_of(base, tl.load(first + 2 * row))
                most = magnitude_of(base, tl.load(first + 2 * row + 1))
                magnitude = magnitude_of(base, key)
                share = (magnitude - least) / tl.where(most > least, most - least, 1.0)
                share = tl.where(magnitude == float("inf"), 1.0, share)
                share = tl.where(most > least, share, 0.5)
                limit = low + tl.floor(span.to(tl.float64) * share).to(tl.int64)
            kept = words.to(tl.int64) < limit
            if inverse:
                scale = (4294967296.0 / limit.to(tl.float64)).to(tl.float32)
    return tl.where(kept, d * scale, 0.0)


@triton.jit
def _agrees(d, negative, elect: tl.constexpr):
    return d != 0 if elect == NONE else tl.where(negative, d < 0, d > 0)


@triton.jit(do_not_specialize=["first_row", "rows"])
def merge_tiles(
    base, experts, out, votes, ratios, first, second, third, numbers, factors, first_row, rows, n,
    count: tl.constexpr, kind: tl.constexpr, drops: tl.constexpr, inverse: tl.constexpr, elect: tl.constexpr,
    normalize: tl.constexpr, scaled: tl.constexpr, voting: tl.constexpr, depth: tl.constexpr, aligned: tl.constexpr,
    block: tl.constexpr,
):  # fmt: skip
    """Merge rows `first_row` and following; or, if `voting`, add to votes how many elements of each row agree.

    experts: a tuple of `count` tensors. votes: (2, count, rows) int32, elements that are not zero, and those of them
    that take part. ratios: (count, rows) float32, used if `scaled`. drops: bit k says whether expert k is dropped from.
    """
    row, start = tile_of(n, block)
    inside = start + tl.arange(0, block) < n
    index = (first_row + row) * n + start + tl.arange(0, block)
    wide = load(base, index, inside)
    deltas = ()
    for k in tl.static_range(count):
        d = load(experts[k], index, inside) - wide
        if (drops >> k) & 1:
            d = _prune(
                d, base, first[k], second[k], third[k], numbers + 4 * k, factors + 2 * k, first_row, n, kind, inverse,
                depth, aligned, block,
            )  # fmt: skip
        deltas = deltas + (d * tl.load(factors + 2 * k),)  # noqa: RUF005

    total = deltas[0]
    if elect == COUNT:
        total = (deltas[0] > 0).to(tl.float32) - (deltas[0] < 0).to(tl.float32)
    for k in tl.static_range(1, count):
        if elect == COUNT:
            total += (deltas[k] > 0).to(tl.float32) - (deltas[k] < 0).to(tl.float32)
        elif elect == SUM:
            total += deltas[k]
    negative = total < 0

    if voting:
        for k in tl.static_range(count):
            at = votes + k * rows + first_row + row
            agreeing = inside & _agrees(deltas[k], negative, elect)
            tl.atomic_add(at, tl.sum((inside & (deltas[k] != 0)).to(tl.int32), 0), sem="relaxed")
            tl.atomic_add(at + count * rows, tl.sum(agreeing.to(tl.int32), 0), sem="relaxed")
    else:
        agrees = _agrees(deltas[0], negative, elect)
        takes_part = agrees
        term = deltas[0]
        if scaled:
            term *= tl.load(ratios + first_row + row)
        fused = tl.where(agrees, term, 0.0)
        weight = tl.load(factors)
        every = weight
        divisor = tl.where(agrees, weight, 0.0)
        for k in tl.static_range(1, count):
            agrees = _agrees(deltas[k], negative, elect)
            takes_part |= agrees
            term = deltas[k]
            if scaled:
                term *= tl.load(ratios + k * rows + first_row + row)
            fused += tl.where(agrees, term, 0.0)
            weight = tl.load(factors + 2 * k)
            every += weight
            divisor += tl.where(agrees, weight, 0.0)
        if normalize:
            if elect == NONE:
                divisor = divisor * 0.0 + every
            # By float64, whose 53 bits make the second rounding harmless: before Triton 3.6, div_rn flushes denormals.
            by = tl.where(divisor == 0, 1.0, divisor).to(tl.float64)
            fused = (fused.to(tl.float64) / by).to(tl.float32)
        merged = wide + fused * tl.load(factors + 2 * count)
        store(out, index, tl.where(takes_part, merged, wide), inside)


@triton.jit
def _add_magnitudes(sums, d, inside):
    bits = d.to(tl.int32, bitcast=True) & 0x7FFFFFFF
    exponent = bits >> 23
    mantissa = (bits & 0x7FFFFF) + tl.where(exponent > 0, 0x800000, 0)
    counts = inside & (mantissa > 0)
    e, last = tl.min(tl.where(counts, exponent, 256), 0), tl.max(tl.where(counts, exponent, 0), 0)
    while e <= last:
        here = tl.where(counts & (exponent == e), mantissa, 0).to(tl.int64)
        tl.atomic_add(sums + e, tl.sum(here, 0), sem="relaxed")
        e += 1


@triton.jit(do_not_specialize=["first_row"])
def magnitude_sums(
    base, expert, sums, first, second, third, numbers, factors, first_row, n, kind: tl.constexpr,
    depth: tl.constexpr, aligned: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """Add the mantissas of a delta, before and after its drop, to sums (2, 256) int64 by exponent: exact L1 norms.

    A magnitude is its mantissa (24 bits, or 23 where the exponent is 0) times 2^(max(exponent, 1) - 150).
    """
    row, start = tile_of(n, block)
    inside = start + tl.arange(0, block) < n
    index = (first_row + row) * n + start + tl.arange(0, block)
    d = load(expert, index, inside) - load(base, index, inside)
    _add_magnitudes(sums, d, inside)
    pruned = _prune(d, base, first, second, third, numbers, factors, first_row, n, kind, False, depth, aligned, block)
    _add_magnitudes(sums + 256, pruned, inside)

"""The inner loops on the GPU, written in Triton; see della_bench.merge.kernels.gpu for who calls them, and when.

Nothing passes from one program to another but through atomic sums of integers, and between kernels: whatever a kernel
needs of a whole row or tensor, an earlier one has written. Every product, sum and quotient is rounded once: launch with
enable_fp_fusion=False. What a tile, a row and a key are is said in della_bench.merge.kernels.gpu_device.

What is known of an expert's drop depends on its kind; for the rest any tensor stands. `known_rows`:

    RANK_ROW     doubled ranks by key (rows, BINS), or the sorted keys (rows, n)
    RANK_TENSOR  nothing; with 31-bit keys all keys of the tensor, sorted
    CUT_ROW, CUT_TENSOR  the key at the cut, and how many of its equals of the last word are kept (rows or 1, 2)
    NORMED_ROW   the smallest and the largest key (rows, 2)

`equals_before`, for cuts: how many equals of the last word lie before each tile (tiles of the whole tensor). `highest`,
`scales`: the highest random word that is kept, and 2^32 / threshold; by doubled rank (RANK_ROW), by key (RANK_TENSOR).
For cuts `highest` is the last word of the equals that are kept (rows or 1): those of lower words are kept, too.

`numbers` (experts, 4) int64: the Philox key, the highest word kept, the lowest threshold, the span of thresholds.
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


# One expert's tile, in registers. `kind` is known to the compiler, so that each kind is a kernel of its own without a
# branch. `row` is among those of the launch, which tables by row are indexed by; first_row + row is the row in the
# tensor, which random words depend on. What is kept is decided by integers: keys with keys, words with thresholds.
@triton.jit
def _prune(
    d, base, known_rows, equals_before, highest, scales, numbers, factors, first_row, n, kind: tl.constexpr,
    inverse: tl.constexpr, depth: tl.constexpr, aligned: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """Return one expert's delta, dropped from and rescaled."""
    row, start = tile_of(n, block)
    inside = start + tl.arange(0, block) < n
    key = key_of(base, d)
    scale = tl.load(factors + 1)
    words = words_of(tl.load(numbers), (first_row + row) * n + start, aligned, block)
    if kind == CUT_ROW or kind == CUT_TENSOR:  # noqa: SIM109 (Triton knows no `in`)
        cuts = known_rows
        if kind == CUT_ROW:
            cuts += 2 * row
            highest += row
        cut, last_word = tl.load(cuts), tl.load(highest).to(tl.uint32, bitcast=True)
        equal = inside & (key == cut)
        place = tl.load(equals_before + tl.program_id(0)) + tl.cumsum((equal & (words == last_word)).to(tl.int32), 0)
        is_first = (words < last_word) | ((words == last_word) & (place <= tl.load(cuts + 1)))
        kept = (key > cut) | (equal & is_first)
    else:
        if kind == RANDOM:
            kept = words <= tl.load(numbers + 1).to(tl.uint32)
        elif kind == RANK_ROW or (kind == RANK_TENSOR and base.dtype.element_ty != tl.float32):
            if kind == RANK_TENSOR:
                rank = key
            elif base.dtype.element_ty == tl.float32:
                rank = doubled_rank(known_rows + row * n, n, key, inside, depth)
            else:
                rank = tl.load(known_rows + row * BINS + key, mask=inside, other=0)
            kept = words <= tl.load(highest + rank, mask=inside, other=0).to(tl.uint32, bitcast=True)
            if inverse:
                scale = tl.load(scales + rank, mask=inside, other=0.0)
        else:
            low, span = tl.load(numbers + 2), tl.load(numbers + 3)
            if kind == RANK_TENSOR:
                rank = doubled_rank(known_rows, n, key, inside, depth).to(tl.int64)
                steps = 2 * (tl.maximum(n, 2).to(tl.int64) - 1)
                limit = low + tl.where(n == 1, span // 2, span * rank // steps)
            else:
                least = magnitude_of(base, tl.load(known_rows + 2 * row))
                most = magnitude_of(base, tl.load(known_rows + 2 * row + 1))
                magnitude = magnitude_of(base, key)
                fraction = (magnitude - least) / tl.where(most > least, most - least, 1.0)
                fraction = tl.where(magnitude == float("inf"), 1.0, fraction)
                fraction = tl.where(most > least, fraction, 0.5)
                limit = low + tl.floor(span.to(tl.float64) * fraction).to(tl.int64)
            kept = words.to(tl.int64) < limit
            if inverse:
                scale = (4294967296.0 / limit.to(tl.float64)).to(tl.float32)
    return tl.where(kept, d * scale, 0.0)


# Comparisons, not signs: a zero never agrees, and where signs are elected a NaN does not either.
@triton.jit
def _agrees(d, negative, elect: tl.constexpr):
    return d != 0 if elect == NONE else tl.where(negative, d < 0, d > 0)


# A program merges one tile: it reads the base and all experts once, holds all deltas in registers (k runs over
# experts, unrolled) and writes the result once; nothing of the tensor's size lies between. The sums run over experts
# from left to right, as the reference's do. Some scalings depend on how many elements of a row (or of the tensor)
# agree: for them the same kernel runs twice, first to count votes and then to merge, which costs less than storing
# the deltas.
@triton.jit(do_not_specialize=["first_row", "rows"])
def merge_tiles(
    base, experts, out, votes, ratios, known_rows, equals_before, highest, scales, numbers, factors, first_row, rows, n,
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
                d, base, known_rows[k], equals_before[k], highest[k], scales[k], numbers + 4 * k, factors + 2 * k,
                first_row, n, kind, inverse, depth, aligned, block,
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
        if normalize:
            weight = tl.load(factors)
            all_weights = weight
            divisor = tl.where(agrees, weight, 0.0)
        for k in tl.static_range(1, count):
            agrees = _agrees(deltas[k], negative, elect)
            takes_part |= agrees
            term = deltas[k]
            if scaled:
                term *= tl.load(ratios + k * rows + first_row + row)
            fused += tl.where(agrees, term, 0.0)
            if normalize:
                weight = tl.load(factors + 2 * k)
                all_weights += weight
                divisor += tl.where(agrees, weight, 0.0)
        if normalize:
            if elect == NONE:
                divisor = divisor * 0.0 + all_weights
            # By float64, whose 53 bits make the second rounding harmless: before Triton 3.6, div_rn flushes denormals.
            by = tl.where(divisor == 0, 1.0, divisor).to(tl.float64)
            fused = (fused.to(tl.float64) / by).to(tl.float32)
        merged = wide + fused * tl.load(factors + 2 * count)
        store(out, index, tl.where(takes_part, merged, wide), inside)


# Sums of floats depend on their order, sums of integers do not: mantissas are added by exponent. A loop over the few
# exponents that occur in the tile (e up to last) makes one atomic sum of each, in the place of one an element.
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


# The pass that the `l1` rescale needs before the merge, for one expert: its drop is computed here and again there,
# which costs less than to store a delta of the tensor's size.
@triton.jit(do_not_specialize=["first_row"])
def magnitude_sums(
    base, expert, sums, known_rows, equals_before, highest, scales, numbers, factors, first_row, n,
    kind: tl.constexpr, depth: tl.constexpr, aligned: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """Add the mantissas of a delta, before and after its drop, to sums (2, 256) int64 by exponent: exact L1 norms.

    A magnitude is its mantissa (24 bits, or 23 where the exponent is 0) times 2^(max(exponent, 1) - 150).
    """
    row, start = tile_of(n, block)
    inside = start + tl.arange(0, block) < n
    index = (first_row + row) * n + start + tl.arange(0, block)
    d = load(expert, index, inside) - load(base, index, inside)
    _add_magnitudes(sums, d, inside)
    pruned = _prune(
        d, base, known_rows, equals_before, highest, scales, numbers, factors, first_row, n, kind, False, depth,
        aligned, block,
    )  # fmt: skip
    _add_magnitudes(sums + 256, pruned, inside)

"""The inner loops on the GPU, written in Triton; see della_bench.merge.kernels.gpu for who calls them, and when.

Nothing passes from one program to another but through atomic sums of integers, and between kernels: whatever a kernel
needs of a whole row or tensor, an earlier one has written. Every product, sum and quotient is rounded once: launch with
enable_fp_fusion=False. What a tile, a row and a key are is said in della_bench.merge.kernels.gpu_device.

What is known of an expert's drop depends on its kind; for the rest any tensor stands. `known_rows`:

    RANK_ROW     doubled ranks by key (rows, BINS), or the sorted keys (rows, n)
    RANK_TENSOR  nothing; with 31-bit keys all keys of the tensor, sorted
    CUT_ROW, CUT_TENSOR  the key at the cut, and the place in the tensor of the last of its equals kept (rows or 1, 2)
    NORMED_ROW   the smallest and the largest key (rows, 2)

`highest`, `scales`: the highest random word that is kept, and 2^32 / threshold; by doubled rank (RANK_ROW), by key
(RANK_TENSOR). For cuts `highest` is the word of the last of the equals kept (rows or 1): those of lower words are kept,
and of this word those up to its place.

`numbers` (experts, 4) int64: the Philox key, the highest word kept, the lowest threshold, the span of thresholds.
`factors` (experts + 1, 2) float32: weight and scale of each expert; lambda.

A launch of `merge_tiles` merges many tensors. `table` has a row for each of them: HEAD numbers (elements of a row,
rows, its first tile in the launch, its first row in the tensor, the addresses of base, result, votes and ratios) and
EACH for each expert (its address, those of the three tensors of what is known of its drop, and its `numbers`).
"""

from __future__ import annotations

import triton
import triton.language as tl

from della_bench.merge.kernels.gpu_device import (
    BINS,
    EACH,
    HEAD,
    doubled_rank,
    expert_at,
    key_of,
    load,
    magnitude_of,
    note_faults,
    part_at,
    poisoned,
    store,
    tile_of,
    words_of,
)
from della_bench.merge.kernels.gpu_fuse import agrees, fuse, is_negative

__all__ = [
    "CUT_ROW", "CUT_TENSOR", "NORMED_ROW", "NO_DROP", "RANDOM", "RANK_ROW", "RANK_TENSOR", "magnitude_sums",
    "merge_tiles", "number_programs",
]  # fmt: skip

NO_DROP, RANDOM, RANK_ROW, RANK_TENSOR = tl.constexpr(0), tl.constexpr(1), tl.constexpr(2), tl.constexpr(3)
CUT_ROW, CUT_TENSOR, NORMED_ROW = tl.constexpr(4), tl.constexpr(5), tl.constexpr(6)


# One expert's tile, in registers. `kind` is known to the compiler, so that each kind is a kernel of its own without a
# branch. `row` is among those of the launch, which tables by row are indexed by; first_row + row is the row in the
# tensor, which random words depend on. What is kept is decided by integers: keys with keys, words with thresholds.
@triton.jit
def _prune(
    d, base, known_rows, highest, scales, numbers, factors, row, start, first_row, n, kind: tl.constexpr,
    inverse: tl.constexpr, depth: tl.constexpr, aligned: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """Return one expert's delta, dropped from and rescaled."""
    inside = start + tl.arange(0, block) < n
    key = key_of(base, d)
    scale = tl.load(factors + 1)
    offset = (first_row + row) * n + start
    words = words_of(base, tl.load(numbers), offset, aligned, block)
    if kind == CUT_ROW or kind == CUT_TENSOR:  # noqa: SIM109 (Triton knows no `in`)
        if kind == CUT_ROW:
            known_rows += 2 * row
            highest += row
        last_word = tl.load(highest).to(tl.uint32, bitcast=True)
        cut, last_place = tl.load(known_rows), tl.load(known_rows + 1)
        is_first = (words < last_word) | ((words == last_word) & (offset + tl.arange(0, block) <= last_place))
        kept = (key > cut) | ((key == cut) & is_first)
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


@triton.jit
def number_programs(firsts, parts, count, total, block: tl.constexpr):
    """Write to parts (total,) int32 which part each program works on. firsts: (count,) int32, in ascending order."""
    program = tl.program_id(0) * block + tl.arange(0, block)
    part = tl.full((block,), -1, tl.int32)
    for index in range(count):
        part += (program >= tl.load(firsts + index)).to(tl.int32)
    tl.store(parts + program, part, mask=program < total)


# A program merges one tile: it reads the base and all experts once, holds all deltas in registers and writes the result
# once; nothing of the tensor's size lies between. Some scalings depend on how many elements of a row (or of the tensor)
# agree: for them the same kernel runs twice, first to count votes and then to merge, which costs less than storing the
# deltas. The table has addresses; the pointers beside it say what lies there. `even`: all of them, and all rows, are
# multiples of 16.
@triton.jit
def merge_tiles(
    table, tensor_of_tile, factors, found, base, experts, out,
    count: tl.constexpr, kind: tl.constexpr, drops: tl.constexpr, inverse: tl.constexpr, elect: tl.constexpr,
    normalize: tl.constexpr, scaled: tl.constexpr, voting: tl.constexpr, depth: tl.constexpr, aligned: tl.constexpr,
    even: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """Merge tensors; or, if `voting`, add to votes how many elements of each row agree.

    table: see above. tensor_of_tile: int32, the table's row of each tile. found: int32 for each tensor, 1 where
    a source is not finite, or the result is not. base, experts, out: tensors of the same dtypes; experts is a tuple of
    `count`. votes: (2, count, rows) int32, elements that are not zero, and those of them that
    take part. ratios: (count, rows) float32, used if `scaled`. drops: bit k says whether expert k is dropped from.
    """
    tensor = tl.load(tensor_of_tile + tl.program_id(0)).to(tl.int64)
    table, n, base, out = part_at(table, tensor, base, out, count, even)
    factors += tensor * (2 * count + 2)
    rows = tl.load(table + 1).to(tl.int32)
    tile, first_row = tl.program_id(0) - tl.load(table + 2).to(tl.int32), tl.load(table + 3).to(tl.int32)
    tiles = (n + block - 1) // block
    row, start = tile // tiles, (tile % tiles) * block
    inside = start + tl.arange(0, block) < n
    offset = (first_row + row) * n + start
    if even:
        offset = tl.multiple_of(offset, 16)
    index = offset + tl.arange(0, block)
    wide = load(base, index, inside)
    poison = poisoned(wide, 0.0)
    integers: tl.constexpr = tl.pointer_type(tl.int32)
    deltas = ()
    for k in tl.static_range(count):
        entry = table + HEAD + EACH * k
        value = load(expert_at(table, k, experts[k], even), index, inside)
        poison = poisoned(value, poison)
        d = value - wide
        if (drops >> k) & 1:
            d = _prune(
                d, base, tl.load(entry + 1).to(integers), tl.load(entry + 2).to(integers),
                tl.load(entry + 3).to(factors.dtype), entry + 4, factors + 2 * k,
                row, start, first_row, n, kind, inverse, depth, aligned, block,
            )  # fmt: skip
        deltas = deltas + (d * tl.load(factors + 2 * k),)  # noqa: RUF005

    if voting:
        negative = is_negative(deltas, count, elect)
        votes = tl.load(table + 6).to(found.dtype)
        for k in tl.static_range(count):
            at = votes + k * rows + first_row + row
            agreeing = inside & agrees(deltas[k], negative, elect)
            tl.atomic_add(at, tl.sum((inside & (deltas[k] != 0)).to(tl.int32), 0), sem="relaxed")
            tl.atomic_add(at + count * rows, tl.sum(agreeing.to(tl.int32), 0), sem="relaxed")
    else:
        ratios = tl.load(table + 7).to(factors.dtype) + first_row + row
        merged = fuse(wide, deltas, factors, ratios, rows, count, elect, normalize, scaled)
        store(out, index, merged, inside)
        note_faults(found + tensor, poison, out, merged, block)


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
    base, expert, sums, known_rows, highest, scales, numbers, factors, first_row, n,
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
        d, base, known_rows, highest, scales, numbers, factors, row, start, first_row, n, kind, False, depth,
        aligned, block,
    )  # fmt: skip
    _add_magnitudes(sums + 256, pruned, inside)

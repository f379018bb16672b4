"""The inner loops on the GPU, written in Triton; see della_bench.merge.kernels.gpu for who calls them, and when.

A program works on one tile of one row: `block` elements, a power of two, masked at the row's end. Nothing passes from
one program to another but through atomic sums of integers, and between kernels: whatever a kernel needs of a whole row
or tensor, an earlier one has written. Every product, sum and quotient is rounded once: launch with
enable_fp_fusion=False. Magnitudes are compared as integers ("keys"), which order as the non-negative floats do whose
bits they are: of 15 bits with a 16-bit base, else of 31.

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

__all__ = [
    "BINS", "COUNT", "CUT_ROW", "CUT_TENSOR", "NONE", "NORMED_ROW", "RANDOM", "RANK_ROW", "RANK_TENSOR", "SUM",
    "count_equals", "count_keys", "find_cuts", "key_extremes", "magnitude_sums", "merge_tiles", "rank_counts",
]  # fmt: skip

BINS = tl.constexpr(32_768)
NONE, SUM, COUNT = tl.constexpr(0), tl.constexpr(1), tl.constexpr(2)
RANDOM, RANK_ROW, RANK_TENSOR = tl.constexpr(1), tl.constexpr(2), tl.constexpr(3)
CUT_ROW, CUT_TENSOR, NORMED_ROW = tl.constexpr(4), tl.constexpr(5), tl.constexpr(6)


@triton.jit
def _load(pointer, index, inside):
    """Return elements as float32. The bits of bfloat16 are widened by hand: that is exact for denormals everywhere."""
    value = tl.load(pointer + index, mask=inside, other=0.0)
    if pointer.dtype.element_ty == tl.bfloat16:
        wide = (value.to(tl.uint16, bitcast=True).to(tl.uint32) << 16).to(tl.float32, bitcast=True)
    else:
        wide = value.to(tl.float32)
    return wide


@triton.jit
def _to_bfloat16_bits(bits):
    """Round the bits of a float32 that is no NaN to those of a bfloat16, half to even."""
    return (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16


@triton.jit
def _store(pointer, index, value, inside):
    if pointer.dtype.element_ty == tl.bfloat16:
        bits = value.to(tl.uint32, bitcast=True)
        nan = (bits & 0x7FFFFFFF) > 0x7F800000
        rounded = tl.where(nan, 0x7FC0, _to_bfloat16_bits(bits))
        tl.store(pointer + index, rounded.to(tl.uint16).to(tl.bfloat16, bitcast=True), mask=inside)
    else:
        tl.store(pointer + index, value.to(pointer.dtype.element_ty), mask=inside)


@triton.jit
def _key(base, d):
    """Return the magnitude of a delta, rounded to the base's dtype, as an integer."""
    bits = d.to(tl.uint32, bitcast=True) & 0x7FFFFFFF
    if base.dtype.element_ty == tl.bfloat16:
        key = _to_bfloat16_bits(bits)
    elif base.dtype.element_ty == tl.float16:
        key = tl.abs(d).to(tl.float16).to(tl.uint16, bitcast=True).to(tl.uint32)
    else:
        key = bits
    return key.to(tl.int32)


@triton.jit
def _magnitude(base, key):
    """Return the float64 that a key stands for."""
    if base.dtype.element_ty == tl.bfloat16:
        value = (key << 16).to(tl.float32, bitcast=True)
    elif base.dtype.element_ty == tl.float16:
        value = key.to(tl.uint16).to(tl.float16, bitcast=True).to(tl.float32)
    else:
        value = key.to(tl.float32, bitcast=True)
    return value.to(tl.float64)


@triton.jit
def _place(n, block: tl.constexpr):
    """Return this program's row among those of the launch, and the first column of its tile."""
    tiles = (n + block - 1) // block
    return tl.program_id(0) // tiles, (tl.program_id(0) % tiles) * block


@triton.jit
def _philox(key, counter):
    """Return the four words of 32-bit counters; see della_bench.merge.bits."""
    c0 = counter.to(tl.uint32)
    c1, c2, c3 = c0 ^ c0, c0 ^ c0, c0 ^ c0
    k0, k1 = key.to(tl.uint32), (key >> 32).to(tl.uint32)
    for _ in tl.static_range(10):
        high0, low0 = tl.umulhi(c0, 0xD2511F53), c0 * 0xD2511F53
        high1, low1 = tl.umulhi(c2, 0xCD9E8D57), c2 * 0xCD9E8D57
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = k0 + 0x9E3779B9, k1 + 0xBB67AE85
    return c0, c1, c2, c3


@triton.jit
def _words(key, start, aligned: tl.constexpr, block: tl.constexpr):
    """Return the random words of the elements from `start` on. aligned: start is a multiple of 4."""
    if aligned:
        c0, c1, c2, c3 = _philox(key, start // 4 + tl.arange(0, block // 4))
        words = tl.join(tl.join(c0, c2), tl.join(c1, c3)).reshape(block)
    else:
        index = start + tl.arange(0, block)
        c0, c1, c2, c3 = _philox(key, index // 4)
        lane = index % 4
        words = tl.where(lane < 2, tl.where(lane == 0, c0, c1), tl.where(lane == 2, c2, c3))
    return words


@triton.jit
def _doubled_rank(ordered, n, key, inside, depth: tl.constexpr):
    """Return twice the mean rank of keys in a sorted row of n < 2^depth: those below, and those not above, less 1."""
    below, up_to = key * 0, key * 0
    for bit in range(depth):
        step = 1 << (depth - 1 - bit)
        fits = inside & (below + step <= n)
        there = tl.load(ordered + below + step - 1, mask=fits, other=0)
        below = tl.where(fits & (there < key), below + step, below)
        fits = inside & (up_to + step <= n)
        there = tl.load(ordered + up_to + step - 1, mask=fits, other=0)
        up_to = tl.where(fits & (there <= key), up_to + step, up_to)
    return below + up_to - 1


@triton.jit
def _prune(
    d, base, first, second, third, numbers, factors, first_row, n, kind: tl.constexpr, inverse: tl.constexpr,
    depth: tl.constexpr, aligned: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """Return one expert's delta, dropped from and rescaled."""
    row, start = _place(n, block)
    inside = start + tl.arange(0, block) < n
    key = _key(base, d)
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
        words = _words(tl.load(numbers), (first_row + row) * n + start, aligned, block)
        if kind == RANDOM:
            kept = words <= tl.load(numbers + 1).to(tl.uint32)
        elif kind == RANK_ROW or (kind == RANK_TENSOR and base.dtype.element_ty != tl.float32):
            if kind == RANK_TENSOR:
                rank = key
            elif base.dtype.element_ty == tl.float32:
                rank = _doubled_rank(first + row * n, n, key, inside, depth)
            else:
                rank = tl.load(first + row * BINS + key, mask=inside, other=0)
            kept = words <= tl.load(second + rank, mask=inside, other=0).to(tl.uint32, bitcast=True)
            if inverse:
                scale = tl.load(third + rank, mask=inside, other=0.0)
        else:
            low, span = tl.load(numbers + 2), tl.load(numbers + 3)
            if kind == RANK_TENSOR:
                rank = _doubled_rank(first, n, key, inside, depth).to(tl.int64)
                steps = 2 * (tl.maximum(n, 2).to(tl.int64) - 1)
                limit = low + tl.where(n == 1, span // 2, span * rank // steps)
            else:
                least = _magnitude(base, tl.load(first + 2 * row))
                most = _magnitude(base, tl.load(first + 2 * row + 1))
                magnitude = _magnitude(base, key)
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
    row, start = _place(n, block)
    inside = start + tl.arange(0, block) < n
    index = (first_row + row) * n + start + tl.arange(0, block)
    wide = _load(base, index, inside)
    deltas = ()
    for k in tl.static_range(count):
        d = _load(experts[k], index, inside) - wide
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
        _store(out, index, tl.where(takes_part, merged, wide), inside)


@triton.jit(do_not_specialize=["first_row"])
def count_keys(base, expert, counts, first_row, n, block: tl.constexpr):
    """Add to counts (rows, BINS) int32 how often each 15-bit key occurs in each row."""
    row, start = _place(n, block)
    column = start + tl.arange(0, block)
    inside = column < n
    index = (first_row + row) * n + column
    key = _key(base, _load(expert, index, inside) - _load(base, index, inside))
    # Most deltas of a fine-tune in bfloat16 may be zeros: a tile adds them at once, not one by one to one address.
    zeros = tl.sum((inside & (key == 0)).to(tl.int32), 0)
    tl.atomic_add(counts + row * BINS, zeros, sem="relaxed")
    tl.atomic_add(counts + row * BINS + key, (key != 0).to(tl.int32), mask=inside & (key != 0), sem="relaxed")


@triton.jit
def rank_counts(counts, block: tl.constexpr):
    """Turn counts (rows, BINS) into doubled ranks, in place; bins that no key fell into keep their 0."""
    below = 0
    for start in range(0, BINS, block):
        at = counts + tl.program_id(0) * BINS + start + tl.arange(0, block)
        count = tl.load(at)
        up_to = below + tl.cumsum(count, 0)
        tl.store(at, 2 * up_to - count - 1, mask=count > 0)
        below += tl.sum(count, 0)


@triton.jit(do_not_specialize=["n", "keep"])
def find_cuts(counts, cuts, n, keep, block: tl.constexpr):
    """Write to cuts (rows, 2) int32 the key of the last of the `keep` largest, and how many of its equals are kept."""
    below, cut, room = 0, 0, 0
    for start in range(0, BINS, block):
        key = start + tl.arange(0, block)
        count = tl.load(counts + tl.program_id(0) * BINS + key)
        above = n - below - tl.cumsum(count, 0)
        here = (above < keep) & (above + count >= keep)
        cut += tl.sum(tl.where(here, key, 0), 0)
        room += tl.sum(tl.where(here, keep - above, 0), 0)
        below += tl.sum(count, 0)
    tl.store(cuts + 2 * tl.program_id(0), cut)
    tl.store(cuts + 2 * tl.program_id(0) + 1, room)


@triton.jit
def count_equals(base, expert, cuts, equals, n, by_row: tl.constexpr, block: tl.constexpr):
    """Write to equals (rows * tiles) int32 how many keys of each tile equal the cut, of their row or of the tensor."""
    row, start = _place(n, block)
    column = start + tl.arange(0, block)
    inside = column < n
    key = _key(base, _load(expert, row * n + column, inside) - _load(base, row * n + column, inside))
    if by_row:
        cuts += 2 * row
    equal = inside & (key == tl.load(cuts))
    tl.store(equals + tl.program_id(0), tl.sum(equal.to(tl.int32), 0))


@triton.jit
def key_extremes(base, expert, extremes, n, block: tl.constexpr):
    """Narrow extremes (rows, 2) int32 to the smallest and the largest key of each row."""
    row, start = _place(n, block)
    column = start + tl.arange(0, block)
    inside = column < n
    key = _key(base, _load(expert, row * n + column, inside) - _load(base, row * n + column, inside))
    tl.atomic_min(extremes + 2 * row, tl.min(tl.where(inside, key, 0x7FFFFFFF), 0), sem="relaxed")
    tl.atomic_max(extremes + 2 * row + 1, tl.max(tl.where(inside, key, 0), 0), sem="relaxed")


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
    row, start = _place(n, block)
    inside = start + tl.arange(0, block) < n
    index = (first_row + row) * n + start + tl.arange(0, block)
    d = _load(expert, index, inside) - _load(base, index, inside)
    _add_magnitudes(sums, d, inside)
    pruned = _prune(d, base, first, second, third, numbers, factors, first_row, n, kind, False, depth, aligned, block)
    _add_magnitudes(sums + 256, pruned, inside)

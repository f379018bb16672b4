"""Triton kernels that find out about rows and tensors before anything is dropped: counts, ranks, cuts, extremes."""

from __future__ import annotations

import triton
import triton.language as tl

from della_bench.merge.kernels.gpu_device import BINS, EACH, HEAD, key_of, load, tile_of, words_of

__all__ = [
    "BIN_COUNT", "COPIES", "LIST_HEAD", "SAMPLE", "count_bins", "count_keys", "count_words", "find_cuts",
    "key_extremes", "list_equals", "list_open", "rank_counts", "sample_keys",
]  # fmt: skip

SAMPLE, BIN_COUNT, COPIES = tl.constexpr(4096), tl.constexpr(32), tl.constexpr(8)
LIST_HEAD = tl.constexpr(2)
_RUN = tl.constexpr(64)  # neighbours that are sampled together


# A program counts one tile with atomic sums, which are integers and so the same in any order. `row` is among those of
# the launch, from `first_row` on in the tensor: the table of counts is only as long as the launch.
@triton.jit(do_not_specialize=["first_row"])
def count_keys(base, expert, counts, first_row, n, block: tl.constexpr):
    """Add to counts (rows, BINS) int32 how often each 15-bit key occurs in each row."""
    row, start = tile_of(n, block)
    column = start + tl.arange(0, block)
    inside = column < n
    index = (first_row + row) * n + column
    key = key_of(base, load(expert, index, inside) - load(base, index, inside))
    # Most deltas of a fine-tune in bfloat16 may be zeros: a tile adds them at once, not one by one to one address.
    zeros = tl.sum((inside & (key == 0)).to(tl.int32), 0)
    tl.atomic_add(counts + row * BINS, zeros, sem="relaxed")
    tl.atomic_add(counts + row * BINS + key, (key != 0).to(tl.int32), mask=inside & (key != 0), sem="relaxed")


# A program scans one row's 32,768 counts, `block` at a time, `below` being how many keys came before. A key that
# occurs `count` times with `up_to` at or below it has the doubled mean rank 2 * up_to - count - 1. In place, since a
# chunk of rows has no memory for two tables.
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


# A program scans one row's counts as `rank_counts` does. `above` is how many keys lie above each bin; in exactly one
# bin that number passes `keep`, and sums over all bins fetch what stands there.
@triton.jit(do_not_specialize=["n", "keep"])
def find_cuts(counts, cuts, n, keep, block: tl.constexpr):
    """Write to cuts (rows, 2) int32 the key of the last of the `keep` largest, and how many of its equals are kept."""
    below, cut, kept_equals = 0, 0, 0
    for start in range(0, BINS, block):
        key = start + tl.arange(0, block)
        count = tl.load(counts + tl.program_id(0) * BINS + key)
        above = n - below - tl.cumsum(count, 0)
        here = (above < keep) & (above + count >= keep)
        cut += tl.sum(tl.where(here, key, 0), 0)
        kept_equals += tl.sum(tl.where(here, keep - above, 0), 0)
        below += tl.sum(count, 0)
    tl.store(cuts + 2 * tl.program_id(0), cut)
    tl.store(cuts + 2 * tl.program_id(0) + 1, kept_equals)


# Of the equals at a cut those of the lowest words are kept. Their last word is found by two of these counts, each of 16
# bits: of the upper halves, then of the lower halves where the upper one is the last word's. `row` is among those of
# the launch, as in `count_keys`; cuts, uppers and counts have a row each, or one for the whole tensor.
@triton.jit(do_not_specialize=["first_row"])
def count_words(
    base, expert, cuts, uppers, numbers, counts, first_row, n, by_row: tl.constexpr, lower: tl.constexpr,
    aligned: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """Add to counts (rows or 1, 2^16) int32 how often each half of a word occurs among keys that equal the cut.

    uppers: (rows or 1) int32, the upper half that words have whose lower half is counted, if `lower`.
    """
    row, start = tile_of(n, block)
    column = start + tl.arange(0, block)
    inside = column < n
    index = (first_row + row) * n + column
    key = key_of(base, load(expert, index, inside) - load(base, index, inside))
    if by_row:
        cuts += 2 * row
        uppers += row
        counts += row * 65536
    words = words_of(tl.load(numbers), (first_row + row) * n + start, aligned, block)
    equal = inside & (key == tl.load(cuts))
    half = (words >> 16).to(tl.int32)
    if lower:
        equal = equal & (half == tl.load(uppers))
        half = (words & 0xFFFF).to(tl.int32)
    tl.atomic_add(counts + half, equal.to(tl.int32), mask=equal, sem="relaxed")


# Words of 32 bits are seldom equal: of a tensor's, hardly ever more than three are. Their places are listed, in any
# order, and torch finds the last of those that are kept.
@triton.jit
def list_equals(
    base, expert, cuts, last_words, numbers, found, places, n, capacity: tl.constexpr, by_row: tl.constexpr,
    aligned: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """Write to places (rows or 1, capacity) int32 where elements have the key at the cut and the last word.

    found: (rows or 1) int32, how many there are. places: of the flattened tensor.
    """
    row, start = tile_of(n, block)
    column = start + tl.arange(0, block)
    inside = column < n
    key = key_of(base, load(expert, row * n + column, inside) - load(base, row * n + column, inside))
    if by_row:
        cuts += 2 * row
        last_words += row
        found += row
        places += row * capacity
    words = words_of(tl.load(numbers), row * n + start, aligned, block)
    equal = inside & (key == tl.load(cuts)) & (words == tl.load(last_words).to(tl.uint32, bitcast=True))
    at = tl.atomic_add(found + 0 * column, equal.to(tl.int32), mask=equal, sem="relaxed")
    tl.store(places + at, row * n + column, mask=equal & (at < capacity))


# Atomic minimum and maximum of integers, the same in any order. Elements beyond the row's end count as the neutral
# value of each.
@triton.jit
def key_extremes(base, expert, extremes, n, block: tl.constexpr):
    """Narrow extremes (rows, 2) int32 to the smallest and the largest key of each row."""
    row, start = tile_of(n, block)
    column = start + tl.arange(0, block)
    inside = column < n
    key = key_of(base, load(expert, row * n + column, inside) - load(base, row * n + column, inside))
    tl.atomic_min(extremes + 2 * row, tl.min(tl.where(inside, key, 0x7FFFFFFF), 0), sem="relaxed")
    tl.atomic_max(extremes + 2 * row + 1, tl.max(tl.where(inside, key, 0), 0), sem="relaxed")


@triton.jit
def sample_keys(table, keys, base, expert, count: tl.constexpr):
    """Write to keys (parts, experts, SAMPLE) int32 those of evenly spread runs; of a short tensor all."""
    part, k = tl.program_id(0) // count, tl.program_id(0) % count
    n, base, expert, _ = _at_table(table, part, k, base, expert, count, False)
    lane = tl.arange(0, SAMPLE)
    index = lane
    if n > SAMPLE:
        index = (lane // _RUN) * (n // (SAMPLE // _RUN)) + lane % _RUN
    inside = index < n
    key = key_of(base, load(expert, index, inside) - load(base, index, inside))
    tl.store(keys + tl.program_id(0) * SAMPLE + lane, tl.where(inside, key, 0x7FFFFFFF))


@triton.jit
def _at_table(table, part, k, base, expert, count: tl.constexpr, even: tl.constexpr):
    """Return how long a part is, where its base and an expert lie, and the expert's Philox key."""
    table += part.to(tl.int64) * (HEAD + EACH * count)
    n = tl.load(table).to(tl.int32)
    bases = tl.load(table + 4).to(base.dtype)
    experts = tl.load(table + HEAD + EACH * k).to(expert.dtype)
    if even:
        n, bases, experts = tl.multiple_of(n, 16), tl.multiple_of(bases, 16), tl.multiple_of(experts, 16)
    return n, bases, experts, tl.load(table + HEAD + EACH * k + 4)


@triton.jit
def _key_at(base, expert, index, inside):
    """Return the keys of a delta's elements; -1 where they are not `inside`."""
    key = key_of(base, load(expert, index, inside) - load(base, index, inside))
    return tl.where(inside, key, -1)


# Each lane has a counter of 4 bits for each bin, 16 of them in one integer, and so counts up to 15 elements with one
# shift and one sum; the counters of all lanes are added at the end. COPIES keep programs from waiting for each other.
@triton.jit
def count_bins(
    table, part_of_span, first_spans, lows, shifts, counts, base, expert, parts,
    count: tl.constexpr, span: tl.constexpr, even: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """Add to counts (COPIES, parts, experts, BIN_COUNT + 1) int32 how many keys lie in each bin, and how many above.

    A program counts one span of `span` tiles (at most 15) of one expert. lows, shifts: (parts, experts) int32, where
    the first bin begins, and the binary logarithm of how many keys a bin has; below 0 where nothing is to be counted.
    part_of_span: int32. first_spans: (parts,) int32.
    """
    here, k = tl.program_id(0) // count, tl.program_id(0) % count
    part = tl.load(part_of_span + here)
    shift = tl.load(shifts + part * count + k)
    if shift >= 0:
        low = tl.load(lows + part * count + k)
        n, bases, experts, _ = _at_table(table, part, k, base, expert, count, even)
        first = (here - tl.load(first_spans + part)) * (span * block)
        lower, upper = tl.zeros((block,), tl.int64), tl.zeros((block,), tl.int64)
        above = tl.zeros((block,), tl.int32)
        for tile in range(0, tl.minimum(span, (n - first + block - 1) // block)):
            index = first + tile * block + tl.arange(0, block)
            key = _key_at(bases, experts, index, index < n)
            bin = tl.where(key < 0, -1, (key - low) >> shift)
            one = tl.full((block,), 1, tl.int64) << (4 * (bin & 15)).to(tl.int64)
            lower += tl.where((bin >= 0) & (bin < 16), one, 0)
            upper += tl.where((bin >= 16) & (bin < BIN_COUNT), one, 0)
            above += (bin >= BIN_COUNT).to(tl.int32)
        counts += (((here % COPIES) * parts + part) * count + k) * (BIN_COUNT + 1)
        for j in tl.static_range(16):
            tl.atomic_add(counts + j, tl.sum((lower >> (4 * j)) & 15, 0).to(tl.int32), sem="relaxed")
            tl.atomic_add(counts + 16 + j, tl.sum((upper >> (4 * j)) & 15, 0).to(tl.int32), sem="relaxed")
        tl.atomic_add(counts + BIN_COUNT, tl.sum(above, 0), sem="relaxed")


@triton.jit
def _words_of_equals(base, expert, random, cut, lowest, reach, start, n, block: tl.constexpr):
    """Return the words of a tile, which of its elements equal a cut with lower words, and which with open ones."""
    index = start + tl.arange(0, block)
    equal = _key_at(base, expert, index, index < n) == cut
    words = words_of(random, start, True, block)
    return words, equal & (words < lowest), equal & (words >= lowest) & (words - lowest <= reach)


@triton.jit
def _either(left, right):
    return left | right


# Of the equals at a cut those of the lowest words are kept. Between two words lie so few that they can be listed, in
# any order: torch orders them, and finds the last that is kept. A program first notes which of its tiles have any (a
# bit of `noted` each), and goes over these once more: so threads need not wait for each other at every tile.
@triton.jit
def list_open(
    table, part_of_span, first_spans, cuts, starts, lists, base, expert,
    count: tl.constexpr, span: tl.constexpr, even: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """List the equals at each cut whose words are open, and count those below.

    A program goes over one span, as in `count_bins`. cuts: (parts, experts, 4) int32, the key at the cut, how far the
    open words reach from the first, how many fit into the list, and the first. starts: (parts, experts) int64, where
    in `lists` an expert's list begins: how many are open, how many equals have lower words, then the words, and as many
    places in the tensor. Of more than fit some are listed, and all counted.
    """
    here, k = tl.program_id(0) // count, tl.program_id(0) % count
    part = tl.load(part_of_span + here)
    cuts += 4 * (part * count + k)
    capacity = tl.load(cuts + 2)
    if capacity > 0:
        cut, reach = tl.load(cuts), tl.load(cuts + 1).to(tl.uint32, bitcast=True)
        lowest = tl.load(cuts + 3).to(tl.uint32, bitcast=True)
        lists += tl.load(starts + part * count + k)
        n, bases, experts, random = _at_table(table, part, k, base, expert, count, even)
        first = (here - tl.load(first_spans + part)) * (span * block)
        tiles = tl.minimum(span, (n - first + block - 1) // block)
        below, noted = tl.zeros((block,), tl.int32), tl.zeros((block,), tl.int32)
        for tile in range(0, tiles):
            start = first + tile * block
            words, lower, open_ = _words_of_equals(bases, experts, random, cut, lowest, reach, start, n, block)
            below += lower.to(tl.int32)
            noted |= open_.to(tl.int32) << tile
        tl.atomic_add(lists + 1, tl.sum(below, 0), sem="relaxed")
        some = tl.reduce(noted, 0, _either)
        for tile in range(0, tiles):
            if (some >> tile) & 1 > 0:
                start = first + tile * block
                words, lower, open_ = _words_of_equals(bases, experts, random, cut, lowest, reach, start, n, block)
                order = tl.cumsum(open_.to(tl.int32), 0)
                at = tl.atomic_add(lists, tl.sum(open_.to(tl.int32), 0), sem="relaxed") + order - 1
                fits = open_ & (at < capacity)
                tl.store(lists + LIST_HEAD + at, words.to(tl.int32, bitcast=True), mask=fits)
                tl.store(lists + LIST_HEAD + capacity + at, start + tl.arange(0, block), mask=fits)

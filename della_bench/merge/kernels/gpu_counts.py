"""Triton kernels that find out about rows and tensors before anything is dropped: counts, ranks, cuts, extremes."""

from __future__ import annotations

import triton
import triton.language as tl

from della_bench.merge.kernels.gpu_device import BINS, key_of, load, tile_of, words_of

__all__ = ["count_keys", "count_words", "find_cuts", "key_extremes", "list_equals", "rank_counts"]


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
    words = words_of(base, tl.load(numbers), (first_row + row) * n + start, aligned, block)
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
    words = words_of(base, tl.load(numbers), row * n + start, aligned, block)
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

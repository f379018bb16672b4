"""Finding the key at a cut, on the CPU, compiled by numba; `cpu_equals` keeps what lies above it."""

from __future__ import annotations

import numpy as np
from numba import uint16

from della_bench.merge.kernels.cpu_loops import compiled

__all__ = ["around_cut", "at_least", "count_between", "histogram", "row_cut"]

_COMPARES = 12  # of as many keys, comparing with each takes less time than a look at a table
_STRETCH = 1 << 15  # elements, whose number fits 16 bits


# A comparison and a sum, 16 or 32 keys to a vector. The count has 16 bits as the keys have, or the vectors would have
# to be widened; `start` walks in stretches that such a count cannot overflow.
@compiled
def at_least(keys: np.ndarray, limit: int) -> int:
    """Return how many 16-bit keys are `limit` or more."""
    total = 0
    least = uint16(limit)
    for start in range(0, keys.size, _STRETCH):
        part = keys[start : start + _STRETCH]
        count = uint16(0)  # as wide as the keys, of which most go into a vector then
        for i in range(part.size):
            count = uint16(count + uint16(part[i] >= least))
        total += np.int64(count)
    return total


# For few keys, comparing all with each of them: counts[j] is what is `low + j` or more, less what is more. For many,
# one pass that looks a key's place up, which random access makes slower than 12 comparisons.
@compiled
def count_between(keys: np.ndarray, low: int, counts: np.ndarray) -> None:
    """Add to counts[j] (int64) how many 16-bit keys are low + j, and to the last count how many lie above these."""
    width = counts.size - 1
    if width <= _COMPARES:
        above = at_least(keys, low)
        for j in range(width):
            before, above = above, at_least(keys, low + j + 1)
            counts[j] += before - above
        counts[width] += above
        return
    counts[width] += at_least(keys, low + width)
    for i in range(keys.size):
        place = uint16(keys[i] - uint16(low))
        if place < width:  # few are, and so the jump is foreseen
            counts[place] += 1


# Two walks down from the highest key, adding up how many lie at or above it: the first stops at `fewest`, the second
# goes on to `most`. `counts` is of a sample, so that `left` and `margin` are in elements of the sample.
@compiled
def around_cut(counts: np.ndarray, left: float, margin: float) -> tuple[int, int]:
    """Return the keys at the cuts that leave `margin` fewer and more than the `left` largest. counts: by key."""
    fewest, most = np.int64(max(left - margin, 1)), np.int64(left + margin)
    high = counts.size - 1
    above = np.int64(counts[high])  # how many are this key or above it
    while high > 0 and above < fewest:
        high -= 1
        above += counts[high]
    low = high
    while low > 0 and above < most:
        low -= 1
        above += counts[low]
    return low, high


# Keys of 32 bits are counted by their upper 16 bits first (shift 16, any prefix), then by the lower 16 of those whose
# upper bits are the cut's (shift 0, prefix the cut's): two tables of 65,536 in the place of one of 2^32.
@compiled
def histogram(keys: np.ndarray, shift: int, prefix: int, bins: np.ndarray) -> None:
    """Count keys by `(key >> shift) mod bins.size`, those whose bits above are `prefix` (any, if negative)."""
    mask = bins.size - 1
    width = 0
    while (1 << width) < bins.size:
        width += 1
    for i in range(keys.size):
        key = np.int64(keys[i])
        if prefix < 0 or (key >> (shift + width)) == prefix:
            bins[(key >> shift) & mask] += 1


# Counts a row's keys and walks down from the highest (`b` is the table's place) until `left` are reached; for 32-bit
# keys twice, see `histogram`. What is left then are the equals of the cut that are kept.
@compiled
def row_cut(keys: np.ndarray, count: int, bins: np.ndarray) -> tuple[int, int, int]:
    """Return the key at the cut that leaves the `count` largest, how many equal it, and how many of these are left.

    bins: int64[65536], of any content.
    """
    left, cut, prefix = count, 0, -1
    shift = 16 if keys.itemsize == 4 else 0
    while True:
        bins[:] = 0
        histogram(keys, shift, prefix, bins)
        b = 65535
        while bins[b] < left:
            left -= bins[b]
            b -= 1
        cut = (cut << 16) | b
        if shift == 0:
            return cut, bins[b], left
        prefix, shift = cut, 0

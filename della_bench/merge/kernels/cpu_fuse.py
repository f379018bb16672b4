"""Electing, fusing and adding to the base on the CPU, compiled by numba; see della_bench.merge.fuse for what it means.

Each loop runs over one flat block that stays in the cache, in the order in which the reference adds.
"""

from __future__ import annotations

import numpy as np
from numba import njit, uint32

from della_bench.merge.kernels.cpu_loops import compiled

__all__ = ["COUNT", "NONE", "SUM", "agreement_counts", "elect", "finish", "float_of", "mask", "weigh"]

NONE, SUM, COUNT = 0, 1, 2
_NO_SUM = np.float32(1e-8)
_CHUNK = 2048  # elements that a core's first-level cache holds of all arrays in `finish`


# i runs over one expert's block. It is a loop of its own because a weight of 1, the usual one, skips it.
@compiled
def weigh(d: np.ndarray, weight: float) -> None:
    """Multiply by a float32 weight, in place."""
    w = np.float32(weight)
    for i in range(d.size):
        d[i] *= w


# k runs over experts and i over the block's elements: expert after expert, so that each sum is added in the order of
# the reference, and each inner loop is over two flat arrays. Signs are written as float32 sign bits, by which
# `_add_elected` turns "has the elected sign" into "is positive" with one exclusive or.
@compiled
def elect(deltas: np.ndarray, kind: int, total: np.ndarray, signs: np.ndarray) -> None:
    """Set `signs` (uint32) to 2^31 where the elected sign is negative, else 0.

    deltas: (experts, block) float32, weighed. kind: 1 by the sum over the experts from left to right, 2 by the count of
    signs; a sum of 0 or NaN is not negative. total: float32, of any content.
    """
    size = deltas.shape[1]
    for k in range(deltas.shape[0]):
        d = deltas[k]
        if kind == COUNT:
            for i in range(size):
                vote = np.float32(np.int32(d[i] > 0) - np.int32(d[i] < 0))
                total[i] = vote if k == 0 else total[i] + vote
        elif k == 0:
            total[:] = d
        else:
            for i in range(size):
                total[i] += d[i]
    for i in range(size):
        signs[i] = mask(total[i] < np.float32(0)) & uint32(0x80000000)


@njit(inline="always")
def mask(condition: bool) -> int:
    """Return all ones (uint32) or 0: what is left out is masked, not jumped over, so that loops are vectorised."""
    return uint32(0) - uint32(condition)


@njit(inline="always")
def float_of(bits: int) -> float:
    """Return the float32 of some bits (uint32)."""
    return np.uint32(bits).view(np.float32)


# i runs over the elements of one expert's chunk. An element with the elected sign is positive after the exclusive or
# with it; of all others (other sign, zero, NaN) the mask `part` is 0, and +0 is added, as the reference does. So there
# is no jump, which no processor could foresee.
@compiled
def _add_elected(bits: np.ndarray, signs: np.ndarray, values: np.ndarray, fused: np.ndarray, taken: np.ndarray) -> None:
    """Add the values of a delta (given by its bits) with the elected sign to `fused`."""
    for i in range(bits.size):
        part = mask(float_of(bits[i] ^ signs[i]) > np.float32(0))
        fused[i] += float_of(values[i] & part)
        taken[i] |= part


# As `_add_elected`, with one more sum of the same mask.
@compiled
def _add_elected_and_weights(
    bits: np.ndarray,
    signs: np.ndarray,
    values: np.ndarray,
    weight: float,
    fused: np.ndarray,
    divisor: np.ndarray,
    taken: np.ndarray,
) -> None:
    """Add the values of a delta (given by its bits) with the elected sign to `fused`, and its weight to `divisor`."""
    weight_bits = np.float32(weight).view(np.uint32)
    for i in range(bits.size):
        part = mask(float_of(bits[i] ^ signs[i]) > np.float32(0))
        fused[i] += float_of(values[i] & part)
        divisor[i] += float_of(weight_bits & part)
        taken[i] |= part


# Without an election every element but zeros takes part. The divisor is the same for all elements then, so that
# nothing is added to it here.
@compiled
def _add_all(bits: np.ndarray, values: np.ndarray, fused: np.ndarray, taken: np.ndarray) -> None:
    """Add the values of a delta (given by its bits) to `fused`."""
    for i in range(bits.size):
        part = mask((bits[i] & uint32(0x7FFFFFFF)) != uint32(0))
        fused[i] += float_of(values[i] & part)
        taken[i] |= part


# A chunk may begin and end within rows: `first` is where the current row's part begins in the chunk, start + first
# where it lies in the block, and so (start + first) // n is its row in the block, by which `ratios` is indexed.
@compiled
def _scale_rows(d: np.ndarray, ratios: np.ndarray, start: int, n: int, out: np.ndarray) -> None:
    """Set `out` to a stretch of a block, from its element `start` on, times the ratios of the block's rows of n."""
    first = 0
    while first < d.size:
        row = (start + first) // n
        stop = min(d.size, (row + 1) * n - start)
        part, scaled, ratio = d[first:stop], out[first:stop], ratios[row]
        for i in range(part.size):
            scaled[i] = part[i] * ratio
        first = stop


# A division by the rounded sum, not a product with its reciprocal, whose last bit differs. Where nothing takes part
# the divisor is 0 and counts as 1.
@compiled
def _divide(values: np.ndarray, divisors: np.ndarray) -> None:
    for i in range(values.size):
        by = divisors[i]
        values[i] /= np.float32(1) if by == np.float32(0) else by


# The product and the sum are rounded each, as in the reference. Both outcomes are computed, and the mask `taken`
# chooses between their bits: where nothing takes part, the base must stay, and base + 0 would make a -0 of the base a
# +0.
@compiled
def _add_to_base(base: np.ndarray, taken: np.ndarray, factor: np.float32, out: np.ndarray) -> None:
    """Set out = base + factor * out where `taken`, else to the base's own bits."""
    for i in range(base.size):
        left = base[i]
        summed = np.float32(left + out[i] * factor).view(np.uint32)
        out[i] = float_of((summed & taken[i]) | (np.float32(left).view(np.uint32) & ~taken[i]))


# row runs over the block's rows of n elements, i over one row's. Counting is two vectorised passes over a row that
# lies in the cache; the counters have the width of the values, and a row is shorter than 2^32.
@compiled
def agreement_counts(
    d: np.ndarray, kind: int, signs: np.ndarray, n: int, before: np.ndarray, after: np.ndarray
) -> None:
    """Add to before[row] and after[row] how many elements of each row of n are not zero, and how many of them agree."""
    for row in range(d.size // n):
        values, elected = d[row * n : row * n + n].view(np.uint32), signs[row * n : row * n + n]
        nonzero = agreeing = uint32(0)  # as wide as the values, of which most go into a vector then
        for i in range(values.size):
            nonzero = uint32(nonzero + uint32((values[i] & uint32(0x7FFFFFFF)) != uint32(0)))
        if kind == NONE:
            agreeing = nonzero
        else:
            for i in range(values.size):
                agreeing = uint32(agreeing + uint32(float_of(values[i] ^ elected[i]) > np.float32(0)))
        before[row] += np.int64(nonzero)
        after[row] += np.int64(agreeing)


# Election, sum, division and the step back to the base, for chunks small enough that all arrays of one stay in the
# first-level cache: by blocks, each step would come from the second. start and stop bound a chunk in the block, k
# runs over experts from left to right, as the reference adds. The sum begins at -0.0, the one number that changes no
# bit of what is added to it. Where no divisor is asked for, none is added up.
@compiled
def finish(
    base: np.ndarray,
    deltas: np.ndarray,
    kind: int,
    signs: np.ndarray,
    weights: np.ndarray,
    normalize: bool,
    ratios: np.ndarray,
    ratio_n: int,
    scale: float,
    spare: tuple[np.ndarray, np.ndarray, np.ndarray],
    out: np.ndarray,
) -> None:
    """Write out = base + scale * fused (float32), and the base's own bits where no expert takes part.

    ratios: (experts, rows) float32 factor of each expert's row of `ratio_n` elements; ratio_n 0 for none. spare: two
    blocks of float32 and one of uint32, of any content.
    """
    all_weights = np.float32(0)
    for k in range(deltas.shape[0]):
        all_weights = weights[k] if k == 0 else all_weights + weights[k]
    if abs(all_weights) < _NO_SUM:
        all_weights = np.float32(1)
    for start in range(0, base.size, _CHUNK):
        stop = min(start + _CHUNK, base.size)
        fused, scaled = out[start:stop], spare[0][: stop - start]
        divisor, taken = spare[1][: stop - start], spare[2][: stop - start]
        fused[:] = np.float32(-0.0)  # the one number that changes no bit of what is added to it
        if normalize:
            divisor[:] = all_weights if kind == NONE else np.float32(0)
        taken[:] = uint32(0)
        for k in range(deltas.shape[0]):
            d = deltas[k, start:stop]
            bits = values = d.view(np.uint32)
            if ratio_n:
                _scale_rows(d, ratios[k], start, ratio_n, scaled)
                values = scaled.view(np.uint32)
            if kind == NONE:
                _add_all(bits, values, fused, taken)
            elif normalize:
                _add_elected_and_weights(bits, signs[start:stop], values, weights[k], fused, divisor, taken)
            else:
                _add_elected(bits, signs[start:stop], values, fused, taken)
        if normalize:
            _divide(fused, divisor)
        _add_to_base(base[start:stop], taken, np.float32(scale), fused)

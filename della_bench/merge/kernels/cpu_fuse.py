"""Electing, fusing and adding to the base on the CPU, compiled by numba; see della_bench.merge.fuse for what it means.

Each loop runs over one flat block that stays in the cache, in the order in which the reference adds.
"""

from __future__ import annotations

import numpy as np
from numba import njit, uint32

from della_bench.merge.kernels.cpu_loops import OPTIONS

__all__ = ["COUNT", "NONE", "SUM", "agreement_counts", "elect", "finish", "weigh"]

NONE, SUM, COUNT = 0, 1, 2
_CHUNK = 2048  # elements that a core's first-level cache holds of all arrays in `finish`


@njit(**OPTIONS)
def weigh(d: np.ndarray, weight: float) -> None:
    """Multiply by a float32 weight, in place."""
    w = np.float32(weight)
    for i in range(d.size):
        d[i] *= w


@njit(**OPTIONS)
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
        signs[i] = _mask(total[i] < np.float32(0)) & uint32(0x80000000)


@njit(inline="always")
def _mask(condition: bool) -> int:
    """Return all ones (uint32) or 0: what is left out is masked, not jumped over, so that loops are vectorised."""
    return uint32(0) - uint32(condition)


@njit(inline="always")
def _float(bits: int) -> float:
    return np.uint32(bits).view(np.float32)


@njit(**OPTIONS)
def _parts(bits: np.ndarray, kind: int, signs: np.ndarray, out: np.ndarray) -> None:
    """Set `out` to masks: whether a delta (its bits) is not 0, or has the elected sign."""
    if kind == NONE:
        for i in range(bits.size):
            out[i] = _mask((bits[i] & uint32(0x7FFFFFFF)) != uint32(0))
    else:
        for i in range(bits.size):
            out[i] = _mask(_float(bits[i] ^ signs[i]) > np.float32(0))


@njit(**OPTIONS)
def _add_parts(values: np.ndarray, parts: np.ndarray, total: np.ndarray, is_first: bool) -> None:
    """Add to float32 totals the values (their bits) that take part, or begin with them."""
    if is_first:
        for i in range(total.size):
            total[i] = _float(values[i] & parts[i])
    else:
        for i in range(total.size):
            total[i] += _float(values[i] & parts[i])


@njit(**OPTIONS)
def _count_parts(weight: np.float32, parts: np.ndarray, total: np.ndarray, is_first: bool) -> None:
    """Add the weight to float32 totals where it takes part, or begin with it."""
    share = np.float32(weight).view(np.uint32)
    if is_first:
        for i in range(total.size):
            total[i] = _float(share & parts[i])
    else:
        for i in range(total.size):
            total[i] += _float(share & parts[i])


@njit(**OPTIONS)
def _scale_rows(d: np.ndarray, ratios: np.ndarray, start: int, n: int) -> None:
    """Multiply a stretch of a block, from its element `start` on, by the ratios of the block's rows of n, in place."""
    first = 0
    while first < d.size:
        row = (start + first) // n
        stop = min(d.size, (row + 1) * n - start)
        for i in range(first, stop):
            d[i] *= ratios[row]
        first = stop


@njit(**OPTIONS)
def _divide(values: np.ndarray, divisors: np.ndarray) -> None:
    for i in range(values.size):
        by = divisors[i]
        values[i] /= np.float32(1) if by == np.float32(0) else by


@njit(**OPTIONS)
def _add_to_base(base: np.ndarray, taken: np.ndarray, factor: np.float32, out: np.ndarray) -> None:
    """Set out = base + factor * out where `taken`, else to the base's own bits."""
    for i in range(base.size):
        left = base[i]
        summed = np.float32(left + out[i] * factor).view(np.uint32)
        out[i] = _float((summed & taken[i]) | (np.float32(left).view(np.uint32) & ~taken[i]))


@njit(**OPTIONS)
def agreement_counts(
    d: np.ndarray, kind: int, signs: np.ndarray, n: int, before: np.ndarray, after: np.ndarray
) -> None:
    """Add to before[row] and after[row] how many elements of each row of n are not zero, and how many of them agree."""
    for row in range(d.size // n):
        nonzero = 0
        agreeing = 0
        for i in range(row * n, row * n + n):
            nonzero += d[i] != 0
            agreeing += (d[i] != 0) if kind == NONE else ((d[i] < 0) if signs[i] else (d[i] > 0))
        before[row] += nonzero
        after[row] += agreeing


@njit(**OPTIONS)
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

    ratios: (experts, rows) float32 factor of each expert's row of `ratio_n` elements; ratio_n 0 for none; the deltas
    are multiplied by it in place. spare: a block of float32 and two of uint32, of any content.
    """
    every = np.float32(0)
    for k in range(deltas.shape[0]):
        every = weights[k] if k == 0 else every + weights[k]
    for start in range(0, base.size, _CHUNK):
        stop = min(start + _CHUNK, base.size)
        divisor, part, taken = spare[0][: stop - start], spare[1][: stop - start], spare[2][: stop - start]
        fused = out[start:stop]
        for k in range(deltas.shape[0]):
            d = deltas[k, start:stop]
            _parts(d.view(np.uint32), kind, signs[start:stop], part)
            if ratio_n:
                _scale_rows(d, ratios[k], start, ratio_n)
            _add_parts(d.view(np.uint32), part, fused, k == 0)
            if normalize and kind != NONE:
                _count_parts(weights[k], part, divisor, k == 0)
            if k == 0:
                taken[:] = part
            else:
                for i in range(part.size):
                    taken[i] |= part[i]
        if normalize:
            if kind == NONE:
                divisor[:] = every
            _divide(fused, divisor)
        _add_to_base(base[start:stop], taken, np.float32(scale), fused)

"""Electing, fusing and adding to the base on the CPU, compiled by numba; see della_bench.merge.fuse for what it means.

Each loop runs over one flat block that stays in the cache, in the order in which the reference adds.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from della_bench.merge.kernels.cpu_loops import OPTIONS

__all__ = ["COUNT", "NONE", "SUM", "agreement_counts", "elect", "finish", "weigh"]

NONE, SUM, COUNT = 0, 1, 2


@njit(**OPTIONS)
def weigh(d: np.ndarray, weight: float) -> None:
    """Multiply by a float32 weight, in place."""
    w = np.float32(weight)
    for i in range(d.size):
        d[i] *= w


@njit(**OPTIONS)
def elect(deltas: np.ndarray, kind: int, negative: np.ndarray) -> None:
    """Set `negative` (uint8) where the elected sign is negative. deltas: (experts, block) float32, weighed.

    kind: 1 by the sum over the experts from left to right, 2 by the count of signs; a sum of 0 or NaN is not negative.
    """
    size = deltas.shape[1]
    total = np.empty(size, np.float32)
    if kind == SUM:
        for i in range(size):
            total[i] = deltas[0, i]
        for k in range(1, deltas.shape[0]):
            for i in range(size):
                total[i] += deltas[k, i]
    else:
        total[:] = 0
        for k in range(deltas.shape[0]):
            for i in range(size):
                total[i] += np.float32(np.int32(deltas[k, i] > 0) - np.int32(deltas[k, i] < 0))
    for i in range(size):
        negative[i] = total[i] < 0


@njit(**OPTIONS)
def _agrees(d: np.float32, kind: int, negative: np.uint8) -> bool:
    if kind == NONE:
        return d != 0
    return d < 0 if negative else d > 0


@njit(**OPTIONS)
def agreement_counts(
    d: np.ndarray, kind: int, negative: np.ndarray, n: int, before: np.ndarray, after: np.ndarray
) -> None:
    """Add to before[row] and after[row] how many elements of each row of n are not zero, and how many of them agree."""
    for row in range(d.size // n):
        nonzero = 0
        agreeing = 0
        for i in range(row * n, row * n + n):
            nonzero += d[i] != 0
            agreeing += _agrees(d[i], kind, negative[i])
        before[row] += nonzero
        after[row] += agreeing


@njit(**OPTIONS)
def finish(
    base: np.ndarray,
    deltas: np.ndarray,
    kind: int,
    negative: np.ndarray,
    weights: np.ndarray,
    normalize: bool,
    ratios: np.ndarray,
    ratio_n: int,
    scale: float,
    out: np.ndarray,
) -> None:
    """Write out = base + scale * fused (float32), and the base's own bits where no expert takes part.

    ratios: (experts, rows) float32 factor of each expert's row of `ratio_n` elements; ratio_n 0 for none.
    """
    size = base.size
    fused, divisor = np.empty(size, np.float32), np.empty(size, np.float32)
    takes_part = np.empty(size, np.bool_)
    zero, one, factor = np.float32(0), np.float32(1), np.float32(scale)
    every = zero
    for k in range(deltas.shape[0]):
        w = weights[k]
        every = w if k == 0 else every + w
        d = deltas[k]
        if ratio_n:
            scaled = np.empty(size, np.float32)
            for row in range(size // ratio_n):
                r = ratios[k, row]
                for i in range(row * ratio_n, row * ratio_n + ratio_n):
                    scaled[i] = d[i] * r
        else:
            scaled = d
        if kind == NONE:
            for i in range(size):
                part = d[i] != zero
                term = scaled[i] if part else zero
                fused[i] = term if k == 0 else fused[i] + term
                takes_part[i] = part if k == 0 else takes_part[i] | part
        else:
            for i in range(size):
                part = (d[i] < zero) if negative[i] else (d[i] > zero)
                term = scaled[i] if part else zero
                share = w if part else zero
                if k == 0:
                    fused[i], divisor[i], takes_part[i] = term, share, part
                else:
                    fused[i] += term
                    divisor[i] += share
                    takes_part[i] |= part
    if normalize:
        if kind == NONE:
            for i in range(size):
                divisor[i] = every
        for i in range(size):
            by = divisor[i]
            fused[i] = fused[i] / (one if by == zero else by)
    for i in range(size):
        value = fused[i] if factor == one else fused[i] * factor
        out[i] = base[i] + value if takes_part[i] else base[i]

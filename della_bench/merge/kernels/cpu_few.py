"""Electing by the sum, fusing and adding to the base for two or three experts, on the CPU, in one loop; by numba.

An element's sign, sum and divisor stay in registers, where the general loops of `cpu_fuse` write each of them for each
expert. The bits are theirs: all sums are added in the same order, and each is rounded once.
"""

from __future__ import annotations

import numpy as np
from numba import njit, uint32

from della_bench.merge.kernels.cpu_fuse import SUM, float_of, mask
from della_bench.merge.kernels.cpu_loops import compiled

__all__ = ["finish_few", "is_few"]


@njit(inline="always")
def is_few(experts: int, kind: int, has_ratios: bool) -> bool:
    """Whether `finish_few` does a merge of so many experts. kind, has_ratios: as in `finish`."""
    return kind == SUM and not has_ratios and (experts == 2 or experts == 3)


# One expert's turn, and the step back to the base; i runs over a block in the loops below.
@njit(inline="always")
def _sign(total: np.float32) -> np.uint32:
    return mask(total < np.float32(0)) & uint32(0x80000000)


@njit(inline="always")
def _join(
    value: np.float32, sign: np.uint32, weight: np.float32, fused: np.float32, divisor: np.float32, taken: np.uint32
) -> tuple[np.float32, np.float32, np.uint32]:
    """Return sum, divisor and whether anything takes part, with one expert's value where it has the elected sign."""
    bits = np.float32(value).view(np.uint32)
    part = mask(float_of(bits ^ sign) > np.float32(0))
    weight_bits = np.float32(weight).view(np.uint32)
    return (
        np.float32(fused + float_of(bits & part)),
        np.float32(divisor + float_of(weight_bits & part)),
        uint32(taken | part),
    )


@njit(inline="always")
def _stepped(
    base: np.float32, fused: np.float32, divisor: np.float32, taken: np.uint32, normalize: bool, scale: np.float32
) -> np.float32:
    """Return base + scale * fused, divided before if `normalize`; the base's own bits where nothing is taken."""
    by = np.float32(1) if divisor == np.float32(0) else divisor
    value = np.float32(fused / by) if normalize else fused
    summed = np.float32(base + np.float32(value * scale)).view(np.uint32)
    return float_of((summed & taken) | (np.float32(base).view(np.uint32) & ~taken))


@compiled
def _finish_two(
    base: np.ndarray, deltas: np.ndarray, weights: np.ndarray, normalize: bool, scale: float, out: np.ndarray
) -> None:
    (a, b), factor = (deltas[0], deltas[1]), np.float32(scale)
    of_a, of_b = weights[0], weights[1]
    for i in range(base.size):
        sign = _sign(np.float32(a[i] + b[i]))
        fused, divisor, taken = _join(a[i], sign, of_a, np.float32(-0.0), np.float32(0), uint32(0))
        fused, divisor, taken = _join(b[i], sign, of_b, fused, divisor, taken)
        out[i] = _stepped(base[i], fused, divisor, taken, normalize, factor)


@compiled
def _finish_three(
    base: np.ndarray, deltas: np.ndarray, weights: np.ndarray, normalize: bool, scale: float, out: np.ndarray
) -> None:
    (a, b, c), factor = (deltas[0], deltas[1], deltas[2]), np.float32(scale)
    of_a, of_b, of_c = weights[0], weights[1], weights[2]
    for i in range(base.size):
        sign = _sign(np.float32(np.float32(a[i] + b[i]) + c[i]))
        fused, divisor, taken = _join(a[i], sign, of_a, np.float32(-0.0), np.float32(0), uint32(0))
        fused, divisor, taken = _join(b[i], sign, of_b, fused, divisor, taken)
        fused, divisor, taken = _join(c[i], sign, of_c, fused, divisor, taken)
        out[i] = _stepped(base[i], fused, divisor, taken, normalize, factor)


@compiled
def finish_few(
    base: np.ndarray, deltas: np.ndarray, weights: np.ndarray, normalize: bool, scale: float, out: np.ndarray
) -> None:
    """Do what `elect` by the sum and `finish` without ratios do, for two or three experts."""
    if deltas.shape[0] == 2:
        _finish_two(base, deltas, weights, normalize, scale, out)
    else:
        _finish_three(base, deltas, weights, normalize, scale, out)

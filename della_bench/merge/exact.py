"""Sums that do not depend on the order of summation.

A floating-point sum depends on how a device splits the work. Here every element is taken apart into an integer
mantissa and an exponent; the mantissas of one exponent are added as integers, and the few hundred totals exactly, in
Python. So an L1 norm or a dot product is the same number everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import c_float
from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

__all__ = ["exact_sum", "norm_ratio"]

_BITS = 26
_OFFSET = 1100  # frexp's exponent of a finite float64 lies in [-1073, 1024]


def exact_sum(values: torch.Tensor) -> Fraction:
    """Return the exact sum of a finite float tensor of fewer than 2^36 elements.

    Raises OverflowError where an element is infinite or NaN.
    """
    import torch

    flat = values.reshape(-1).to(torch.float64)
    if not bool(torch.isfinite(flat).all()):
        raise OverflowError("a sum over values that are not finite")
    mantissa, exponent = torch.frexp(flat)
    bins = exponent.to(torch.int64) + _OFFSET
    # 53 bits of mantissa in two integers of at most 27, so that 2^36 of them fit into 63 bits.
    scaled = mantissa * 2.0**_BITS
    high = scaled.floor()
    low = (scaled - high) * 2.0 ** (_BITS + 1)
    total = Fraction(0)
    for part, shift in ((high, _BITS), (low, 2 * _BITS + 1)):
        sums = torch.zeros(2 * _OFFSET, dtype=torch.int64, device=flat.device)
        sums.scatter_add_(0, bins, part.to(torch.int64))
        for position in sums.nonzero().reshape(-1).tolist():
            total += int(sums[position]) * Fraction(2) ** (position - _OFFSET - shift)
    return total


def norm_ratio(before: Sequence[int], after: Sequence[int]) -> float:
    """Return the L1 norm of a delta before its drop over that after it, in float32; 1 where there is none to match.

    before, after: 256 sums of the mantissas of float32 magnitudes, by exponent: a magnitude is its mantissa (24 bits,
    or 23 where the exponent is 0) times 2^(max(exponent, 1) - 150). No norm can be matched in a delta that overflowed,
    nor where one is below mergekit's tolerance of 1e-7.
    """
    if before[255] or after[255]:
        return 1.0
    norms = [
        sum((total * Fraction(2) ** (max(e, 1) - 150) for e, total in enumerate(row)), Fraction(0))
        for row in (before, after)
    ]
    return c_float(float(norms[0] / norms[1])).value if min(norms) >= 1e-7 else 1.0

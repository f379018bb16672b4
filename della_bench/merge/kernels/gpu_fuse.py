"""How the Triton kernels elect a sign and fuse the deltas of all experts; shared by all that merge."""

from __future__ import annotations

import triton
import triton.language as tl

from della_bench.merge.kernels.gpu_device import IN_INTERPRETER, divide

__all__ = ["COUNT", "NONE", "SUM", "agrees", "fuse", "is_negative"]

NONE, SUM, COUNT = tl.constexpr(0), tl.constexpr(1), tl.constexpr(2)
_NO_SUM = tl.constexpr(1e-8)


# Comparisons, not signs: a zero never agrees, and where signs are elected a NaN does not either.
@triton.jit
def agrees(d, negative, elect: tl.constexpr):
    """Whether deltas agree with the elected sign."""
    return d != 0 if elect == NONE else tl.where(negative, d < 0, d > 0)


# Sums run over experts (k, unrolled) from left to right, as the reference's do.
@triton.jit
def is_negative(deltas, count: tl.constexpr, elect: tl.constexpr):
    """Return the elected sign of each element, from deltas times their weights."""
    total = deltas[0]
    if elect == COUNT:
        total = (deltas[0] > 0).to(tl.float32) - (deltas[0] < 0).to(tl.float32)
    for k in tl.static_range(1, count):
        if elect == COUNT:
            total += (deltas[k] > 0).to(tl.float32) - (deltas[k] < 0).to(tl.float32)
        elif elect == SUM:
            total += deltas[k]
    return total < 0


@triton.jit
def _turned(d, sign):
    """Return a delta with its sign turned where `sign` has the bit; 0 where it is negative then, or NaN."""
    turned = (d.to(tl.int32, bitcast=True) ^ sign).to(tl.float32, bitcast=True)
    # A GPU's maximum with a NaN is the other number, the interpreter's is NaN.
    return tl.where(turned > 0, turned, 0.0) if IN_INTERPRETER else tl.maximum(turned, 0.0)


# Where signs are elected, deltas are turned so that what agrees is positive: one maximum keeps it. To add a zero
# changes nothing but the sign of a zero, to which none takes part.
@triton.jit
def _fused(deltas, factors, count: tl.constexpr, elect: tl.constexpr, normalize: tl.constexpr):
    """Return the sum (or mean) of the deltas that agree with the elected sign, and where there is one."""
    if elect == NONE:
        fused, bits, divisor = deltas[0], deltas[0].to(tl.int32, bitcast=True), tl.load(factors)
        for k in tl.static_range(1, count):
            fused += deltas[k]
            bits |= deltas[k].to(tl.int32, bitcast=True)
            divisor += tl.load(factors + 2 * k)
        takes_part = (bits & 0x7FFFFFFF) != 0
        if normalize:
            divisor = tl.where(takes_part, divisor, 1.0)
            fused = divide(fused, tl.where(tl.abs(divisor) < _NO_SUM, 1.0, divisor))
    else:
        sign = tl.where(is_negative(deltas, count, elect), -0x80000000, 0).to(tl.int32)
        fused = _turned(deltas[0], sign)
        divisor = tl.where(fused > 0, tl.load(factors), 0.0)
        for k in tl.static_range(1, count):
            agreeing = _turned(deltas[k], sign)
            fused += agreeing
            divisor += tl.where(agreeing > 0, tl.load(factors + 2 * k), 0.0)
        takes_part = fused > 0
        if normalize:
            fused = divide(fused, tl.where(divisor == 0, 1.0, divisor))
        fused = (fused.to(tl.int32, bitcast=True) ^ sign).to(tl.float32, bitcast=True)
    return fused, takes_part


# `ratios` and `stride`: the first expert's ratio, and how far the next one's lies behind it.
@triton.jit
def _scaled(deltas, factors, ratios, stride, count: tl.constexpr, elect: tl.constexpr, normalize: tl.constexpr):
    """Do what `_fused` does, with deltas times their ratios once signs are elected."""
    negative = is_negative(deltas, count, elect)
    takes_part = agrees(deltas[0], negative, elect)
    fused = tl.where(takes_part, deltas[0] * tl.load(ratios), 0.0)
    all_weights = tl.load(factors)
    divisor = tl.where(takes_part, all_weights, 0.0)
    for k in tl.static_range(1, count):
        agreeing = agrees(deltas[k], negative, elect)
        takes_part |= agreeing
        fused += tl.where(agreeing, deltas[k] * tl.load(ratios + k * stride), 0.0)
        weight = tl.load(factors + 2 * k)
        all_weights += weight
        divisor += tl.where(agreeing, weight, 0.0)
    if normalize:
        if elect == NONE:
            divisor = tl.where(takes_part, all_weights, all_weights)
            divisor = tl.where(tl.abs(divisor) < _NO_SUM, 1.0, divisor)
        fused = divide(fused, tl.where(divisor == 0, 1.0, divisor))
    return fused, takes_part


@triton.jit
def fuse(
    wide, deltas, factors, ratios, stride, count: tl.constexpr, elect: tl.constexpr, normalize: tl.constexpr,
    scaled: tl.constexpr,
):  # fmt: skip
    """Return base plus lambda times the sum (or mean) of the deltas that agree with the elected sign."""
    if scaled:
        fused, takes_part = _scaled(deltas, factors, ratios, stride, count, elect, normalize)
    else:
        fused, takes_part = _fused(deltas, factors, count, elect, normalize)
    merged = wide + fused * tl.load(factors + 2 * count)
    return tl.where(takes_part, merged, wide)

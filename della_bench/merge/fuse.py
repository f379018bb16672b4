"""Electing signs and fusing the deltas of several experts into one.

All tensors are float32. Experts are added from left to right, each product and each sum rounded once: no fused
multiply-add, whose last bit differs between devices.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from della_bench.merge.drop import as_rows
from della_bench.spec.method import Elect, Scaling

__all__ = ["NO_SUM", "ada_ratio", "add_to_base", "agreeing", "fuse", "left_to_right"]

NO_SUM = 1e-8  # where nothing is elected, weights whose sum is smaller have none


def agreeing(deltas: Sequence[torch.Tensor], elect: Elect) -> list[torch.Tensor]:
    """Return for each weighted delta a mask of the elements that take part in the fusion.

    "sum": those whose sign is that of the sum over the experts (Yadav et al. 2023, section 3); "count": the sign that
    most experts have; a sum or count of 0 (or NaN) counts as positive. "none": all. A zero never takes part. A NaN,
    which only an overflow brings, has no sign: it has no voice in a count and agrees with none.
    """
    if elect == "none":
        return [delta != 0 for delta in deltas]
    total = left_to_right(deltas if elect == "sum" else [delta.sign() for delta in deltas])
    negative = total < 0
    return [torch.where(negative, delta < 0, delta > 0) for delta in deltas]


def ada_ratio(delta: torch.Tensor, agrees: torch.Tensor, scaling: Scaling) -> torch.Tensor:
    """Return the factor that restores what the election took from one expert: non-zero elements before / after it.

    By row ("ada_row"; "ada_row_inv" the inverse) or over the whole tensor ("ada_layer"). An empty denominator counts
    as a ratio of 1. The counts are divided in float64 and rounded to float32.
    """
    nonzero, agrees = as_rows(delta != 0), as_rows(agrees)
    if scaling == "ada_layer":
        nonzero, agrees = nonzero.reshape(1, -1), agrees.reshape(1, -1)
    before, after = nonzero.sum(dim=1, keepdim=True), agrees.sum(dim=1, keepdim=True)
    if scaling == "ada_row_inv":
        before, after = after, before
    ratio = torch.where(after == 0, 1.0, before.to(torch.float64) / after.to(torch.float64)).to(torch.float32)
    return ratio.expand(nonzero.shape).reshape(delta.shape)


def fuse(
    deltas: Sequence[torch.Tensor], weights: Sequence[float], *, elect: Elect, normalize: bool, scaling: Scaling
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weigh, elect, scale and add the deltas.

    Returns the fused delta and a mask of the elements in which any expert takes part. With `normalize` the sum is
    divided by the sum of the weights of those that take part (of all, where nothing is elected); a sum of 0 counts
    as 1, and without an election one below NO_SUM, too: all that rounding has left of weights that sum up to 0, as in
    mergekit.
    """
    weighted = [delta * weight for delta, weight in zip(deltas, weights, strict=True)]
    agrees = agreeing(weighted, elect)
    if scaling.startswith("ada"):
        terms = [delta * ada_ratio(delta, mask, scaling) for delta, mask in zip(weighted, agrees, strict=True)]
    else:
        terms = weighted
    fused = left_to_right([torch.where(mask, term, 0.0) for mask, term in zip(agrees, terms, strict=True)])
    if normalize:
        counted = [torch.ones_like(mask) for mask in agrees] if elect == "none" else agrees
        divisor = left_to_right([mask.to(torch.float32) * w for mask, w in zip(counted, weights, strict=True)])
        no_sum = divisor.abs() < NO_SUM if elect == "none" else divisor == 0
        fused = fused / torch.where(no_sum, 1.0, divisor)
    takes_part = agrees[0]
    for mask in agrees[1:]:
        takes_part = takes_part | mask
    return fused, takes_part


def add_to_base(
    base: torch.Tensor, fused: torch.Tensor, takes_part: torch.Tensor, scale: float, dtype: torch.dtype
) -> torch.Tensor:
    """Return base + scale * fused, computed in float32 and rounded to dtype.

    Where no expert takes part or the scale is 0 it is the base itself: adding a zero would turn a negative zero of the
    base into a positive one.
    """
    own = base.to(dtype)
    if scale == 0:
        return own
    scaled = fused if scale == 1 else fused * scale
    return torch.where(takes_part, (base.to(torch.float32) + scaled).to(dtype), own)


def left_to_right(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the sum, in the order of the tensors, each sum rounded once."""
    total = tensors[0]
    for tensor in tensors[1:]:
        total = total + tensor
    return total

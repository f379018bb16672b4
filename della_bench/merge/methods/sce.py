"""SCE (Wan et al. 2024, arXiv:2408.07990): select what varies, calculate weights, erase minorities."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from della_bench.merge.fuse import agreeing, left_to_right
from della_bench.merge.methods.vectors import deltas, dot, mean, order, scalar
from della_bench.spec import Numbers
from della_bench.spec.thresholds import exact

__all__ = ["sce"]

_SMALLEST = 1e-6  # mergekit's: the least sum of squares and of weights


def sce(base: torch.Tensor, experts: Sequence[torch.Tensor], numbers: Numbers, *, select_topk: float) -> torch.Tensor:
    """Return base + the weighted mean of the selected deltas whose sign is that of their sum.

    Selected is the share `select_topk` of the elements that vary between experts, those of the largest variance; equal
    ones in the order of expert 0's random words. An expert's weight is the mean of its selected squares, one for the
    whole tensor, of any shape.
    """
    found = deltas(base, experts)
    if select_topk < 1:
        kept = _varying(found, select_topk, numbers.words(0).reshape(-1))
        found = [torch.where(kept, delta, 0.0) for delta in found]
    squares = [dot(delta, delta) / delta.numel() for delta in found]
    total = sum(squares)
    weights = [square / total for square in squares] if total >= _SMALLEST else [1 / len(found)] * len(found)
    agrees = agreeing(found, "sum")
    shares = [mask.to(base.dtype) * weight for mask, weight in zip(agrees, weights, strict=True)]
    merged = left_to_right([delta * share for delta, share in zip(found, shares, strict=True)])
    return base + merged / left_to_right(shares).clamp(min=_SMALLEST)


def _varying(found: Sequence[torch.Tensor], share: float, words: torch.Tensor) -> torch.Tensor:
    """Return a mask of the share of the elements that vary most between the deltas, of those that vary at all."""
    centre = mean(found)
    squares = left_to_right([(delta - centre) * (delta - centre) for delta in found])
    variance = (squares / scalar(len(found), squares)).reshape(-1)
    count = int(exact(share) * int(torch.count_nonzero(variance)))
    kept = torch.zeros_like(variance, dtype=torch.bool)
    kept[order(-variance, words)[:count]] = True
    return kept.reshape(centre.shape)

"""Model Stock (Jang et al. 2024, section 4.2, equation 5): how far to go from the base to the mean of its experts."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import torch

from della_bench.merge.drop import as_rows
from della_bench.merge.methods.vectors import deltas, mean
from della_bench.spec import Numbers

__all__ = ["model_stock"]

_SMALLEST = 1e-6  # mergekit's: the least product of two lengths, and the least denominator


def model_stock(
    base: torch.Tensor, experts: Sequence[torch.Tensor], numbers: Numbers, *, filter_wise: bool
) -> torch.Tensor:
    """Return t * mean of the experts + (1 - t) * base, t = k cos / (1 + (k - 1) cos) for k experts.

    cos: the mean cosine of the angles between two experts' deltas, over the whole tensor, or with `filter_wise` for
    each row (last dimension; a vector is one row). Where the denominator is 0, the base stays.
    """
    rows = [as_rows(delta) if filter_wise else delta.reshape(1, -1) for delta in deltas(base, experts)]
    cosines = [_cosines(a.to(torch.float64), b.to(torch.float64)) for a, b in combinations(rows, 2)]
    cos, k = mean(cosines), len(experts)  # (rows, 1)
    below = 1 + (k - 1) * cos
    t = torch.where(below.abs() < _SMALLEST, 0.0, k * cos / torch.where(below == 0, 1.0, below)).to(base.dtype)
    shape = (-1, base.shape[-1]) if filter_wise and base.dim() else (1, -1)
    merged = t * mean(experts).reshape(shape) + (1 - t) * base.reshape(shape)
    return merged.reshape(base.shape)


def _cosines(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return the cosine of each row's angle; (rows, 1) float64."""
    lengths: torch.Tensor = torch.linalg.vector_norm(a, dim=1) * torch.linalg.vector_norm(b, dim=1)
    cosines = (a * b).sum(dim=1) / lengths.clamp(min=_SMALLEST)
    return cosines.clamp(-1, 1).reshape(-1, 1)

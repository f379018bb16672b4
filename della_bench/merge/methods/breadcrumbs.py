"""Model Breadcrumbs (Davari and Belilovsky 2023): the smallest and the largest magnitudes go, what is between stays."""

from __future__ import annotations

import torch

from della_bench.merge.methods.vectors import order
from della_bench.spec.thresholds import exact

__all__ = ["keep_middle"]


def keep_middle(
    delta: torch.Tensor, density: float, epsilon: None, words: torch.Tensor, *, gamma: float
) -> torch.Tensor:
    """Drop the share `gamma` of a delta's largest magnitudes, keep the share `density` below them, and drop the rest.

    Counts are rounded down, as in mergekit. Where gamma and density are more than the whole, fewer of the largest are
    dropped. Equal magnitudes are told apart by their random words.
    """
    n = delta.numel()
    kept, top = int(exact(density) * n), int(exact(gamma) * n)
    bottom = max(0, n - kept - top)
    positions = order(delta.abs().reshape(-1), words.reshape(-1))[bottom : bottom + kept]
    out = torch.zeros_like(delta).reshape(-1)
    out[positions] = delta.reshape(-1)[positions]
    return out.reshape(delta.shape)

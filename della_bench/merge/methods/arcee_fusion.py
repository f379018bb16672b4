"""Arcee Fusion, as mergekit has it: an expert's weights where its difference to the base is important."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from della_bench.spec import Numbers

__all__ = ["arcee_fusion"]


def arcee_fusion(base: torch.Tensor, experts: Sequence[torch.Tensor], numbers: Numbers) -> torch.Tensor:
    """Take the one expert's element where its importance is an outlier of the tensor's, the base's elsewhere.

    Importance: |difference| times the Kullback-Leibler divergence of the softmax of the expert's row (last dimension)
    from the base's. An outlier lies 1.5 interquartile ranges above the median. mergekit estimates the quartiles of a
    tensor of more than a million elements from a random sample; here they are those of all.
    """
    (expert,) = experts
    rows = (1, -1) if base.dim() == 0 else base.shape
    p = expert.reshape(rows).softmax(dim=-1) + 1e-8
    q = base.reshape(rows).softmax(dim=-1) + 1e-8
    divergence = (p * (p / q).log()).sum(dim=-1, keepdim=True)
    importance = (expert - base).abs().reshape(rows) * divergence
    ordered = importance.reshape(-1).sort().values
    last = ordered.numel() - 1
    first_quartile, median, third_quartile = (ordered[last * k // 4] for k in (1, 2, 3))
    taken = importance >= median + 1.5 * (third_quartile - first_quartile)
    return base + torch.where(taken.reshape(base.shape), expert - base, 0.0)

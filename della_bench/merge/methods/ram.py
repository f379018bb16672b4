"""Reinforced Agent Merging (arXiv:2601.13572), as mergekit has it: what one expert changed counts fully."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from della_bench.merge.fuse import left_to_right
from della_bench.merge.methods.vectors import deltas
from della_bench.spec import Numbers

__all__ = ["ram", "ramplus_tl"]


def ram(base: torch.Tensor, experts: Sequence[torch.Tensor], numbers: Numbers, *, threshold: float) -> torch.Tensor:
    """Add to the base what one expert alone changed by more than `threshold`, and the mean of what several changed.

    The mean is over those that changed the element. Elementwise, in any shape.
    """
    return _merged(base, experts, threshold, r=0.0, alpha=0.0)


def ramplus_tl(
    base: torch.Tensor, experts: Sequence[torch.Tensor], numbers: Numbers, *, r: float, alpha: float, threshold: float
) -> torch.Tensor:
    """Do what `ram` does, with an expert's own changes scaled by 1 + r * min(shared / own, alpha).

    shared, own: how many elements of the tensor the expert changed with others, and alone. ("TL", tensor-local: the
    paper counts over the whole model.)
    """
    return _merged(base, experts, threshold, r, alpha)


def _merged(
    base: torch.Tensor, experts: Sequence[torch.Tensor], threshold: float, r: float, alpha: float
) -> torch.Tensor:
    found = deltas(base, experts)
    changed = [delta.abs() > threshold for delta in found]
    count = left_to_right([mask.to(torch.int32) for mask in changed])
    alone, together = count == 1, count > 1
    terms = []
    for delta, mask in zip(found, changed, strict=True):
        own, shared = int((mask & alone).sum()), int((mask & together).sum())
        # mergekit divides by at least its threshold where an expert changed nothing alone.
        ratio = shared / max(own, threshold) if own or threshold else 0.0
        scale = 1 + r * min(ratio, alpha)
        moved = torch.where(together, delta / count.to(delta.dtype), delta * scale)
        terms.append(torch.where(mask, moved, 0.0))
    return torch.where(count > 0, base + left_to_right(terms), base)

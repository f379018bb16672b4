"""Consensus merging (Wang et al. 2024, arXiv:2405.07813, section 4.3): only what several experts need is merged."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from della_bench.merge.fuse import agreeing, left_to_right
from della_bench.merge.methods.vectors import deltas, order
from della_bench.spec import Numbers
from della_bench.spec.thresholds import kept_count

__all__ = ["consensus_ta", "consensus_ties"]


def consensus_ta(
    base: torch.Tensor,
    experts: Sequence[torch.Tensor],
    numbers: Numbers,
    *,
    mask_lambda: tuple[float, ...],
    agree: int,
) -> torch.Tensor:
    """Return base + lambda * the sum of the weighted deltas, where at least `agree` experts' masks hold the element.

    An expert's mask (a TALL mask, section 4.1) holds an element where |own| > mask_lambda * |sum - own|, own being its
    weighted delta. Elementwise, in any shape.
    """
    found = deltas(base, experts, numbers.weights)
    return _agreed(base, found, left_to_right(found), numbers, mask_lambda, agree)


def consensus_ties(
    base: torch.Tensor,
    experts: Sequence[torch.Tensor],
    numbers: Numbers,
    *,
    mask_lambda: tuple[float, ...],
    agree: int,
) -> torch.Tensor:
    """Do what `consensus_ta` does with the elected sum of TIES in the place of the sum.

    That is of the share `density` of each expert's largest magnitudes in the tensor, of those with the elected sign;
    equal magnitudes go in the order of their random words. The masks compare it with the whole deltas, as in the
    authors' code.
    """
    found = deltas(base, experts, numbers.weights)
    trimmed = []
    for index, delta in enumerate(found):
        count = kept_count(numbers.density[index], delta.numel())
        kept = order(-delta.abs().reshape(-1), numbers.words(index).reshape(-1))[:count]
        mask = torch.zeros(delta.numel(), dtype=torch.bool, device=delta.device)
        mask[kept] = True
        trimmed.append(torch.where(mask.reshape(delta.shape), delta, 0.0))
    elected = [torch.where(agrees, delta, 0.0) for agrees, delta in zip(agreeing(trimmed, "sum"), trimmed, strict=True)]
    return _agreed(base, found, left_to_right(elected), numbers, mask_lambda, agree)


def _agreed(
    base: torch.Tensor,
    found: Sequence[torch.Tensor],
    merged: torch.Tensor,
    numbers: Numbers,
    mask_lambda: tuple[float, ...],
    agree: int,
) -> torch.Tensor:
    masks = [own.abs() > (merged - own).abs() * share for own, share in zip(found, mask_lambda, strict=True)]
    votes = left_to_right([mask.to(torch.int32) for mask in masks])
    return torch.where(votes >= agree, base + merged * numbers.lambda_, base)

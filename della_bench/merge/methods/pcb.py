"""PCB-Merging (Du et al. 2024, arXiv:2410.02396, section 3.2): parameters compete within and between experts."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from della_bench.merge.fuse import left_to_right
from della_bench.merge.methods.vectors import deltas, order
from della_bench.spec import Numbers
from della_bench.spec.thresholds import kept_count

__all__ = ["pcb"]


def pcb(base: torch.Tensor, experts: Sequence[torch.Tensor], numbers: Numbers) -> torch.Tensor:
    """Return base + lambda * the mean of the weighted deltas, each element by its balance between the experts.

    An expert's balance is softmax(N norm(d_i d_i)) * sum over j of softmax(norm(d_i d_j)): how large an element is in
    its own delta, and how well it agrees with those of all N. Only its share `density` of the largest balances takes
    part, equal ones in the order of their random words. norm: min-max onto [0, 1], as in the authors' code. Competing
    is what belongs to one tensor, of any shape; the paper compares over the whole model.
    """
    flat = [delta.reshape(-1) for delta in deltas(base, experts)]
    balances = []
    for index, own in enumerate(flat):
        between = left_to_right([_norm(own * other).softmax(dim=0) for other in flat])
        balance = (len(flat) * _norm(own * own)).softmax(dim=0) * between
        kept = order(-balance, numbers.words(index).reshape(-1))[: kept_count(numbers.density[index], own.numel())]
        balances.append(torch.zeros_like(balance).index_copy(0, kept, balance[kept]))
    terms = [own * weight * b for own, weight, b in zip(flat, numbers.weights, balances, strict=True)]
    total = left_to_right(balances)
    merged = left_to_right(terms) / torch.where(total == 0, 1.0, total)
    return base + merged.reshape(base.shape) * numbers.lambda_


def _norm(values: torch.Tensor) -> torch.Tensor:
    """Return values moved and scaled onto [0, 1]; zeros where all are equal."""
    span = values.max() - values.min()
    return (values - values.min()) / torch.where(span == 0, 1.0, span)

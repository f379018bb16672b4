"""Iso-C and Iso-CTS (Marczak et al. 2025, arXiv:2502.04959, sections 4.1 and 4.2): one size for all directions."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from della_bench.merge.fuse import left_to_right
from della_bench.merge.methods.matrices import is_matrix, mean_of_deltas, polar, svd
from della_bench.merge.methods.vectors import deltas
from della_bench.spec import Numbers
from della_bench.spec.thresholds import exact

__all__ = ["iso_c", "iso_cts"]


def iso_c(base: torch.Tensor, experts: Sequence[torch.Tensor], numbers: Numbers) -> torch.Tensor:
    """Return base + lambda * the sum of the weighted deltas with all its singular values set to their mean.

    Tensors that are no matrices get the mean of the deltas, as in the authors' code.
    """
    if not is_matrix(base):
        return mean_of_deltas(base, experts, numbers)
    u, values, v = svd(left_to_right(deltas(base, experts, numbers.weights)))
    return base + u @ v * _mean(values) * numbers.lambda_


def iso_cts(
    base: torch.Tensor, experts: Sequence[torch.Tensor], numbers: Numbers, *, common_space_fraction: float
) -> torch.Tensor:
    """Do what `iso_c` does, with the least common directions replaced by directions of each expert alone.

    Of the sum's r singular directions the share `common_space_fraction` is kept (the first ones). The rest is split
    evenly: each expert gives the first singular directions of its delta outside of the common ones. All are made
    orthogonal, and their values, the sum's and the experts' own, are set to their mean.
    """
    if not is_matrix(base):
        return mean_of_deltas(base, experts, numbers)
    found = deltas(base, experts, numbers.weights)
    rank, count = min(base.shape[-2:]), len(experts)
    # As in the authors' code: what does not split evenly among the experts is common.
    own = min(round((rank - int(exact(common_space_fraction) * rank)) / count), rank // count)
    common = rank - own * count
    u, values, v = svd(left_to_right(found))
    parts = [(u[..., :common], values[..., :common], v[..., :common, :])]
    for delta in found:
        outside = delta - parts[0][0] @ (parts[0][0].mT @ delta)
        left, sizes, right = svd(outside)
        parts.append((left[..., :own], sizes[..., :own], right[..., :own, :]))
    directions = polar(torch.cat([u for u, _, _ in parts], dim=-1)) @ polar(torch.cat([v for _, _, v in parts], dim=-2))
    return base + directions * _mean(torch.cat([values for _, values, _ in parts], dim=-1)) * numbers.lambda_


def _mean(values: torch.Tensor) -> torch.Tensor:
    """Return the mean of each matrix's singular values, to be multiplied with the matrix; (..., 1, 1)."""
    return values.mean(dim=-1)[..., None, None]

"""NuSLERP, as mergekit has it: spherical interpolation between two experts, of whole tensors or of their rows."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from della_bench.spec import Numbers

__all__ = ["nuslerp"]

_COLLINEAR = 1e-14  # squared sine below which the straight line is taken; float64 knows no smaller one


def nuslerp(
    base: torch.Tensor,
    experts: Sequence[torch.Tensor],
    numbers: Numbers,
    *,
    nuslerp_flatten: bool,
    nuslerp_row_wise: bool,
    deltas: bool,
) -> torch.Tensor:
    """Return the point on the arc from the first expert to the second that the second's share of the weights says.

    With `deltas` the experts' deltas are interpolated and the base is added. With `nuslerp_flatten` a tensor is one
    vector; without, its vectors lie along the last dimension, with `nuslerp_row_wise` along the first (mergekit's names
    and meaning). Weights that sum to 0 count as equal. Nearly parallel vectors are interpolated in a straight line.
    """
    first, second = (expert - base for expert in experts) if deltas else experts
    total = sum(numbers.weights)
    t = numbers.weights[1] / total if abs(total) >= 1e-6 else 0.5
    if nuslerp_flatten or base.dim() == 0:
        merged = _arcs(first.reshape(1, -1), second.reshape(1, -1), t).reshape(base.shape)
    elif nuslerp_row_wise:
        merged = _arcs(first.transpose(0, -1), second.transpose(0, -1), t).transpose(0, -1)
    else:
        merged = _arcs(first, second, t)
    return base + merged if deltas else merged


def _arcs(first: torch.Tensor, second: torch.Tensor, t: float) -> torch.Tensor:
    """Interpolate along the last dimension; angles and coefficients in float64."""
    a, b = first.to(torch.float64), second.to(torch.float64)
    one, other = (torch.linalg.vector_norm(vectors, dim=-1, keepdim=True).clamp(min=1e-7) for vectors in (a, b))
    cos = ((a * b).sum(dim=-1, keepdim=True) / (one * other)).clamp(-1, 1)
    straight = 1 - cos * cos <= _COLLINEAR
    angle = torch.acos(torch.where(straight, 0.0, cos))
    left = torch.where(straight, 1 - t, torch.sin((1 - t) * angle) / torch.sin(angle))
    right = torch.where(straight, t, torch.sin(t * angle) / torch.sin(angle))
    return left.to(first.dtype) * first + right.to(first.dtype) * second

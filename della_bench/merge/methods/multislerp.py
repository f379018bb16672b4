"""Multi-SLERP (Goddard 2024, as mergekit has it): interpolation on the sphere in the tangent space at the mean."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from della_bench.errors import MergeError
from della_bench.merge.fuse import left_to_right
from della_bench.merge.methods.vectors import dot, norm, scalar
from della_bench.spec import Numbers
from della_bench.spec.thresholds import sum_up_to_0

__all__ = ["multislerp"]


def multislerp(
    base: torch.Tensor, experts: Sequence[torch.Tensor], numbers: Numbers, *, eps: float, deltas: bool
) -> torch.Tensor:
    """Return the weighted centre of the flattened experts on the sphere, of their weighted mean length.

    Directions are projected onto the tangent space at their weighted mean, averaged there, and projected back. With
    `deltas` this is done to what the experts add to the base. `normalize` divides the weights by their sum (0, as
    they are written, counts as 1). One expert is returned as it is. Any shape.

    Two opposite experts whose weights balance are interpolated in a straight line; from tensors of no length comes one
    of none. Raises MergeError where more than two directions balance: they have no mean.
    """
    if len(experts) == 1:
        return experts[0]
    points = [expert - base for expert in experts] if deltas else list(experts)
    total = 1.0 if sum_up_to_0(numbers.weights) else sum(numbers.weights)
    weights = [weight / total for weight in numbers.weights] if numbers.normalize else list(numbers.weights)
    merged = _centre(points, weights, numbers.tensor, eps)
    return base + merged if deltas else merged


def _weighted(tensors: Sequence[torch.Tensor], weights: Sequence[float]) -> torch.Tensor:
    return left_to_right([tensor * weight for tensor, weight in zip(tensors, weights, strict=True)])


def _centre(points: Sequence[torch.Tensor], weights: Sequence[float], name: str, eps: float) -> torch.Tensor:
    lengths = [norm(point) for point in points]
    units = [point / scalar(length + eps or 1.0, point) for point, length in zip(points, lengths, strict=True)]
    mean = _weighted(units, weights)
    length = norm(mean)
    if length < eps or length == 0:
        if len(points) > 2 and any(lengths):
            raise MergeError(f"tensor {name}: the experts' directions balance and have no mean; change the weights")
        return _weighted(points, weights)
    mean = mean / scalar(length, mean)
    tangent = _weighted([unit - mean * dot(unit, mean) for unit in units], weights)
    angle = norm(tangent) + eps
    turned = mean * math.cos(angle) + tangent * (math.sin(angle) / angle if angle else 1.0)
    return turned * sum(length * weight for length, weight in zip(lengths, weights, strict=True))

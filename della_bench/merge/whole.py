"""Methods on whole weights instead of deltas, each a function of the contract in `della_bench.spec.method`."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from della_bench.merge.exact import exact_sum
from della_bench.spec import Numbers
from della_bench.spec.thresholds import sum_up_to_0

__all__ = ["arc", "linear", "passthrough", "slerp", "weighted_sum"]

_NEARLY_PARALLEL = 0.9995


def linear(base: None, experts: Sequence[torch.Tensor], numbers: Numbers) -> torch.Tensor:
    """Return the experts' `weighted_sum`."""
    return weighted_sum(experts, numbers.weights, normalize=numbers.normalize)


def slerp(base: torch.Tensor, experts: Sequence[torch.Tensor], numbers: Numbers) -> torch.Tensor:
    """Return the point on the `arc` from the base to the one expert that its weight says."""
    merged = arc(base, experts[0], numbers.weights[0])
    return merged.clone() if merged is base or merged is experts[0] else merged  # in float32, at the ends as between


def passthrough(
    base: None, experts: Sequence[torch.Tensor], numbers: Numbers, *, scale: tuple[float, ...]
) -> torch.Tensor:
    """Return the one expert, times `scale`."""
    return experts[0] if scale[0] == 1 else experts[0] * scale[0]


def weighted_sum(experts: Sequence[torch.Tensor], weights: Sequence[float], *, normalize: bool) -> torch.Tensor:
    """Return the weighted sum of the experts, divided by the sum of the weights if `normalize`.

    Weights that sum up to 0, as they are written in decimals, divide by 1.

    Wortsman et al. 2022, "Model soups". Added from left to right, each product and sum rounded once.
    """
    total = experts[0] * weights[0]
    divisor = _float32(weights[0])
    for expert, weight in zip(experts[1:], weights[1:], strict=True):
        total = total + expert * weight
        divisor = _float32(divisor + _float32(weight))
    # On a GPU, torch divides by a number as it multiplies by the rounded reciprocal; by a tensor it divides.
    return total / total.new_tensor(1.0 if sum_up_to_0(weights) else divisor or 1.0) if normalize else total


def arc(base: torch.Tensor, expert: torch.Tensor, t: float) -> torch.Tensor:
    """Return the spherical interpolation from base (t = 0) to expert (t = 1).

    Shoemake 1985, over the flattened tensors. Where they are nearly parallel (|cosine| > 0.9995), or one is zero, the
    straight line is taken. Norms and the dot product are exact sums; the two coefficients are rounded to float32.
    """
    if t in (0, 1):
        return expert if t else base
    a, b = base.to(torch.float64), expert.to(torch.float64)
    # A product of two float32 values is exact in float64, so that only the quotient is rounded.
    norms = math.sqrt(exact_sum(a * a)) * math.sqrt(exact_sum(b * b))
    cosine = float(exact_sum(a * b)) / norms if norms else 1.0
    if abs(cosine) > _NEARLY_PARALLEL:
        left, right = 1 - t, t
    else:
        angle = math.acos(cosine)
        left, right = math.sin((1 - t) * angle) / math.sin(angle), math.sin(t * angle) / math.sin(angle)
    return base * _float32(left) + expert * _float32(right)


def _float32(number: float) -> float:
    return torch.tensor(number, dtype=torch.float32).item()

"""The Karcher mean on the sphere, as mergekit has it: the direction whose squared angles to all experts are least."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from della_bench.merge.fuse import left_to_right
from della_bench.merge.methods.vectors import dot, norm, scalar
from della_bench.spec import Numbers

__all__ = ["karcher"]


def karcher(
    base: None, experts: Sequence[torch.Tensor], numbers: Numbers, *, max_iter: int, tol: float
) -> torch.Tensor:
    """Return the mean direction of the flattened experts, of their mean length.

    At most `max_iter` steps of the iteration in the tangent space; a step, an angle or an expert shorter than `tol` is
    none. One expert is returned as it is; where none has a length, zeros are. Any shape.
    """
    if len(experts) == 1:
        return experts[0]
    lengths = [norm(expert) for expert in experts]
    units = [_unit(expert, length) for expert, length in zip(experts, lengths, strict=True) if length > tol]
    if not units:
        return torch.zeros_like(experts[0])
    share = 1 / len(units)
    centre = left_to_right([unit * share for unit in units])
    length = norm(centre)
    centre = units[0] if length < tol else _unit(centre, length)
    for _ in range(max_iter):
        tangent = left_to_right([_towards(centre, unit, tol) * share for unit in units])
        length = norm(tangent)
        if length < tol:
            break
        centre = centre * math.cos(length) + _unit(tangent, length) * math.sin(length)
        centre = _unit(centre, norm(centre))
    return centre * (sum(lengths) / len(lengths))


def _unit(tensor: torch.Tensor, length: float) -> torch.Tensor:
    return tensor / scalar(length, tensor)


def _towards(centre: torch.Tensor, unit: torch.Tensor, tol: float) -> torch.Tensor:
    """Return the tangent at `centre` that leads to `unit`, as long as their angle."""
    cos = max(-1.0, min(1.0, dot(centre, unit)))
    angle = math.acos(cos)
    if angle < tol or math.sin(angle) == 0:
        return torch.zeros_like(centre)
    return (unit - centre * cos) * (angle / math.sin(angle))

"""What several methods compute on whole tensors: exact lengths and angles, orders, and numbers that float32 holds."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from della_bench.merge.exact import exact_sum

__all__ = ["cosine", "deltas", "dot", "mean", "norm", "order", "scalar"]


def deltas(base: torch.Tensor, experts: Sequence[torch.Tensor], weights: Sequence[float] = ()) -> list[torch.Tensor]:
    """Return what each expert adds to the base, times its weight where there are weights."""
    found = [expert - base for expert in experts]
    return [delta * weight for delta, weight in zip(found, weights, strict=True)] if weights else found


def mean(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the mean, added from left to right."""
    total = tensors[0]
    for tensor in tensors[1:]:
        total = total + tensor
    # On a GPU, torch divides by a number as it multiplies by the rounded reciprocal; by a tensor it divides.
    return total / scalar(len(tensors), total)


def scalar(number: float, like: torch.Tensor) -> torch.Tensor:
    """Return a number as a tensor of no dimension, on the device and in the dtype of another."""
    return torch.tensor(number, dtype=like.dtype, device=like.device)


def dot(a: torch.Tensor, b: torch.Tensor) -> float:
    """Return the dot product of two float32 tensors, summed exactly: the same number on every device."""
    # A product of two float32 values is exact in float64.
    return float(exact_sum(a.to(torch.float64) * b.to(torch.float64)))


def norm(tensor: torch.Tensor) -> float:
    """Return the Euclidean length of a float32 tensor, summed exactly."""
    return math.sqrt(dot(tensor, tensor))


def cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    """Return the cosine of the angle between two tensors, in [-1, 1]; 0 where one has no length."""
    lengths = norm(a) * norm(b)
    return max(-1.0, min(1.0, dot(a, b) / lengths)) if lengths else 0.0


def order(keys: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
    """Return the positions of a vector's elements from the smallest key to the largest, int64.

    keys, words: (n,). Equal keys stand in the order of their random words, then of their positions. By position alone,
    one end of a tensor would be kept before the other: of 16-bit deltas, up to a quarter is equal.
    """
    by_word = words.argsort(stable=True)
    return by_word[keys[by_word].argsort(stable=True)]

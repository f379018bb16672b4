"""WUDI-Merging (Cheng et al. 2025, arXiv:2503.08099, section 4): the merged delta that disturbs no expert's inputs."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from della_bench.merge.fuse import left_to_right
from della_bench.merge.methods.matrices import is_matrix, mean_of_deltas
from della_bench.merge.methods.vectors import deltas
from della_bench.spec import Numbers

__all__ = ["wudi"]


def wudi(
    base: torch.Tensor, experts: Sequence[torch.Tensor], numbers: Numbers, *, iterations: int, learning_rate: float
) -> torch.Tensor:
    """Return base + lambda * m, the matrix m that makes the interference with all experts small.

    The interference is the sum over the experts of |(m - d_i) d_i^T|^2 / |d_i|^2 (Frobenius norms), d_i the weighted
    delta, whose rows stand for the inputs that the expert saw. Adam takes `iterations` steps down from the sum of the
    deltas. Every matrix counts as a linear layer; tensors that are no matrices get the mean of the deltas (the authors'
    code leaves all but the linear layers of attention and MLP as they are in the base).
    """
    if not is_matrix(base):
        return mean_of_deltas(base, experts, numbers)
    found = deltas(base, experts, numbers.weights)
    # The gradient is 2 sum over i of (m - d_i) G_i, where G_i = d_i^T d_i / |d_i|^2, so two matrices are all it needs.
    grams = [_gram(delta) for delta in found]
    gram = left_to_right(grams)
    target = left_to_right([delta @ own for delta, own in zip(found, grams, strict=True)])
    merged = left_to_right(found).clone()
    adam = torch.optim.Adam([merged], lr=learning_rate)
    for _ in range(iterations):
        merged.grad = 2 * (merged @ gram - target)
        adam.step()
    return base + merged.detach() * numbers.lambda_


def _gram(delta: torch.Tensor) -> torch.Tensor:
    """Return d^T d / |d|^2; (..., n, n), zeros where the delta is zero."""
    square = delta.square().sum(dim=(-2, -1), keepdim=True)
    return delta.mT @ delta / torch.where(square == 0, 1.0, square)

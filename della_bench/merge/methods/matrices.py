"""What the methods on singular vectors share: which tensors are matrices, and what the others get."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from della_bench.merge.methods.vectors import deltas, mean
from della_bench.spec import Numbers

__all__ = ["is_matrix", "mean_of_deltas", "polar", "svd"]


def is_matrix(tensor: torch.Tensor) -> bool:
    """Whether a tensor is a matrix, or a stack of them (three dimensions: the fused experts of a layer).

    Norms and biases are none, nor are kernels of a convolution, where a dimension of the matrix would be 1 or there are
    more than three.
    """
    return tensor.dim() in (2, 3) and min(tensor.shape[-2:]) > 1


def mean_of_deltas(base: torch.Tensor, experts: Sequence[torch.Tensor], numbers: Numbers) -> torch.Tensor:
    """Return base + lambda * the mean of the weighted deltas: what a tensor gets that is no matrix."""
    return base + mean(deltas(base, experts, numbers.weights)) * numbers.lambda_


def polar(matrix: torch.Tensor) -> torch.Tensor:
    """Return the nearest matrix with orthonormal columns, or rows where there are fewer; (..., m, n), batched."""
    u, _, v = svd(matrix)
    return u @ v


def svd(matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return left vectors, values and right vectors: (..., m, r), (..., r), (..., r, n), r the smaller of m and n."""
    u, values, v = torch.linalg.svd(matrix, full_matrices=False)
    return u, values, v

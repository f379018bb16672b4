"""TSV-Merge (Gargiulo et al. 2024, arXiv:2412.00081, section 4.2): merging by singular vectors made orthogonal."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from della_bench.merge.methods.matrices import is_matrix, mean_of_deltas, polar, svd
from della_bench.merge.methods.vectors import deltas
from della_bench.spec import Numbers

__all__ = ["tsv_merge"]


def tsv_merge(base: torch.Tensor, experts: Sequence[torch.Tensor], numbers: Numbers) -> torch.Tensor:
    """Return base + lambda * U S V: the experts' first singular vectors side by side, made orthogonal.

    Of a matrix of rank r each of T experts gives its r / T largest singular values (rounded down, at least one), S. A
    weight scales its expert's singular values; the paper has none. Tensors that are no matrices get the mean of the
    deltas, as in the authors' code.
    """
    if not is_matrix(base):
        return mean_of_deltas(base, experts, numbers)
    kept = max(1, min(base.shape[-2:]) // len(experts))
    parts = [svd(delta) for delta in deltas(base, experts, numbers.weights)]
    u = polar(torch.cat([u[..., :kept] for u, _, _ in parts], dim=-1))  # (..., m, T kept)
    v = polar(torch.cat([v[..., :kept, :] for _, _, v in parts], dim=-2))  # (..., T kept, n)
    values = torch.cat([values[..., :kept] for _, values, _ in parts], dim=-1)
    return base + (u * values.unsqueeze(-2)) @ v * numbers.lambda_

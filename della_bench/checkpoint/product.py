"""The product of two thin matrices with a fixed order of rounding, so that its bits do not depend on the machine."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch

from della_bench.compiled import compiler

__all__ = ["product"]


def product(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Return left @ right in float32. left: (rows, rank), right: (rank, columns).

    Each product and each sum is rounded once, and the sums run over the rank from left to right; a matrix product of a
    library rounds as its blocks and its processor have it.
    """
    left, right = left.float().contiguous(), right.float().contiguous()
    # An engine that loads its weights may have another dtype and device for what says none.
    out = torch.zeros(left.shape[0], right.shape[1], dtype=torch.float32, device="cpu")
    threads = torch.get_num_threads()
    with ThreadPoolExecutor(threads) as pool:
        parts = zip(left.chunk(threads), out.chunk(threads), strict=True)
        list(pool.map(lambda part: _accumulate(part[0].numpy(), right.numpy(), part[1].numpy()), parts))
    return out


@compiler(__file__, "product.py")
def _accumulate(left: np.ndarray[Any, Any], right: np.ndarray[Any, Any], out: np.ndarray[Any, Any]) -> None:
    """Add left @ right to out, row by row; the compiler neither reorders the sums nor contracts them."""
    for i in range(left.shape[0]):
        for j in range(left.shape[1]):
            factor = left[i, j]
            for k in range(right.shape[1]):
                out[i, k] += factor * right[j, k]

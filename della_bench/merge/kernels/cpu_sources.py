"""How the compiled passes on the CPU reach their sources, a block at a time."""

from __future__ import annotations

import numpy as np
from numba import njit

from della_bench.merge.kernels import cpu_convert
from della_bench.merge.kernels.cpu_loops import compiled
from della_bench.merge.kernels.cpu_plan import Tensors

__all__ = ["extent", "is_sound", "read_delta"]


# Block b begins at element b * step; the last one may be shorter than the others.
@njit(inline="always")
def extent(tensors: Tensors, block: int) -> tuple[int, int]:
    """Return a block's first element and how many it has."""
    start = block * tensors.step
    return start, min(tensors.step, tensors.size - start)


# The first pass over a tensor checks each block as it reads it, from the cache; once all are known to be finite,
# later passes need not look.
@compiled
def is_sound(tensors: Tensors, source: int, start: int, size: int) -> bool:
    """Whether a source is finite in a block; the key of what is not may lie beyond all tables."""
    if tensors.sound[source] or cpu_convert.finite(tensors.addresses[source], tensors.codes[source], start, size):
        return True
    tensors.broken[source] = 1
    return False


# Two loops over one block: the base's float32 values are kept, as the caller or another expert needs them again.
@compiled
def read_delta(tensors: Tensors, k: int, start: int, base: np.ndarray, d: np.ndarray) -> None:
    """Fill float32 `base` and `d` with the base and expert k's delta from `start` on."""
    cpu_convert.widen(tensors.addresses[0], tensors.codes[0], start, base)
    cpu_convert.delta(tensors.addresses[1 + k], tensors.codes[1 + k], start, base, d)

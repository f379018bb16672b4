"""Thresholds by rank, for every rank at once: what the kernels on CPU and GPU look up instead of computing it."""

from __future__ import annotations

from typing import Any

__all__ = ["thresholds_by_rank"]

Integers = Any  # an int64 array of numpy, or tensor of torch


def thresholds_by_rank(ranks: Integers, low: int, high: int, n: int) -> Integers:
    """Return low + (high - low) * rank div (2 (n - 1)) for doubled ranks among n elements, n at most 2^30.

    The middle of low and high where n is 1. See `della_bench.merge.drop.rank_thresholds`, which does so for any n.
    """
    if n == 1:
        return 0 * ranks + low + (high - low) // 2
    return low + (high - low) * ranks // (2 * (n - 1))

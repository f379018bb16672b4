"""One tensor's blocks: read as float32, taken as deltas, keys and random words, written in the result's dtype.

A block is a stretch of the flattened tensor that fits a core's second-level cache with its float32 deltas; it holds
whole rows where the merge works by rows. Each thread has buffers of its own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch

from della_bench.merge.kernels import cpu_loops

__all__ = ["Array", "Blocks"]

_BLOCK = 32_768  # elements
Array = np.ndarray[Any, Any]


class _Scratch(threading.local):
    """One thread's buffers, made for the largest block."""

    def __init__(self, experts: int, size: int) -> None:
        self.base, self.expert, self.out = (np.empty(size, np.uint32) for _ in range(3))
        self.deltas = np.empty((experts, size), np.float32)
        self.keys16, self.keys32 = np.empty(size, np.uint16), np.empty(size, np.uint32)
        self.words = np.empty(size + 8, np.uint32)
        self.negative = np.empty(size, np.uint8)
        self.bins = np.zeros(32_768, np.int32)


class Blocks:
    """The blocks of one tensor's base and experts."""

    def __init__(self, base: torch.Tensor, experts: Sequence[torch.Tensor], *, whole_rows: bool) -> None:
        self._base = base.reshape(-1)
        self._experts = [expert.reshape(-1) for expert in experts]
        self.size = base.numel()
        self.row = base.shape[-1] if base.dim() > 1 else self.size
        step = self.row * max(1, _BLOCK // self.row) if whole_rows else _BLOCK
        self.bounds = [(start, min(start + step, self.size)) for start in range(0, self.size, step)]
        self.wide_keys = base.dtype == torch.float32
        self.scratch = _Scratch(len(experts), min(step, self.size))

    def each(self, work: Callable[[int], Any]) -> list[Any]:
        """Return work(block) for every block, in order; the blocks are spread over the threads."""
        return _in_threads(work, range(len(self.bounds)))

    def total(self, shape: tuple[int, ...], add: Callable[[int, Array], None]) -> Array:
        """Return the sum of what `add(block, totals)` adds to an int64 array: one array a thread, not one a block."""
        threads = min(torch.get_num_threads(), len(self.bounds))

        def share(first: int) -> Array:
            totals = np.zeros(shape, np.int64)
            for index in range(first, len(self.bounds), threads):
                add(index, totals)
            return totals

        total: Array = sum(_in_threads(share, range(threads)), np.zeros(shape, np.int64))
        return total

    def _load(self, values: torch.Tensor, start: int, stop: int, buffer: Array) -> Array:
        """Return values[start:stop] as float32, widened into `buffer` where they are 16-bit."""
        if values.dtype == torch.float32:
            return values.numpy()[start:stop]
        target = buffer[: stop - start]
        if values.dtype == torch.bfloat16:
            cpu_loops.bf16_to_f32(values.view(torch.int16).numpy()[start:stop].view(np.uint16), target)
        else:
            target.view(np.float32)[:] = values.numpy()[start:stop]
        return target.view(np.float32)

    def store(self, index: int, merged: Array, out: torch.Tensor) -> None:
        """Round a merged block (float32) to the dtype of `out` (flat) and put it in its place."""
        start, stop = self.bounds[index]
        if out.dtype == torch.bfloat16:
            cpu_loops.bf16_store(merged.view(np.uint32), out.view(torch.int16).numpy()[start:stop].view(np.uint16))
        else:
            with np.errstate(over="ignore", invalid="ignore"):
                out.numpy()[start:stop] = merged

    def delta(self, index: int, k: int, base: Array) -> Array:
        """Return expert k's delta in a block, in its place in the scratch."""
        start, stop = self.bounds[index]
        out = self.scratch.deltas[k, : stop - start]
        cpu_loops.delta(base, self._load(self._experts[k], start, stop, self.scratch.expert), out)
        return out

    def base(self, index: int) -> Array:
        """Return the base's block as float32."""
        return self._load(self._base, *self.bounds[index], self.scratch.base)

    def keys(self, d: Array) -> Array:
        """Return the magnitudes, rounded to the base's dtype, as integers that order alike."""
        if self.wide_keys:
            wide = self.scratch.keys32[: d.size]
            cpu_loops.f32_keys(d.view(np.uint32), wide)
            return wide
        keys = self.scratch.keys16[: d.size]
        if self._base.dtype == torch.bfloat16:
            cpu_loops.bf16_keys(d.view(np.uint32), keys)
        else:
            with np.errstate(over="ignore"):
                keys[:] = np.abs(d).astype(np.float16).view(np.uint16)
        return keys

    def words(self, index: int, key: int) -> Array:
        """Return the random words of a block's elements, by the Philox key of the expert's tensor."""
        start, stop = self.bounds[index]
        skip, size = start % 4, stop - start
        words = self.scratch.words[: (skip + size + 3) // 4 * 4]
        cpu_loops.philox(words, start // 4, np.uint64(key))
        return words[skip : skip + size]

    def magnitudes(self, d: Array) -> Array:
        """Return the magnitudes, rounded to the base's dtype, as float32."""
        keys = self.keys(d)
        if self.wide_keys:
            return keys.view(np.float32)
        wide = self.scratch.keys32[: d.size]
        if self._base.dtype == torch.bfloat16:
            cpu_loops.bf16_to_f32(keys, wide)
        else:
            wide.view(np.float32)[:] = keys.view(np.float16)
        return wide.view(np.float32)


def _in_threads(work: Callable[[int], Any], items: Sequence[int]) -> list[Any]:
    threads = min(torch.get_num_threads(), len(items))
    if threads <= 1:
        return [work(item) for item in items]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, items))

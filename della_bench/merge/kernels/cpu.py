"""Merging one tensor on the CPU: blocks of rows in threads, through compiled loops.

A block is read, pruned, elected, fused and written while it lies in the cache; each thread holds one float32 block an
expert and nothing of the tensor's size. What depends on a whole tensor (a cut, ranks, a norm, counts) takes a pass of
its own over the blocks first.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from della_bench.merge import bits
from della_bench.merge.kernels import cpu_fuse, cpu_loops
from della_bench.merge.tensor import merge_tensor
from della_bench.merge.thresholds import ONE, exact, keep_bounds, kept_count, threshold
from della_bench.spec import MergeSpec

__all__ = ["is_finite", "merge_tensor_cpu", "supports"]

_BLOCK = 32_768  # elements: a float32 block of each of a few experts fits a core's second-level cache
_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
_ELECT = {"none": cpu_fuse.NONE, "sum": cpu_fuse.SUM, "count": cpu_fuse.COUNT}
_ROW_KINDS = ("magprune", "magprune_norank", "magnitude_row")
_Array = np.ndarray[Any, Any]
_NO_RATIOS = np.ones((0, 0), np.float32)


def supports(spec: MergeSpec, base: torch.Tensor, experts: Sequence[torch.Tensor], dtype: torch.dtype) -> bool:
    """Whether the kernels cover a merge: a delta method on float tensors of at most 32 bits on the CPU."""
    tensors = (base, *experts)
    return (
        spec.method.kind == "delta"
        and spec.lambda_ != 0
        and 0 < base.numel() < 2**30
        and all(t.device.type == "cpu" and t.dtype in _DTYPES for t in tensors)
        and dtype in _DTYPES
        and _lowest_threshold(spec) > 0
    )


def merge_tensor_cpu(
    spec: MergeSpec, name: str, base: torch.Tensor, experts: Sequence[torch.Tensor], dtype: torch.dtype
) -> torch.Tensor:
    """Do what `merge_tensor` does, for a merge that `supports` covers, with torch's number of threads."""
    return _TensorMerge(spec, name, base, experts, dtype).run()


def is_finite(tensor: torch.Tensor) -> bool:
    """Whether no element of a float32, float16 or bfloat16 tensor is infinite or NaN."""
    flat = tensor.reshape(-1)
    if tensor.dtype == torch.float32:
        return bool(cpu_loops.finite(flat.view(torch.int32).numpy().view(np.uint32), np.uint32(0x7F800000)))
    mask = np.uint16(0x7F80 if tensor.dtype == torch.bfloat16 else 0x7C00)
    return bool(cpu_loops.finite(flat.view(torch.int16).numpy().view(np.uint16), mask))


def _lowest_threshold(spec: MergeSpec) -> int:
    """A threshold of 0 cannot be written as "at most the threshold less 1"."""
    least = min(spec.density, default=1.0)
    return keep_bounds(least, spec.epsilon or 0.0)[0] if least < 1 else ONE


@dataclass(eq=False)
class _Expert:
    """One expert of one tensor: its values, and what decides its drops, as far as it is the same for all blocks."""

    values: torch.Tensor
    density: float
    key: int  # of Philox
    lasts: _Array = field(default_factory=lambda: np.zeros(0, np.uint32))  # thresholds less 1, by rank or by key
    scales: _Array = field(default_factory=lambda: np.zeros(0, np.float32))
    ordered: _Array = field(default_factory=lambda: np.zeros(0, np.uint32))  # all keys, sorted
    cut: int = 0
    room: list[int] = field(default_factory=list)  # for keys equal to the cut, by block
    factor: float = 1.0  # of the L1 norm
    ratio: float = 1.0  # of ada_layer


class _Scratch(threading.local):
    """One thread's buffers, made for the largest block."""

    def __init__(self, experts: int, size: int) -> None:
        self.base, self.expert, self.out = (np.empty(size, np.uint32) for _ in range(3))
        self.deltas = np.empty((experts, size), np.float32)
        self.keys16, self.keys32 = np.empty(size, np.uint16), np.empty(size, np.uint32)
        self.words = np.empty(size + 8, np.uint32)
        self.negative = np.empty(size, np.uint8)
        self.bins = np.zeros(32_768, np.int32)


class _TensorMerge:
    """One tensor's merge: a plan that all blocks share, and the passes over them."""

    def __init__(
        self, spec: MergeSpec, name: str, base: torch.Tensor, experts: Sequence[torch.Tensor], dtype: torch.dtype
    ) -> None:
        self.spec, self.name = spec, name
        self.shape, self.dtype = base.shape, dtype
        self.base = base.reshape(-1)
        self.size = base.numel()
        self.row = base.shape[-1] if base.dim() > 1 else self.size
        whole_rows = spec.method.drop in _ROW_KINDS or spec.method.scaling.startswith("ada_row")
        step = self.row * max(1, _BLOCK // self.row) if whole_rows else _BLOCK
        self.blocks = [(start, min(start + step, self.size)) for start in range(0, self.size, step)]
        self.wide_keys = base.dtype == torch.float32
        self.experts = [
            _Expert(e.reshape(-1), spec.density[k] if spec.density else 1.0, bits.tensor_key(spec.seed, k, name))
            for k, e in enumerate(experts)
        ]
        self.weights = np.array(spec.weights, np.float32)
        self.scratch = _Scratch(len(experts), min(step, self.size))

    def run(self) -> torch.Tensor:
        """Plan, then merge all blocks."""
        for expert in self.experts:
            self._plan(expert)
        if self.spec.rescale == "l1" and self.spec.method.drops:
            for k, expert in enumerate(self.experts):
                expert.factor = self._l1_factor(k)
            if not all(math.isfinite(expert.factor) for expert in self.experts):
                # Times infinity, a kept zero is NaN and a dropped one 0, which the loops do not tell apart.
                shaped = [expert.values.reshape(self.shape) for expert in self.experts]
                return merge_tensor(self.spec, self.name, self.base.reshape(self.shape), shaped, self.dtype)
        if self.spec.method.scaling == "ada_layer":
            self._set_layer_ratios()
        out = torch.empty(self.size, dtype=self.dtype)
        self._each_block(lambda index: self._merge_block(index, out))
        return out.reshape(self.shape)

    def _each_block(self, work: Callable[[int], Any]) -> list[Any]:
        threads = min(torch.get_num_threads(), len(self.blocks))
        if threads == 1:
            return [work(index) for index in range(len(self.blocks))]
        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(work, range(len(self.blocks))))

    # One block.

    def _load(self, values: torch.Tensor, start: int, stop: int, buffer: _Array) -> _Array:
        """Return values[start:stop] as float32, widened into `buffer` where they are 16-bit."""
        if values.dtype == torch.float32:
            return values.numpy()[start:stop]
        target = buffer[: stop - start]
        if values.dtype == torch.bfloat16:
            cpu_loops.bf16_to_f32(values.view(torch.int16).numpy()[start:stop].view(np.uint16), target)
        else:
            target.view(np.float32)[:] = values.numpy()[start:stop]
        return target.view(np.float32)

    def _store(self, merged: _Array, out: torch.Tensor, start: int, stop: int) -> None:
        if self.dtype == torch.bfloat16:
            cpu_loops.bf16_store(merged.view(np.uint32), out.view(torch.int16).numpy()[start:stop].view(np.uint16))
        else:
            with np.errstate(over="ignore", invalid="ignore"):
                out.numpy()[start:stop] = merged

    def _delta(self, index: int, k: int, base: _Array) -> _Array:
        """Return expert k's delta in a block, in its place in the scratch."""
        start, stop = self.blocks[index]
        out = self.scratch.deltas[k, : stop - start]
        cpu_loops.delta(base, self._load(self.experts[k].values, start, stop, self.scratch.expert), out)
        return out

    def _base(self, index: int) -> _Array:
        return self._load(self.base, *self.blocks[index], self.scratch.base)

    def _keys(self, d: _Array) -> _Array:
        """Return the magnitudes, rounded to the base's dtype, as integers that order alike."""
        if self.wide_keys:
            wide = self.scratch.keys32[: d.size]
            cpu_loops.f32_keys(d.view(np.uint32), wide)
            return wide
        keys = self.scratch.keys16[: d.size]
        if self.base.dtype == torch.bfloat16:
            cpu_loops.bf16_keys(d.view(np.uint32), keys)
        else:
            with np.errstate(over="ignore"):
                keys[:] = np.abs(d).astype(np.float16).view(np.uint16)
        return keys

    def _words(self, expert: _Expert, start: int, size: int) -> _Array:
        """Return the random words of elements start to start + size."""
        skip = start % 4
        words = self.scratch.words[: (skip + size + 3) // 4 * 4]
        cpu_loops.philox(words, start // 4, np.uint64(expert.key))
        return words[skip : skip + size]

    def _prune(self, index: int, k: int, base: _Array) -> _Array:
        """Return expert k's delta in a block, dropped from and rescaled, but for the factor of the L1 norm."""
        d = self._delta(index, k, base)
        expert, kind = self.experts[k], self.spec.method.drop
        if kind == "none" or expert.density >= 1:
            return d
        start = self.blocks[index][0]
        inverse = self.spec.rescale == "inverse_keep"
        plain = threshold(exact(expert.density))
        scale = ONE / max(1, plain) if inverse else 1.0
        if kind == "magnitude":
            cpu_loops.keep_above(d, self._keys(d), expert.cut, expert.room[index], scale)
            return d
        if kind == "magnitude_row":
            cpu_loops.cut_rows(d, self._keys(d), self.row, kept_count(expert.density, self.row), scale)
            return d
        words = self._words(expert, start, d.size)
        if kind == "random":
            cpu_loops.random_keep(d, words, plain - 1, scale)
        elif kind == "magprune" and self.wide_keys:
            cpu_loops.rank_rows32(d, self._keys(d), words, self.row, expert.lasts, expert.scales)
        elif kind == "magprune":
            cpu_loops.rank_rows16(d, self._keys(d), words, self.row, expert.lasts, expert.scales, self.scratch.bins)
        elif kind == "magprune_layer" and not self.wide_keys:
            cpu_loops.table_keep(d, self._keys(d), words, expert.lasts, expert.scales)
        else:
            low, high = keep_bounds(expert.density, self.spec.epsilon or 0.0)
            if kind == "magprune_layer":
                cpu_loops.layer_keep32(d, self._keys(d), words, expert.ordered, low, high - low, inverse)
            else:
                cpu_loops.norank_rows(d, self._magnitudes(d), words, self.row, low, high - low, inverse)
        return d

    def _magnitudes(self, d: _Array) -> _Array:
        keys = self._keys(d)
        if self.wide_keys:
            return keys.view(np.float32)
        wide = self.scratch.keys32[: d.size]
        if self.base.dtype == torch.bfloat16:
            cpu_loops.bf16_to_f32(keys, wide)
        else:
            wide.view(np.float32)[:] = keys.view(np.float16)
        return wide.view(np.float32)

    def _elected(self, index: int, base: _Array) -> tuple[_Array, _Array]:
        """Return the pruned and weighed deltas of a block, and where the elected sign is negative."""
        size = base.size
        for k, expert in enumerate(self.experts):
            d = self._prune(index, k, base)
            if expert.factor != 1:
                cpu_loops.scale_kept(d, expert.factor)
            if self.weights[k] != 1:
                cpu_fuse.weigh(d, self.weights[k])
        deltas, negative = self.scratch.deltas[:, :size], self.scratch.negative[:size]
        if self.spec.elect != "none":
            cpu_fuse.elect(deltas, _ELECT[self.spec.elect], negative)
        return deltas, negative

    def _merge_block(self, index: int, out: torch.Tensor) -> None:
        base = self._base(index)
        deltas, negative = self._elected(index, base)
        spec, scaling = self.spec, self.spec.method.scaling
        kind, ratios, ratio_n = _ELECT[spec.elect], _NO_RATIOS, 0
        if scaling == "ada_layer":
            ratios, ratio_n = np.array([[e.ratio] for e in self.experts], np.float32), base.size
        elif scaling.startswith("ada_row"):
            counts = self._counts(deltas, negative, self.row)
            ratios, ratio_n = _ratios(counts, inverse=scaling.endswith("_inv")), self.row
        merged = self.scratch.out[: base.size].view(np.float32)
        scale = spec.lambda_ if scaling == "lambda" else 1.0
        cpu_fuse.finish(base, deltas, kind, negative, self.weights, spec.normalize, ratios, ratio_n, scale, merged)
        self._store(merged, out, *self.blocks[index])

    def _counts(self, deltas: _Array, negative: _Array, n: int) -> _Array:
        """Return (2, experts, rows): elements that are not zero, and those of them that agree, by row of n."""
        counts = np.zeros((2, deltas.shape[0], deltas.shape[1] // n), np.int64)
        for k in range(deltas.shape[0]):
            cpu_fuse.agreement_counts(deltas[k], _ELECT[self.spec.elect], negative, n, counts[0, k], counts[1, k])
        return counts

    # What depends on the whole tensor.

    def _plan(self, expert: _Expert) -> None:
        kind = self.spec.method.drop
        if expert.density >= 1 or kind in ("none", "random", "magnitude_row", "magprune_norank"):
            return
        if kind == "magnitude":
            self._set_cut(expert)
            return
        low, high = keep_bounds(expert.density, self.spec.epsilon or 0.0)
        inverse = self.spec.rescale == "inverse_keep"
        if kind == "magprune":
            expert.lasts, expert.scales = _rank_tables(low, high, self.row, inverse)
        elif self.wide_keys:
            expert.ordered = np.sort(np.concatenate(self._each_block(lambda i: self._block_keys(i, expert).copy())))
        else:
            counts = self._histogram(expert, 0, -1)
            below = np.cumsum(counts) - counts
            ranks = np.where(counts > 0, 2 * below + counts - 1, 0)
            expert.lasts, expert.scales = _tables(ranks, low, high, self.size, inverse)

    def _block_keys(self, index: int, expert: _Expert) -> _Array:
        return self._keys(self._delta(index, self.experts.index(expert), self._base(index)))

    def _histogram(self, expert: _Expert, shift: int, prefix: int) -> _Array:
        """Count the expert's keys over the whole tensor; see `cpu_loops.histogram`."""

        def count(index: int) -> _Array:
            bins = np.zeros(65_536, np.int64)
            cpu_loops.histogram(self._block_keys(index, expert), shift, prefix, bins)
            return bins

        total = np.zeros(65_536, np.int64)
        for bins in self._each_block(count):
            total += bins
        return total

    def _set_cut(self, expert: _Expert) -> None:
        """Find the key at the cut, and how many of the keys equal to it each block may keep, the first first."""
        left, cut, prefix = kept_count(expert.density, self.size), 0, -1
        for shift in (16, 0) if self.wide_keys else (0,):
            counts = self._histogram(expert, shift, prefix)
            from_top = np.cumsum(counts[::-1])
            position = int(np.searchsorted(from_top, left))
            left -= int(from_top[position - 1]) if position else 0
            cut = (cut << 16) | (65_535 - position)
            prefix = cut
        expert.cut = cut
        for equal in self._each_block(lambda i: cpu_loops.count_equal(self._block_keys(i, expert), cut)):
            expert.room.append(left)
            left = max(0, left - int(equal))

    def _l1_factor(self, k: int) -> float:
        """Return the L1 norm of a delta before its drop over that after it, as `drop._l1_factor` does."""
        if self.experts[k].density >= 1:
            return 1.0

        def sums(index: int) -> _Array:
            base, both = self._base(index), np.zeros((2, 256), np.int64)
            cpu_loops.magnitude_sums(self._delta(index, k, base).view(np.uint32), both[0])
            cpu_loops.magnitude_sums(self._prune(index, k, base).view(np.uint32), both[1])
            return both

        before, after = sum(self._each_block(sums))
        if before[255] or after[255]:
            return 1.0
        norms = [
            sum((int(m) * Fraction(2) ** (max(e, 1) - 150) for e, m in enumerate(row)), Fraction(0))
            for row in (before, after)
        ]
        return torch.tensor(float(norms[0] / norms[1]), dtype=torch.float32).item() if min(norms) >= 1e-7 else 1.0

    def _set_layer_ratios(self) -> None:
        def count(index: int) -> _Array:
            deltas, negative = self._elected(index, self._base(index))
            return self._counts(deltas, negative, deltas.shape[1])

        for expert, ratio in zip(self.experts, _ratios(sum(self._each_block(count)), inverse=False), strict=True):
            expert.ratio = float(ratio[0])


def _ratios(counts: _Array, *, inverse: bool) -> _Array:
    """Return before / after (or its inverse) in float32; an empty denominator counts as a ratio of 1."""
    before, after = counts[::-1] if inverse else counts
    quotient = before.astype(np.float64) / np.maximum(after, 1).astype(np.float64)
    return np.where(after == 0, 1.0, quotient).astype(np.float32)


def _tables(ranks: _Array, low: int, high: int, n: int, inverse: bool) -> tuple[_Array, _Array]:
    """Return the thresholds less 1 (uint32) and the scales (float32) of doubled ranks among n."""
    steps = 2 * (n - 1)
    limits = low + ((high - low) * ranks // steps if steps else np.full_like(ranks, (high - low) // 2))
    scales = (ONE / limits.astype(np.float64)).astype(np.float32) if inverse else np.ones(len(ranks), np.float32)
    return (limits - 1).astype(np.uint32), scales


@lru_cache(maxsize=8)
def _rank_tables(low: int, high: int, n: int, inverse: bool) -> tuple[_Array, _Array]:
    return _tables(np.arange(2 * n - 1, dtype=np.int64), low, high, n, inverse)

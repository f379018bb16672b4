"""Merging one tensor on the CPU: blocks of rows in threads, through compiled loops.

A block is read, pruned, elected, fused and written while it lies in the cache; each thread holds one float32 block an
expert and nothing of the tensor's size. What depends on a whole tensor (a cut, ranks, a norm, counts) takes a pass of
its own over the blocks first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache

import numpy as np
import torch

from della_bench.merge import bits
from della_bench.merge.kernels import cpu_fuse, cpu_loops
from della_bench.merge.kernels.cpu_block import Array, Blocks
from della_bench.merge.tensor import merge_tensor
from della_bench.merge.thresholds import ONE, exact, keep_bounds, kept_count, threshold
from della_bench.spec import MergeSpec

__all__ = ["is_finite", "merge_tensor_cpu", "supports"]

_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
_ELECT = {"none": cpu_fuse.NONE, "sum": cpu_fuse.SUM, "count": cpu_fuse.COUNT}
_ROW_KINDS = ("magprune", "magprune_norank", "magnitude_row")
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
    """What decides one expert's drops in one tensor, as far as it is the same for all blocks."""

    density: float
    key: int  # of Philox
    lasts: Array = field(default_factory=lambda: np.zeros(0, np.uint32))  # thresholds less 1, by rank or by key
    scales: Array = field(default_factory=lambda: np.zeros(0, np.float32))
    ordered: Array = field(default_factory=lambda: np.zeros(0, np.uint32))  # all keys, sorted
    cut: int = 0
    room: list[int] = field(default_factory=list)  # for keys equal to the cut, by block
    factor: float = 1.0  # of the L1 norm
    ratio: float = 1.0  # of ada_layer


class _TensorMerge:
    """One tensor's merge: a plan that all blocks share, and the passes over them."""

    def __init__(
        self, spec: MergeSpec, name: str, base: torch.Tensor, experts: Sequence[torch.Tensor], dtype: torch.dtype
    ) -> None:
        self.spec, self.name = spec, name
        self.shape, self.dtype = base.shape, dtype
        self.sources = base, experts
        whole_rows = spec.method.drop in _ROW_KINDS or spec.method.scaling.startswith("ada_row")
        self.blocks = Blocks(base, experts, whole_rows=whole_rows)
        self.experts = [
            _Expert(spec.density[k] if spec.density else 1.0, bits.tensor_key(spec.seed, k, name))
            for k in range(len(experts))
        ]
        self.weights = np.array(spec.weights, np.float32)

    def run(self) -> torch.Tensor:
        """Plan, then merge all blocks."""
        for expert in self.experts:
            self._plan(expert)
        if self.spec.rescale == "l1" and self.spec.method.drops:
            for k, expert in enumerate(self.experts):
                expert.factor = self._l1_factor(k)
            if not all(math.isfinite(expert.factor) for expert in self.experts):
                # Times infinity, a kept zero is NaN and a dropped one 0, which the loops do not tell apart.
                return merge_tensor(self.spec, self.name, *self.sources, self.dtype)
        if self.spec.method.scaling == "ada_layer":
            self._set_layer_ratios()
        out = torch.empty(self.blocks.size, dtype=self.dtype)
        self.blocks.each(lambda index: self._merge_block(index, out))
        return out.reshape(self.shape)

    def _prune(self, index: int, k: int, base: Array) -> Array:
        """Return expert k's delta in a block, dropped from and rescaled, but for the factor of the L1 norm."""
        d = self.blocks.delta(index, k, base)
        expert, kind = self.experts[k], self.spec.method.drop
        if kind == "none" or expert.density >= 1:
            return d
        inverse = self.spec.rescale == "inverse_keep"
        plain = threshold(exact(expert.density))
        scale = ONE / max(1, plain) if inverse else 1.0
        if kind == "magnitude":
            cpu_loops.keep_above(d, self.blocks.keys(d), expert.cut, expert.room[index], scale)
            return d
        if kind == "magnitude_row":
            cpu_loops.cut_rows(
                d, self.blocks.keys(d), self.blocks.row, kept_count(expert.density, self.blocks.row), scale
            )
            return d
        words = self.blocks.words(index, expert.key)
        if kind == "random":
            cpu_loops.random_keep(d, words, plain - 1, scale)
        elif kind == "magprune" and self.blocks.wide_keys:
            cpu_loops.rank_rows32(d, self.blocks.keys(d), words, self.blocks.row, expert.lasts, expert.scales)
        elif kind == "magprune":
            cpu_loops.rank_rows16(
                d, self.blocks.keys(d), words, self.blocks.row, expert.lasts, expert.scales, self.blocks.scratch.bins
            )
        elif kind == "magprune_layer" and not self.blocks.wide_keys:
            cpu_loops.table_keep(d, self.blocks.keys(d), words, expert.lasts, expert.scales)
        else:
            low, high = keep_bounds(expert.density, self.spec.epsilon or 0.0)
            if kind == "magprune_layer":
                cpu_loops.layer_keep32(d, self.blocks.keys(d), words, expert.ordered, low, high - low, inverse)
            else:
                cpu_loops.norank_rows(d, self.blocks.magnitudes(d), words, self.blocks.row, low, high - low, inverse)
        return d

    def _elected(self, index: int, base: Array) -> tuple[Array, Array]:
        """Return the pruned and weighed deltas of a block, and where the elected sign is negative."""
        size = base.size
        for k, expert in enumerate(self.experts):
            d = self._prune(index, k, base)
            if expert.factor != 1:
                cpu_loops.scale_kept(d, expert.factor)
            if self.weights[k] != 1:
                cpu_fuse.weigh(d, self.weights[k])
        deltas, negative = self.blocks.scratch.deltas[:, :size], self.blocks.scratch.negative[:size]
        if self.spec.elect != "none":
            cpu_fuse.elect(deltas, _ELECT[self.spec.elect], negative)
        return deltas, negative

    def _merge_block(self, index: int, out: torch.Tensor) -> None:
        base = self.blocks.base(index)
        deltas, negative = self._elected(index, base)
        spec, scaling = self.spec, self.spec.method.scaling
        kind, ratios, ratio_n = _ELECT[spec.elect], _NO_RATIOS, 0
        if scaling == "ada_layer":
            ratios, ratio_n = np.array([[e.ratio] for e in self.experts], np.float32), base.size
        elif scaling.startswith("ada_row"):
            counts = self._counts(deltas, negative, self.blocks.row)
            ratios, ratio_n = _ratios(counts, inverse=scaling.endswith("_inv")), self.blocks.row
        merged = self.blocks.scratch.out[: base.size].view(np.float32)
        scale = spec.lambda_ if scaling == "lambda" else 1.0
        cpu_fuse.finish(base, deltas, kind, negative, self.weights, spec.normalize, ratios, ratio_n, scale, merged)
        self.blocks.store(index, merged, out)

    def _counts(self, deltas: Array, negative: Array, n: int) -> Array:
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
            expert.lasts, expert.scales = _rank_tables(low, high, self.blocks.row, inverse)
        elif self.blocks.wide_keys:
            expert.ordered = np.sort(np.concatenate(self.blocks.each(lambda i: self._block_keys(i, expert).copy())))
        else:
            counts = self._histogram(expert, 0, -1)
            below = np.cumsum(counts) - counts
            ranks = np.where(counts > 0, 2 * below + counts - 1, 0)
            expert.lasts, expert.scales = _tables(ranks, low, high, self.blocks.size, inverse)

    def _block_keys(self, index: int, expert: _Expert) -> Array:
        return self.blocks.keys(self.blocks.delta(index, self.experts.index(expert), self.blocks.base(index)))

    def _histogram(self, expert: _Expert, shift: int, prefix: int) -> Array:
        """Count the expert's keys over the whole tensor; see `cpu_loops.histogram`."""

        def add(index: int, bins: Array) -> None:
            cpu_loops.histogram(self._block_keys(index, expert), shift, prefix, bins)

        return self.blocks.total((65_536,), add)

    def _set_cut(self, expert: _Expert) -> None:
        """Find the key at the cut, and how many of the keys equal to it each block may keep, the first first."""
        left, cut, prefix = kept_count(expert.density, self.blocks.size), 0, -1
        for shift in (16, 0) if self.blocks.wide_keys else (0,):
            counts = self._histogram(expert, shift, prefix)
            from_top = np.cumsum(counts[::-1])
            position = int(np.searchsorted(from_top, left))
            left -= int(from_top[position - 1]) if position else 0
            cut = (cut << 16) | (65_535 - position)
            prefix = cut
        expert.cut = cut
        for equal in self.blocks.each(lambda i: cpu_loops.count_equal(self._block_keys(i, expert), cut)):
            expert.room.append(left)
            left = max(0, left - int(equal))

    def _l1_factor(self, k: int) -> float:
        """Return the L1 norm of a delta before its drop over that after it, as `drop._l1_factor` does."""
        if self.experts[k].density >= 1:
            return 1.0

        def add(index: int, both: Array) -> None:
            base = self.blocks.base(index)
            cpu_loops.magnitude_sums(self.blocks.delta(index, k, base).view(np.uint32), both[0])
            cpu_loops.magnitude_sums(self._prune(index, k, base).view(np.uint32), both[1])

        before, after = self.blocks.total((2, 256), add)
        if before[255] or after[255]:
            return 1.0
        norms = [
            sum((int(m) * Fraction(2) ** (max(e, 1) - 150) for e, m in enumerate(row)), Fraction(0))
            for row in (before, after)
        ]
        return torch.tensor(float(norms[0] / norms[1]), dtype=torch.float32).item() if min(norms) >= 1e-7 else 1.0

    def _set_layer_ratios(self) -> None:
        def add(index: int, counts: Array) -> None:
            deltas, negative = self._elected(index, self.blocks.base(index))
            counts += self._counts(deltas, negative, deltas.shape[1])

        counts = self.blocks.total((2, len(self.experts), 1), add)
        for expert, ratio in zip(self.experts, _ratios(counts, inverse=False), strict=True):
            expert.ratio = float(ratio[0])


def _ratios(counts: Array, *, inverse: bool) -> Array:
    """Return before / after (or its inverse) in float32; an empty denominator counts as a ratio of 1."""
    before, after = counts[::-1] if inverse else counts
    quotient = before.astype(np.float64) / np.maximum(after, 1).astype(np.float64)
    return np.where(after == 0, 1.0, quotient).astype(np.float32)


def _tables(ranks: Array, low: int, high: int, n: int, inverse: bool) -> tuple[Array, Array]:
    """Return the thresholds less 1 (uint32) and the scales (float32) of doubled ranks among n."""
    steps = 2 * (n - 1)
    limits = low + ((high - low) * ranks // steps if steps else np.full_like(ranks, (high - low) // 2))
    scales = (ONE / limits.astype(np.float64)).astype(np.float32) if inverse else np.ones(len(ranks), np.float32)
    return (limits - 1).astype(np.uint32), scales


@lru_cache(maxsize=8)
def _rank_tables(low: int, high: int, n: int, inverse: bool) -> tuple[Array, Array]:
    return _tables(np.arange(2 * n - 1, dtype=np.int64), low, high, n, inverse)

"""Merging one tensor on the CPU: a plan made here, and compiled passes over its blocks, spread over threads.

What depends on a whole tensor (a cut, ranks, a norm, counts) takes a pass of its own first; the last pass reads each
source, prunes, elects, fuses and writes the result once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache, partial
from typing import Any

import numpy as np

from della_bench.checkpoint.stored import ITEM_SIZES, Stored
from della_bench.merge import bits
from della_bench.merge.exact import norm_ratio
from della_bench.merge.kernels import BrokenSourceError, cpu_convert, cpu_fuse, cpu_passes
from della_bench.merge.kernels.buffers import Buffers
from della_bench.merge.kernels.workers import Workers
from della_bench.merge.thresholds import ONE, exact, keep_bounds, kept_count, threshold
from della_bench.spec import MergeSpec

__all__ = ["OUTPUTS", "is_finite", "merge_stored", "supports"]

Array = np.ndarray[Any, Any]

OUTPUTS = Buffers()  # of merged tensors
_BLOCK = 8_192  # elements
_SHARE = 32  # blocks that a thread takes at a time, at least
_SHARES = 3  # that fall to a thread, at most
_CODES = {"F32": cpu_convert.F32, "BF16": cpu_convert.BF16, "F16": cpu_convert.F16}
_ELECT = {"none": cpu_fuse.NONE, "sum": cpu_fuse.SUM, "count": cpu_fuse.COUNT}
_ROW_KINDS = ("magprune", "magprune_norank", "magnitude_row")


def supports(spec: MergeSpec, sources: Iterable[Stored], dtype: str) -> bool:
    """Whether the kernels cover a merge: a delta method on float tensors of at most 32 bits. dtype: of the result."""
    return (
        spec.method.kind == "delta"
        and spec.lambda_ != 0
        and all(0 < source.size < 2**30 and source.dtype in _CODES for source in sources)
        and dtype in _CODES
        and _lowest_threshold(spec) > 0
    )


def merge_stored(
    spec: MergeSpec, name: str, base: Stored, experts: Sequence[Stored], dtype: str, workers: Workers
) -> Stored | None:
    """Do what `merge_tensor` does, for a merge that `supports` covers; None where it turns out not to.

    Raises BrokenSourceError.
    """
    return _TensorMerge(spec, name, base, experts, dtype, workers).run()


def is_finite(tensor: Stored) -> bool:
    """Whether no element of a float32, float16 or bfloat16 tensor is infinite or NaN."""
    return bool(cpu_convert.finite(tensor.address, _CODES[tensor.dtype], 0, tensor.size))


def _lowest_threshold(spec: MergeSpec) -> int:
    """A threshold of 0 cannot be written as "at most the threshold less 1"."""
    least = min(spec.density, default=1.0)
    return keep_bounds(least, spec.epsilon or 0.0)[0] if least < 1 else ONE


class _TensorMerge:
    """One tensor's merge: a plan that all blocks share, and the passes over them."""

    def __init__(
        self, spec: MergeSpec, name: str, base: Stored, experts: Sequence[Stored], dtype: str, workers: Workers
    ) -> None:
        self.spec, self.name, self.dtype, self.workers = spec, name, dtype, workers
        self.shape, self.size, self.count = base.shape, base.size, len(experts)
        self.row = base.shape[-1] if len(base.shape) > 1 else base.size
        whole_rows = spec.method.drop in _ROW_KINDS or spec.method.scaling.startswith("ada_row")
        self.step = self.row * max(1, _BLOCK // self.row) if whole_rows else _BLOCK
        self.blocks = -(-self.size // self.step)
        self.tasks = min(workers.count, self.blocks)
        self.share = max(_SHARE, -(-self.blocks // (_SHARES * self.tasks)))
        self.shares = -(-self.blocks // self.share)
        self.wide_keys = base.dtype == "F32"
        self.out = OUTPUTS.take(self.size * ITEM_SIZES[dtype])
        # The addresses are all that the passes see of the memory: `sources` keeps it.
        self.sources = (base, *experts)
        self.tensors = cpu_passes.Tensors(
            np.array([*(source.address for source in self.sources), self.out.ctypes.data]),
            np.array([*(_CODES[source.dtype] for source in self.sources), _CODES[dtype]]),
            self.size,
            self.row,
            self.step,
            self.share,
            np.zeros(1 + self.count, np.uint8),
            np.zeros(1 + self.count, np.uint8),
        )

    def run(self) -> Stored | None:
        """Plan, then merge all blocks; None where the loops turn out not to cover the merge."""
        drops = self._drops()
        if self.spec.rescale == "l1" and self.spec.method.drops:
            for k in np.flatnonzero(drops.active):
                drops.factor[k] = self._l1_factor(drops, int(k))
            if not np.isfinite(drops.factor).all():
                return None  # times infinity, a kept zero is NaN and a dropped one 0: the loops do not tell them apart
        fuse = self._fuse(drops)
        self._each(lambda room, first, last: cpu_passes.merge(self.tensors, drops, fuse, room, first, last))
        return Stored(self.out, self.dtype, self.shape)

    def _each(self, work: Callable[[cpu_passes.Room, int, int], None]) -> None:
        """Call work(room, first, last) for shares of the blocks, in threads."""
        self._spread(lambda room, first: work(room, first, min(first + self.share, self.blocks)), self.share)

    def _spread(self, work: Callable[[cpu_passes.Room, int], Any], step: int) -> list[Any]:
        """Return [work(room, first)] for every `step` blocks. Raises BrokenSourceError."""
        size = min(self.step, self.size)
        done = self.workers.map(
            lambda first: work(self.workers.room(size, self.count, self.wide_keys), first), range(0, self.blocks, step)
        )
        if self.tensors.broken.any():
            raise BrokenSourceError(int(np.flatnonzero(self.tensors.broken)[0]))
        return done

    def _total(self, shape: tuple[int, ...], add: Callable[[cpu_passes.Room, int, int, Array], None]) -> Array:
        """Return the sum of what `add(room, first, last, totals)` adds to int64 arrays, one for each thread."""
        step = self.share * -(-self.shares // self.tasks)

        def share(room: cpu_passes.Room, first: int) -> Array:
            totals = np.zeros(shape, np.int64)
            add(room, first, min(first + step, self.blocks), totals)
            return totals

        return sum(self._spread(share, step), np.zeros(shape, np.int64))

    def _drops(self) -> cpu_passes.Drops:
        """Return what decides the drops, found by passes over the tensor where the kind needs it."""
        spec, kind, count = self.spec, self.spec.method.drop, self.count
        density = list(spec.density) or [1.0] * count
        inverse = spec.rescale == "inverse_keep"
        plain = [max(1, threshold(exact(share))) for share in density]
        bounds = [keep_bounds(share, spec.epsilon or 0.0) if share < 1 else (ONE, ONE) for share in density]
        drops = cpu_passes.Drops(
            kind=cpu_passes.DROPS[kind],
            active=np.array([share < 1 for share in density]),
            random_keys=np.array([bits.tensor_key(spec.seed, k, self.name) for k in range(count)], np.uint64),
            last=np.array(plain) - 1,
            scale=np.array([ONE / limit if inverse else 1.0 for limit in plain]),
            low=np.array([low for low, _ in bounds]),
            span=np.array([high - low for low, high in bounds]),
            inverse=inverse,
            lasts=np.zeros((count, 1), np.uint32),
            scales=np.ones((count, 1), np.float32),
            ordered=np.zeros((count, 1), np.uint32),
            cut=np.zeros(count, np.int64),
            room=np.zeros((count, self.shares), np.int64),
            count=np.array([kept_count(share, self.row) for share in density]),
            factor=np.ones(count),
        )
        active = [int(k) for k in np.flatnonzero(drops.active)]
        if kind == "magnitude":
            for k in active:
                drops.cut[k], drops.room[k] = self._cut(k, density[k])
        elif kind == "magprune":
            tables = [_rank_tables(*bounds[k], self.row, inverse) if k in active else None for k in range(count)]
            return _with_tables(drops, tables)
        elif kind == "magprune_layer" and self.wide_keys:
            ordered = np.zeros((count, self.size), np.uint32)
            for k in active:
                self._each(partial(self._copy_keys, k, ordered[k]))
                ordered[k].sort()
            return drops._replace(ordered=ordered)
        elif kind == "magprune_layer":
            return _with_tables(
                drops, [self._layer_tables(k, *bounds[k], inverse) if k in active else None for k in range(count)]
            )
        return drops

    def _fuse(self, drops: cpu_passes.Drops) -> cpu_passes.Fuse:
        spec, count = self.spec, self.count
        scaling = spec.method.scaling
        fuse = cpu_passes.Fuse(
            elect=_ELECT[spec.elect],
            weights=np.array(spec.weights, np.float32),
            normalize=bool(spec.normalize),
            scaling=cpu_passes.SCALINGS[scaling],
            ratios=np.ones((count, 1), np.float32),
            scale=spec.lambda_ if scaling == "lambda" else 1.0,
        )
        if scaling == "ada_layer":
            before, after = self._total(
                (2, count),
                lambda room, a, b, counts: cpu_passes.agreement(self.tensors, drops, fuse, room, a, b, counts),
            )
            quotient = before.astype(np.float64) / np.maximum(after, 1).astype(np.float64)
            fuse.ratios[:, 0] = np.where(after == 0, 1.0, quotient)
        return fuse

    # What depends on the whole tensor.

    def _copy_keys(self, k: int, out: Array, room: cpu_passes.Room, first: int, last: int) -> None:
        cpu_passes.all_keys(self.tensors, k, room, first, last, out)

    def _histogram(self, k: int, shift: int = 0, prefix: int = -1) -> Array:
        """Count expert k's keys in each share, int32 (shares, values); see `cpu_loops.histogram`."""
        values = 1 << (16 if self.wide_keys else 15)  # a float16 or bfloat16 without its sign
        counts = np.zeros((self.shares, values), np.int32)
        self._each(lambda room, a, b: cpu_passes.histogram(self.tensors, k, room, a, b, shift, prefix, counts))
        self.tensors.sound[[0, 1 + k]] = 1
        return counts

    def _layer_tables(self, k: int, low: int, high: int, inverse: bool) -> tuple[Array, Array]:
        """Return thresholds less 1 and scales by 16-bit key."""
        counts = self._histogram(k).sum(0, dtype=np.int64)
        below = np.cumsum(counts) - counts
        return _tables(np.where(counts > 0, 2 * below + counts - 1, 0), low, high, self.size, inverse)

    def _cut(self, k: int, density: float) -> tuple[int, Array]:
        """Return the key at the cut, and how many of the keys equal to it each share may keep, the first first."""
        left, cut, prefix = kept_count(density, self.size), 0, -1
        equal = np.zeros(self.shares, np.int64)
        for shift in (16, 0) if self.wide_keys else (0,):
            counts = self._histogram(k, shift, prefix)
            from_top = np.cumsum(counts.sum(0, dtype=np.int64)[::-1])
            position = int(np.searchsorted(from_top, left))
            left -= int(from_top[position - 1]) if position else 0
            value = counts.shape[1] - 1 - position
            prefix = cut = (cut << 16) | value
            equal = counts[:, value].astype(np.int64)
        return cut, np.maximum(0, left - (np.cumsum(equal) - equal))

    def _l1_factor(self, drops: cpu_passes.Drops, k: int) -> float:
        """Return the L1 norm of a delta before its drop over that after it, as `drop._l1_factor` does."""
        before, after = self._total(
            (2, 256), lambda room, a, b, sums: cpu_passes.norms(self.tensors, drops, k, room, a, b, sums)
        )
        self.tensors.sound[[0, 1 + k]] = 1
        return norm_ratio(before.tolist(), after.tolist())


def _with_tables(drops: cpu_passes.Drops, tables: Sequence[tuple[Array, Array] | None]) -> cpu_passes.Drops:
    """Return the drops with a row of thresholds and one of scales for each expert; all rows are of one length."""
    found = next((table for table in tables if table), None)
    if found is None:
        return drops
    rows = [table or found for table in tables]
    return drops._replace(lasts=np.stack([lasts for lasts, _ in rows]), scales=np.stack([scales for _, scales in rows]))


def _tables(ranks: Array, low: int, high: int, n: int, inverse: bool) -> tuple[Array, Array]:
    """Return the thresholds less 1 (uint32) and the scales (float32) of doubled ranks among n."""
    steps = 2 * (n - 1)
    limits = low + ((high - low) * ranks // steps if steps else np.full_like(ranks, (high - low) // 2))
    scales = (ONE / limits.astype(np.float64)).astype(np.float32) if inverse else np.ones(len(ranks), np.float32)
    return (limits - 1).astype(np.uint32), scales


@lru_cache(maxsize=8)
def _rank_tables(low: int, high: int, n: int, inverse: bool) -> tuple[Array, Array]:
    return _tables(np.arange(2 * n - 1, dtype=np.int64), low, high, n, inverse)

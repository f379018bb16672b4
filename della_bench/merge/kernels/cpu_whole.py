"""What a drop has to know of a whole tensor on the CPU: its cuts, the ranks of its keys, its L1 norm."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from della_bench.merge.exact import norm_ratio
from della_bench.merge.kernels import cpu_key_passes, cpu_passes
from della_bench.merge.kernels.cpu_blocks import Array, Blocks
from della_bench.merge.kernels.cpu_plan import Drops

__all__ = ["SAMPLED", "cuts", "key_histogram", "l1_factor", "sort_keys"]

_WIDEST = 1024  # keys between which a cut is looked for without counting all others
SAMPLED = 8 * cpu_key_passes.SAMPLE  # elements of a tensor for which a sample pays


def cuts(blocks: Blocks, kept: Mapping[int, int]) -> Iterator[tuple[int, int, tuple[int, int]]]:
    """Yield (expert, key at its cut, (how many keys equal to it are kept, how many there are)).

    kept: how many elements of some experts' deltas the cut leaves.
    """
    missed = dict(kept)
    if not blocks.wide_keys and blocks.size >= SAMPLED:
        for k, low, counts in _near_cuts(blocks, kept):
            left = kept[k] - int(counts[:, -1].sum())
            if 0 < left <= counts[:, :-1].sum():
                place, equals = _place(counts[:, :-1], left)
                del missed[k]
                yield k, low + place, equals
    for k, left in missed.items():
        yield k, *_cut(blocks, k, left)


def key_histogram(blocks: Blocks, k: int, shift: int = 0, prefix: int = -1) -> Array:
    """Count expert k's keys by bundle and value, int64 (bundles, values); see `cpu_cuts.histogram`."""
    tensors, histogram = blocks.tensors, cpu_key_passes.histogram
    counts = np.zeros((blocks.bundles, 1 << (16 if blocks.wide_keys else 15)), np.int64)
    blocks.run(lambda scratch, bundle, a, b: histogram(tensors, k, scratch, a, b, shift, prefix, counts[bundle]))
    blocks.has_checked(k)
    return counts


def sort_keys(blocks: Blocks, k: int, out: Array) -> None:
    """Fill `out`, uint32 of the tensor's size, with expert k's keys, of 32 bits, sorted."""
    blocks.run(lambda scratch, _, a, b: cpu_key_passes.all_keys(blocks.tensors, k, scratch, a, b, out))
    blocks.has_checked(k)
    out.sort()


def l1_factor(blocks: Blocks, drops: Drops, k: int) -> float:
    """Return the L1 norm of a delta before its drop over that after it, as `drop._l1_factor` does."""
    before, after = blocks.total(
        (2, 256), lambda scratch, a, b, sums: cpu_passes.norms(blocks.tensors, drops, k, scratch, a, b, sums)
    )
    blocks.has_checked(k)
    return norm_ratio(before.tolist(), after.tolist())


def _near_cuts(blocks: Blocks, kept: Mapping[int, int]) -> Iterator[tuple[int, int, Array]]:
    """Yield (expert, key, counts of this key and those after it by bundle; of all above these in the last column)."""
    tensors, likely_cut, between = blocks.tensors, cpu_key_passes.likely_cut, cpu_key_passes.between
    likely = blocks.map(lambda scratch, k: likely_cut(tensors, k, scratch, kept[k] / blocks.size), list(kept))
    near = [(k, low, high - low + 1) for k, (low, high) in zip(kept, likely, strict=True) if high - low < _WIDEST]
    if not near:
        return
    which, lows = np.array([k for k, _, _ in near]), np.array([low for _, low, _ in near])
    counts = np.zeros((blocks.bundles, len(near), 1 + max(width for _, _, width in near)), np.int64)
    blocks.run(lambda scratch, bundle, a, b: between(tensors, which, scratch, a, b, lows, counts[bundle]))
    blocks.has_checked(*which)
    for i, (k, low, _) in enumerate(near):
        yield k, low, counts[:, i]


def _cut(blocks: Blocks, k: int, left: int) -> tuple[int, tuple[int, int]]:
    """Return what `cuts` yields of the cut that leaves the `left` largest, by counting all keys."""
    cut, prefix, equals = 0, -1, (left, left)
    for shift in (16, 0) if blocks.wide_keys else (0,):
        place, equals = _place(key_histogram(blocks, k, shift, prefix), equals[0])
        prefix = cut = (cut << 16) | place
    return cut, equals


def _place(counts: Array, left: int) -> tuple[int, tuple[int, int]]:
    """Return the column of the cut that leaves the `left` highest; how many of it are kept, and how many there are."""
    from_top = np.cumsum(counts.sum(0)[::-1])
    position = int(np.searchsorted(from_top, left))
    place = counts.shape[1] - 1 - position
    left -= int(from_top[position - 1]) if position else 0
    return place, (left, int(counts[:, place].sum()))

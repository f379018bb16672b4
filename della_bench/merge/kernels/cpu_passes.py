"""Whole passes over a tensor on the CPU, compiled by numba: block after block, without a step in Python.

A block is a stretch of the flattened tensor that fits a core's second-level cache with its float32 deltas; it holds
whole rows where the merge works by rows. A pass takes the blocks from `first` to `last`, so that threads share them; a
thread holds one float32 block an expert and nothing of the tensor's size. A pass leaves blocks out whose sources are
not finite, and says so in `Tensors.broken`: whoever sees that set throws the result away.

numba's cache on disk looks for changes in a function's own file only: after a change of the loops that these passes
call, touch this file, or the old loops run on.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from della_bench.merge.kernels import cpu_convert, cpu_fuse, cpu_loops
from della_bench.merge.kernels.cpu_loops import OPTIONS

__all__ = [
    "DROPS",
    "SCALINGS",
    "Drops",
    "Fuse",
    "Room",
    "Tensors",
    "agreement",
    "all_keys",
    "histogram",
    "make_room",
    "merge",
    "norms",
]  # fmt: skip

# Codes of the kinds of dropping and scaling, in the names of the methods' table.
NONE, RANDOM, MAGNITUDE, MAGNITUDE_ROW, MAGPRUNE, MAGPRUNE_LAYER, MAGPRUNE_NORANK = range(7)
DROPS = {
    "none": NONE, "random": RANDOM, "magnitude": MAGNITUDE, "magnitude_row": MAGNITUDE_ROW, "magprune": MAGPRUNE,
    "magprune_layer": MAGPRUNE_LAYER, "magprune_norank": MAGPRUNE_NORANK,
}  # fmt: skip
LAMBDA, ADA_LAYER, ADA_ROW, ADA_ROW_INV = range(4)
SCALINGS = {"lambda": LAMBDA, "ada_layer": ADA_LAYER, "ada_row": ADA_ROW, "ada_row_inv": ADA_ROW_INV}


class Tensors(NamedTuple):
    """Where the flattened tensors lie: the base, the experts, the result; (K + 2,) int64 addresses and dtype codes."""

    addresses: np.ndarray
    codes: np.ndarray
    size: int
    row: int
    step: int  # elements of a block
    share: int  # blocks that one thread takes at a time; passes start at a multiple of it
    sound: np.ndarray  # uint8 (K + 1,): set where an earlier pass has found the base or an expert finite
    broken: np.ndarray  # uint8 (K + 1,): set where the base or an expert holds NaN or infinity


class Drops(NamedTuple):
    """What decides the drops of each expert, as far as it is the same for all blocks. Arrays have a row an expert."""

    kind: int
    active: np.ndarray  # bool: density below 1
    random_keys: np.ndarray  # uint64, of Philox
    last: np.ndarray  # int64: the density's threshold less 1
    scale: np.ndarray  # float64: 1 / density, or 1
    low: np.ndarray  # int64: the lowest threshold
    span: np.ndarray  # int64: the highest less the lowest
    inverse: bool
    lasts: np.ndarray  # uint32 (K, ranks or keys): thresholds less 1
    scales: np.ndarray  # float32, likewise
    ordered: np.ndarray  # uint32 (K, elements): all keys, sorted
    cut: np.ndarray  # int64: the key at the cut
    room: np.ndarray  # int64 (K, shares): how many keys equal to the cut each share of blocks may keep
    count: np.ndarray  # int64: how many elements of a row are kept
    factor: np.ndarray  # float64, of the L1 norm


class Fuse(NamedTuple):
    """How the pruned deltas become one."""

    elect: int
    weights: np.ndarray  # float32
    normalize: bool
    scaling: int
    ratios: np.ndarray  # float32 (K, 1): ada_layer's
    scale: float  # lambda


class Room(NamedTuple):
    """One thread's buffers, for the largest block, whose content means nothing between two blocks."""

    base: np.ndarray  # float32
    deltas: np.ndarray  # float32, K blocks one after the other
    out: np.ndarray  # float32
    wide: np.ndarray  # float32
    keys: np.ndarray  # uint16, or uint32 where the base is float32
    words: np.ndarray  # uint32
    signs: np.ndarray  # uint32
    taken: np.ndarray  # uint32
    bins: np.ndarray  # int32 (4, keys), zeros before and after
    row_bins: np.ndarray  # int64[65536]
    meaning: np.ndarray  # uint64 by key
    found: np.ndarray  # uint64
    left: np.ndarray  # int64 (K,): how many keys equal to the cut the rest of the share may keep


def make_room(step: int, experts: int, wide_keys: bool) -> Room:
    """Make buffers for blocks of up to `step` elements; those by key for 16-bit keys alone, of which there are 2^15."""
    values = 2 if wide_keys else 1 << 15
    return Room(
        base=np.empty(step, np.float32),
        deltas=np.empty(experts * step, np.float32),
        out=np.empty(step, np.float32),
        wide=np.empty(step, np.float32),
        keys=np.empty(step, np.uint32 if wide_keys else np.uint16),
        words=np.empty(step + 8, np.uint32),
        signs=np.empty(step, np.uint32),
        taken=np.empty(step, np.uint32),
        bins=np.zeros((4, values), np.int32),
        row_bins=np.empty(1 << 16, np.int64),
        meaning=np.empty(values, np.uint64),
        found=np.empty(step, np.uint64),
        left=np.zeros(experts, np.int64),
    )


@njit(**OPTIONS)
def _is_sound(tensors: Tensors, source: int, start: int, size: int) -> bool:
    """Whether a source is finite in a block; the key of what is not may lie beyond all tables."""
    if tensors.sound[source] or cpu_convert.finite(tensors.addresses[source], tensors.codes[source], start, size):
        return True
    tensors.broken[source] = 1
    return False


@njit(**OPTIONS)
def _delta(tensors: Tensors, k: int, start: int, base: np.ndarray, d: np.ndarray) -> None:
    cpu_convert.widen(tensors.addresses[0], tensors.codes[0], start, base)
    cpu_convert.delta(tensors.addresses[1 + k], tensors.codes[1 + k], start, base, d)


@njit(**OPTIONS)
def _deltas(room: Room, experts: int, size: int) -> np.ndarray:
    """Return the experts' deltas in a block, (K, size) and contiguous, without which loops are not vectorised."""
    return room.deltas[: experts * size].reshape((experts, size))


@njit(**OPTIONS)
def _keep_above(d: np.ndarray, code: int, cut: int, room: int, scale: float) -> int:
    """Keep d where its key is above `cut`, and the first `room` of those equal to it; see `cpu_loops.keep_above`."""
    least, above = cpu_convert.least_magnitude(cut, code), cpu_convert.least_magnitude(cut + 1, code)
    return cpu_loops.keep_above(d, least, above, room, scale)


@njit(**OPTIONS)
def _prune(tensors: Tensors, drops: Drops, k: int, d: np.ndarray, start: int, block: int, room: Room) -> None:
    """Drop from expert k's delta and rescale it, in place, but for the factor of the L1 norm."""
    kind, code, n = drops.kind, tensors.codes[0], tensors.row
    if kind == NONE or not drops.active[k]:
        return
    if kind == MAGNITUDE:
        if block % tensors.share == 0:
            room.left[k] = drops.room[k, block // tensors.share]
        room.left[k] -= _keep_above(d, code, drops.cut[k], room.left[k], drops.scale[k])
        return
    keys = room.keys[: d.size]
    if kind != RANDOM:
        cpu_convert.keys(d, code, keys)
    if kind == MAGNITUDE_ROW:
        for at in range(0, d.size, n):
            cut, left = cpu_loops.row_cut(keys[at : at + n], drops.count[k], room.row_bins)
            _keep_above(d[at : at + n], code, cut, left, drops.scale[k])
        return
    skip = start % 4
    cpu_loops.philox(room.words[: (skip + d.size + 3) // 4 * 4], start // 4, drops.random_keys[k])
    words = room.words[skip : skip + d.size]
    if kind == RANDOM:
        cpu_loops.random_keep(d, words, drops.last[k], drops.scale[k])
    elif kind == MAGPRUNE:
        if code == cpu_convert.F32:
            cpu_loops.rank_rows32(d, keys, words, n, drops.lasts[k], drops.scales[k])
        else:
            lasts, scales = drops.lasts[k], drops.scales[k]
            cpu_loops.rank_rows16(d, keys, words, n, lasts, scales, room.bins, room.meaning, room.found)
    elif kind == MAGPRUNE_LAYER:
        if code == cpu_convert.F32:
            cpu_loops.layer_keep32(d, keys, words, drops.ordered[k], drops.low[k], drops.span[k], drops.inverse)
        else:
            cpu_loops.table_keep(d, keys, words, drops.lasts[k], drops.scales[k])
    else:
        wide = room.wide[: d.size]
        cpu_convert.magnitudes(keys, code, wide)
        cpu_loops.norank_rows(d, wide, words, n, drops.low[k], drops.span[k], drops.inverse)


@njit(**OPTIONS)
def _elected(tensors: Tensors, drops: Drops, fuse: Fuse, block: int, start: int, size: int, room: Room) -> None:
    """Fill a block's base, its pruned and weighed deltas, and where the elected sign is negative."""
    base, deltas = room.base[:size], _deltas(room, fuse.weights.size, size)
    if not _is_sound(tensors, 0, start, size):
        return
    cpu_convert.widen(tensors.addresses[0], tensors.codes[0], start, base)
    for k in range(deltas.shape[0]):
        if not _is_sound(tensors, 1 + k, start, size):
            return
        d = deltas[k]
        cpu_convert.delta(tensors.addresses[1 + k], tensors.codes[1 + k], start, base, d)
        _prune(tensors, drops, k, d, start, block, room)
        if drops.factor[k] != 1:
            cpu_loops.scale_kept(d, drops.factor[k])
        if fuse.weights[k] != 1:
            cpu_fuse.weigh(d, fuse.weights[k])
    if fuse.elect != cpu_fuse.NONE:
        cpu_fuse.elect(deltas, fuse.elect, room.out[:size], room.signs[:size])


@njit(**OPTIONS)
def _row_ratios(deltas: np.ndarray, fuse: Fuse, signs: np.ndarray, n: int) -> np.ndarray:
    """Return each expert's ratio by row: before / after the election, in float64, rounded to float32."""
    experts, rows = deltas.shape[0], deltas.shape[1] // n
    ratios = np.ones((experts, rows), np.float32)
    for k in range(experts):
        before, after = np.zeros(rows, np.int64), np.zeros(rows, np.int64)
        cpu_fuse.agreement_counts(deltas[k], fuse.elect, signs, n, before, after)
        for r in range(rows):
            top, bottom = (after[r], before[r]) if fuse.scaling == ADA_ROW_INV else (before[r], after[r])
            if bottom:
                ratios[k, r] = np.float32(np.float64(top) / np.float64(bottom))
    return ratios


@njit(**OPTIONS)
def merge(tensors: Tensors, drops: Drops, fuse: Fuse, room: Room, first: int, last: int) -> None:
    """Merge the blocks from `first` to `last` and store them."""
    experts = fuse.weights.size
    for block in range(first, last):
        start = block * tensors.step
        size = min(tensors.step, tensors.size - start)
        _elected(tensors, drops, fuse, block, start, size, room)
        deltas, signs, out = _deltas(room, experts, size), room.signs[:size], room.out[:size]
        ratios, n = fuse.ratios, 0
        if fuse.scaling == ADA_LAYER:
            n = size
        elif fuse.scaling != LAMBDA:
            ratios, n = _row_ratios(deltas, fuse, signs, tensors.row), tensors.row
        base = room.base[:size]
        weights, spare = fuse.weights, (room.wide[:size], room.words[:size], room.taken[:size])
        cpu_fuse.finish(base, deltas, fuse.elect, signs, weights, fuse.normalize, ratios, n, fuse.scale, spare, out)
        cpu_convert.store(out, tensors.addresses[1 + experts], tensors.codes[1 + experts], start)


@njit(**OPTIONS)
def agreement(
    tensors: Tensors, drops: Drops, fuse: Fuse, room: Room, first: int, last: int, counts: np.ndarray
) -> None:
    """Add to counts (2, K) how many elements of each expert are not zero, and how many of them the election keeps."""
    for block in range(first, last):
        start = block * tensors.step
        size = min(tensors.step, tensors.size - start)
        _elected(tensors, drops, fuse, block, start, size, room)
        for k in range(fuse.weights.size):
            d, signs = _deltas(room, fuse.weights.size, size)[k], room.signs[:size]
            cpu_fuse.agreement_counts(d, fuse.elect, signs, size, counts[0, k : k + 1], counts[1, k : k + 1])


@njit(**OPTIONS)
def norms(tensors: Tensors, drops: Drops, k: int, room: Room, first: int, last: int, sums: np.ndarray) -> None:
    """Add to sums (2, 256) what expert k's delta adds to an exact L1 norm before its drop, and after it."""
    for block in range(first, last):
        start = block * tensors.step
        size = min(tensors.step, tensors.size - start)
        if not (_is_sound(tensors, 0, start, size) and _is_sound(tensors, 1 + k, start, size)):
            continue
        d = room.deltas[:size]
        _delta(tensors, k, start, room.base[:size], d)
        cpu_loops.magnitude_sums(d.view(np.uint32), sums[0])
        _prune(tensors, drops, k, d, start, block, room)
        cpu_loops.magnitude_sums(d.view(np.uint32), sums[1])


@njit(**OPTIONS)
def _keys(tensors: Tensors, k: int, start: int, size: int, room: Room) -> np.ndarray:
    """Return the keys of a stretch of expert k's delta."""
    d, keys = room.deltas[:size], room.keys[:size]
    if not (_is_sound(tensors, 0, start, size) and _is_sound(tensors, 1 + k, start, size)):
        keys[:] = 0
        return keys
    if tensors.codes[0] == cpu_convert.BF16 and tensors.codes[1 + k] == cpu_convert.BF16:
        cpu_convert.bf16_delta_keys(tensors.addresses[0], tensors.addresses[1 + k], start, keys)
        return keys
    _delta(tensors, k, start, room.base[:size], d)
    cpu_convert.keys(d, tensors.codes[0], keys)
    return keys


@njit(**OPTIONS)
def all_keys(tensors: Tensors, k: int, room: Room, first: int, last: int, out: np.ndarray) -> None:
    """Write the keys of expert k's delta into their places in `out`."""
    for block in range(first, last):
        start = block * tensors.step
        size = min(tensors.step, tensors.size - start)
        out[start : start + size] = _keys(tensors, k, start, size, room)


@njit(**OPTIONS)
def histogram(
    tensors: Tensors, k: int, room: Room, first: int, last: int, shift: int, prefix: int, bins: np.ndarray
) -> None:
    """Count the keys of expert k's delta in bins[share]; see `cpu_loops.histogram`."""
    for block in range(first, last):
        start = block * tensors.step
        size = min(tensors.step, tensors.size - start)
        keys = _keys(tensors, k, start, size, room)
        if keys.itemsize == 2:
            cpu_loops.count_keys(keys, room.bins)
        else:
            cpu_loops.histogram(keys, shift, prefix, bins[first // tensors.share])
    if room.keys.itemsize == 2:
        cpu_loops.take_counts(room.bins, bins[first // tensors.share])

"""Passes over the keys of a tensor's deltas on the CPU, compiled by numba: what ranks and cuts have to know first.

As in `cpu_passes`, a pass takes blocks and leaves out those that are not finite.
"""

from __future__ import annotations

import numpy as np
from numba import uint32, uint64

from della_bench.merge.kernels import cpu_convert, cpu_cuts, cpu_ranks
from della_bench.merge.kernels.cpu_loops import compiled
from della_bench.merge.kernels.cpu_plan import Scratch, Tensors
from della_bench.merge.kernels.cpu_sources import extent, is_sound, read_delta

__all__ = ["SAMPLE", "all_keys", "between", "histogram", "likely_cut"]

_RUNS, _RUN = 256, 128  # of a sample, and the elements of one: a page of a file costs more than its bytes
_GUESSING = _RUNS // 4  # of the runs: these guess the cut, the others tell how far runs differ there
SAMPLE = _RUNS * _RUN  # elements


# Two bfloat16 tensors, the usual case, take one loop without a float32 block in between. What it calls not finite may
# also be an overflow of finite sources, and so the sources themselves are looked at before the keys are thrown away.
# Zeros stand for what is not finite: such a key may be beyond all tables.
@compiled
def _keys(tensors: Tensors, k: int, start: int, size: int, scratch: Scratch) -> np.ndarray:
    """Return the keys of a stretch of expert k's delta, zeros where a source is not finite."""
    d, keys = scratch.deltas[:size], scratch.keys[:size]
    is_finite = False
    if tensors.codes[0] == cpu_convert.BF16 and tensors.codes[1 + k] == cpu_convert.BF16:
        is_finite = cpu_convert.bf16_delta_keys(tensors.addresses[0], tensors.addresses[1 + k], start, keys)
    else:
        read_delta(tensors, k, start, scratch.base[:size], d)
        cpu_convert.keys(d, tensors.codes[0], keys)
    if not (is_finite or (is_sound(tensors, 0, start, size) and is_sound(tensors, 1 + k, start, size))):
        keys[:] = 0
    return keys


# For 32-bit keys of a whole tensor, which are sorted afterwards: out[i] is the key of the tensor's element i. Blocks
# write to places of their own, so that threads need no lock.
@compiled
def all_keys(tensors: Tensors, k: int, scratch: Scratch, first: int, last: int, out: np.ndarray) -> None:
    """Write the keys of expert k's delta into their places in `out`."""
    for block in range(first, last):
        start, size = extent(tensors, block)
        out[start : start + size] = _keys(tensors, k, start, size, scratch)


# 15-bit keys are counted in the thread's own small tables (int32, four of them: see `cpu_ranks.count_keys`) for all
# blocks of the bundle, and added to `counts` once at its end.
@compiled
def histogram(
    tensors: Tensors, k: int, scratch: Scratch, first: int, last: int, shift: int, prefix: int, counts: np.ndarray
) -> None:
    """Add the keys of expert k's delta to counts by key; keys of 32 bits as `cpu_cuts.histogram` does."""
    for block in range(first, last):
        start, size = extent(tensors, block)
        keys = _keys(tensors, k, start, size, scratch)
        if keys.itemsize == 2:
            cpu_ranks.count_keys(keys, scratch.bins)
        else:
            cpu_cuts.histogram(keys, shift, prefix, counts)
    if scratch.keys.itemsize == 2:
        cpu_ranks.take_counts(scratch.bins, counts)


# A sample of 2^15 elements tells within which few keys a cut lies, after which `between` counts those keys alone:
# comparing is several times faster than counting all. `place` runs over the sample's runs; the multiplier 0x9E3779B9
# is the golden ratio times 2^32, whose multiples spread the runs evenly at any number of them. The first quarter of
# the runs guesses the cut (`guess`); how many elements each of the others has above it tells the variance between
# runs.
@compiled
def likely_cut(tensors: Tensors, k: int, scratch: Scratch, density: float) -> tuple[int, int]:
    """Return two 16-bit keys between which lies, most likely, the cut that leaves a density of expert k's delta.

    For a tensor of at least `SAMPLE` elements, of which runs are sampled that are spread as multiples of the golden
    ratio are over 0 to 1. How far they differ, as rows do of different scale, tells how far the cut may be from theirs:
    the margin is of four standard errors.
    """
    counts, guess, total, squares = scratch.bins[0], 0, 0.0, 0.0
    for place in range(_RUNS):
        start = np.int64(uint64(uint32(place * 0x9E3779B9)) * uint64(tensors.size - _RUN) >> uint64(32))
        keys = _keys(tensors, k, start, _RUN, scratch)
        for i in range(keys.size):
            counts[keys[i]] += 1
        if place + 1 == _GUESSING:
            guess = cpu_cuts.around_cut(counts, density * _GUESSING * _RUN, 0.0)[1]
        elif place >= _GUESSING:
            above = np.float64(cpu_cuts.at_least(keys, guess))
            total += above
            squares += above * above
    compared = _RUNS - _GUESSING
    variance = max(squares - total * total / compared, 0.0) / (compared - 1)
    cuts = cpu_cuts.around_cut(counts, density * SAMPLE, 4 * np.sqrt(variance * _RUNS) + 1)
    counts[:] = 0
    return cuts


# The usual case of a slight fine-tuning in bfloat16: deltas lie on so coarse a grid that only one key may be the cut.
@compiled
def _count_one_key(tensors: Tensors, k: int, start: int, size: int, least: int, above: int, counts: np.ndarray) -> bool:
    """Add to counts how many elements have this key, and how many a higher one; False where that is left to others.

    least, above: the bits of the least magnitudes of the key and of the next one.
    """
    if tensors.codes[0] != cpu_convert.BF16 or tensors.codes[1 + k] != cpu_convert.BF16:
        return False
    from_least, from_above, is_finite = cpu_convert.bf16_delta_counts(
        tensors.addresses[0], tensors.addresses[1 + k], start, size, least, above
    )
    if is_finite:
        counts[0] += from_least - from_above
        counts[1] += from_above
    return is_finite


# All experts of a block at once, while the base's part lies in the cache. i runs over the experts whose cut is looked
# for, experts[i] is which one that is, lows[i] the lowest key counted, counts[i] its counts.
@compiled
def between(
    tensors: Tensors, experts: np.ndarray, scratch: Scratch, first: int, last: int, lows: np.ndarray, counts: np.ndarray
) -> None:
    """Add the 16-bit keys of some experts' deltas to their rows of counts; see `cpu_cuts.count_between`."""
    bounds = np.empty((experts.size, 2), np.int64)
    for i in range(experts.size):
        for j in range(2):
            bounds[i, j] = cpu_convert.least_magnitude(lows[i] + j, tensors.codes[0])
    for block in range(first, last):
        start, size = extent(tensors, block)
        for i in range(experts.size):
            least, above = bounds[i]
            if counts.shape[1] == 2 and _count_one_key(tensors, experts[i], start, size, least, above, counts[i]):
                continue
            cpu_cuts.count_between(_keys(tensors, experts[i], start, size, scratch), lows[i], counts[i])

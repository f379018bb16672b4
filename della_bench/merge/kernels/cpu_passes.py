"""Whole passes over a tensor on the CPU, compiled by numba: block after block, without a step in Python.

A block is a stretch of the flattened tensor that fits a core's second-level cache with its float32 deltas; it holds
whole rows where the merge works by rows. A pass takes the blocks from `first` to `last`, so that threads share them; a
thread holds one float32 block an expert and nothing of the tensor's size. A pass leaves blocks out whose sources are
not finite, and says so in `Tensors.broken`: whoever sees that set throws the result away.
"""

from __future__ import annotations

import numpy as np

from della_bench.merge.kernels import cpu_convert, cpu_cuts, cpu_equals, cpu_few, cpu_fuse, cpu_loops, cpu_ranks
from della_bench.merge.kernels.cpu_loops import compiled
from della_bench.merge.kernels.cpu_plan import (
    ADA_LAYER,
    ADA_ROW_INV,
    CHUNK,
    LAMBDA,
    MAGNITUDE,
    MAGNITUDE_ROW,
    MAGPRUNE,
    MAGPRUNE_LAYER,
    NONE,
    RANDOM,
    Drops,
    Fuse,
    Scratch,
    Tensors,
)
from della_bench.merge.kernels.cpu_sources import extent, is_sound, read_delta

__all__ = ["agreement", "merge", "near_words", "norms"]


# Expert k's delta is row k of what is returned. The scratch array is for the largest block; a slice of it would not
# be contiguous for the last block, which may be shorter.
@compiled
def _deltas(scratch: Scratch, experts: int, size: int) -> np.ndarray:
    """Return the experts' deltas in a block, (K, size) and contiguous, without which loops are not vectorised."""
    return scratch.deltas[: experts * size].reshape((experts, size))


# Element i of a block is element start + i of the tensor, which decides its random word: words come in fours, and so
# the first `skip` of them belong to elements before the block.
@compiled
def _words(drops: Drops, k: int, start: int, size: int, scratch: Scratch) -> np.ndarray:
    """Return the random words of a block of expert k."""
    if drops.given_words.shape[1]:
        return drops.given_words[k, start : start + size]
    skip = start % 4
    cpu_loops.philox(scratch.words[: (skip + size + 3) // 4 * 4], start // 4, drops.random_keys[k])
    return scratch.words[skip : skip + size]


# Compares bits of magnitudes instead of rounding each to a key: the keys equal to the cut are those from `least` to
# just below `above`. Words are computed only where they decide: not where all equals are kept, or none; and a chunk at
# a time, so that they, the deltas and the marks do not leave the first-level cache in between.
@compiled
def _keep_largest(
    tensors: Tensors, drops: Drops, k: int, d: np.ndarray, start: int, block: int, scratch: Scratch
) -> None:
    """Keep the largest of the whole tensor; note the equals near the last one where that is wanted."""
    least, above, last_word, near = drops.least[k], drops.above[k], drops.last_word[k], drops.near
    if last_word < 0 or last_word > 0xFFFFFFFF:
        cpu_equals.keep_above(d, above if last_word < 0 else least, drops.scale[k])
        return
    bundle, lowest, span = block // tensors.bundle, near.lowest[k], near.span[k]
    for first in range(0, d.size, CHUNK):
        chunk, place = d[first : first + CHUNK], start + first
        words = _words(drops, k, place, chunk.size, scratch)
        if span < 0:
            cpu_equals.keep_up_to(chunk, words, least, above, last_word, drops.last_place[k] - place, drops.scale[k])
            continue
        near.first[k, bundle] += cpu_equals.keep_and_mark(
            chunk, words, least, above, last_word, lowest, span, drops.scale[k], scratch.marks
        )
        near.count[k, bundle] = cpu_equals.note_marked(
            scratch.marks, words, place, near.places[k, bundle], near.words[k, bundle], near.count[k, bundle]
        )


# As `_keep_largest`, with a cut of each row: n is a row's length, and `at` its first element in the block.
@compiled
def _keep_largest_of_rows(
    tensors: Tensors, drops: Drops, k: int, d: np.ndarray, keys: np.ndarray, start: int, scratch: Scratch
) -> None:
    """Keep the largest of each row of a block of whole rows."""
    code, n, scale = tensors.codes[0], tensors.row, drops.scale[k]
    words = _words(drops, k, start, d.size, scratch)
    for at in range(0, d.size, n):
        row, row_keys, row_words = d[at : at + n], keys[at : at + n], words[at : at + n]
        cut, equals, left = cpu_cuts.row_cut(row_keys, drops.count[k], scratch.row_bins)
        least = cpu_convert.least_magnitude(cut, code)
        if left == equals:
            cpu_equals.keep_above(row, least, scale)
        else:
            above = cpu_convert.least_magnitude(cut + 1, code)
            word, last = cpu_equals.row_last(row_keys, row_words, cut, left, scratch.row_bins, scratch.taken)
            cpu_equals.keep_up_to(row, row_words, least, above, word, last, scale)


# One expert's (k) block, of whatever kind the drop is: the kind is looked at once a block. n is a row's length; where
# rows matter, the block holds whole ones.
@compiled
def _prune(tensors: Tensors, drops: Drops, k: int, d: np.ndarray, start: int, block: int, scratch: Scratch) -> None:
    """Drop from expert k's delta and rescale it, in place, but for the factor of the L1 norm."""
    kind, code, n = drops.kind, tensors.codes[0], tensors.row
    if kind == NONE or not drops.active[k]:
        return
    if kind == MAGNITUDE:
        _keep_largest(tensors, drops, k, d, start, block, scratch)
        return
    keys = scratch.keys[: d.size]
    if kind != RANDOM:
        cpu_convert.keys(d, code, keys)
    if kind == MAGNITUDE_ROW:
        _keep_largest_of_rows(tensors, drops, k, d, keys, start, scratch)
        return
    words = _words(drops, k, start, d.size, scratch)
    if kind == RANDOM:
        cpu_loops.random_keep(d, words, drops.highest[k], drops.scale[k])
    elif kind == MAGPRUNE:
        highest, scales = drops.highest_table[k], drops.scale_table[k]
        if code == cpu_convert.F32:
            cpu_ranks.rank_rows32(d, keys, words, n, highest, scales)
        else:
            cpu_ranks.rank_rows16(d, keys, words, n, highest, scales, scratch.bins, scratch.key_rules, scratch.rules)
    elif kind == MAGPRUNE_LAYER:
        if code == cpu_convert.F32:
            cpu_ranks.layer_keep32(d, keys, words, drops.ordered[k], drops.low[k], drops.span[k], drops.inverse)
        else:
            cpu_ranks.layer_keep16(d, keys, words, drops.highest_table[k], drops.scale_table[k], scratch.rules)
    else:
        wide = scratch.wide[: d.size]
        cpu_convert.magnitudes(keys, code, wide)
        cpu_loops.norank_rows(d, wide, words, n, drops.low[k], drops.span[k], drops.inverse)


# What `merge` and `agreement` have in common, up to the election. k runs over experts. It leaves early where a source
# is not finite, with whatever the scratch holds: such a merge is thrown away. Factors and weights of 1 are skipped,
# which changes no bit.
@compiled
def _elected(
    tensors: Tensors, drops: Drops, fuse: Fuse, elect: int, block: int, start: int, size: int, scratch: Scratch
) -> None:
    """Fill a block's base, its pruned and weighed deltas, and where the elected sign is negative.

    elect: the fuse's, or none where the signs are left to a later loop.
    """
    base, deltas = scratch.base[:size], _deltas(scratch, fuse.weights.size, size)
    if not is_sound(tensors, 0, start, size):
        return
    cpu_convert.widen(tensors.addresses[0], tensors.codes[0], start, base)
    for k in range(deltas.shape[0]):
        if not is_sound(tensors, 1 + k, start, size):
            return
        d = deltas[k]
        cpu_convert.delta(tensors.addresses[1 + k], tensors.codes[1 + k], start, base, d)
        _prune(tensors, drops, k, d, start, block, scratch)
        if drops.factor[k] != 1:
            cpu_loops.scale_kept(d, drops.factor[k])
        if fuse.weights[k] != 1:
            cpu_fuse.weigh(d, fuse.weights[k])
    if elect != cpu_fuse.NONE:
        cpu_fuse.elect(deltas, elect, scratch.out[:size], scratch.signs[:size])


# k runs over experts, r over the block's rows of n elements. The counts are divided in float64 and rounded, as
# `fuse.ada_ratio` does; an empty denominator leaves the ratio at 1.
@compiled
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


# The pass that writes the result: each source is read once, and everything else happens in the scratch buffers of the
# thread, in the cache. ratios[k, row] scales expert k's elements; for ada_layer one "row" is the whole block, and for
# lambda there is none (n = 0).
@compiled
def merge(tensors: Tensors, drops: Drops, fuse: Fuse, scratch: Scratch, first: int, last: int) -> None:
    """Merge the blocks from `first` to `last` and store them."""
    experts = fuse.weights.size
    few = cpu_few.is_few(experts, fuse.elect, fuse.scaling != LAMBDA)
    elect = cpu_fuse.NONE if few else fuse.elect
    for block in range(first, last):
        start, size = extent(tensors, block)
        _elected(tensors, drops, fuse, elect, block, start, size, scratch)
        deltas, signs, out = _deltas(scratch, experts, size), scratch.signs[:size], scratch.out[:size]
        ratios, n = fuse.ratios, 0
        if fuse.scaling == ADA_LAYER:
            n = size
        elif fuse.scaling != LAMBDA:
            ratios, n = _row_ratios(deltas, fuse, signs, tensors.row), tensors.row
        base = scratch.base[:size]
        weights, spare = fuse.weights, (scratch.wide[:size], scratch.divisor[:size], scratch.taken[:size])
        if few:
            cpu_few.finish_few(base, deltas, weights, fuse.normalize, fuse.scale, out)
        else:
            cpu_fuse.finish(base, deltas, fuse.elect, signs, weights, fuse.normalize, ratios, n, fuse.scale, spare, out)
        cpu_convert.store(out, tensors.addresses[1 + experts], tensors.codes[1 + experts], start)


# The pass that ada_layer needs before `merge`: the same up to the election, then counts instead of sums. A block
# counts as one row; counts[0] is before the election and counts[1] after it, by expert.
@compiled
def agreement(
    tensors: Tensors, drops: Drops, fuse: Fuse, scratch: Scratch, first: int, last: int, counts: np.ndarray
) -> None:
    """Add to counts (2, K) how many elements of each expert are not zero, and how many of them the election keeps."""
    for block in range(first, last):
        start, size = extent(tensors, block)
        _elected(tensors, drops, fuse, fuse.elect, block, start, size, scratch)
        for k in range(fuse.weights.size):
            d, signs = _deltas(scratch, fuse.weights.size, size)[k], scratch.signs[:size]
            cpu_fuse.agreement_counts(d, fuse.elect, signs, size, counts[0, k : k + 1], counts[1, k : k + 1])


# The pass that the `l1` rescale needs before `merge`, for one expert k: its drop is computed here and again in
# `merge`, which costs less than to store a delta of the tensor's size.
@compiled
def norms(tensors: Tensors, drops: Drops, k: int, scratch: Scratch, first: int, last: int, sums: np.ndarray) -> None:
    """Add to sums (2, 256) what expert k's delta adds to an exact L1 norm before its drop, and after it."""
    for block in range(first, last):
        start, size = extent(tensors, block)
        if not (is_sound(tensors, 0, start, size) and is_sound(tensors, 1 + k, start, size)):
            continue
        d = scratch.deltas[:size]
        read_delta(tensors, k, start, scratch.base[:size], d)
        cpu_loops.magnitude_sums(d.view(np.uint32), sums[0])
        _prune(tensors, drops, k, d, start, block, scratch)
        cpu_loops.magnitude_sums(d.view(np.uint32), sums[1])


# What `merge` notes of equals near the cut on its way, noted in a pass of its own, for one expert k: for merges that
# have to know which equals are kept before they begin.
@compiled
def near_words(tensors: Tensors, drops: Drops, k: int, scratch: Scratch, first: int, last: int) -> None:
    """Note expert k's equals of the cut whose words lie in the window."""
    for block in range(first, last):
        start, size = extent(tensors, block)
        if is_sound(tensors, 0, start, size) and is_sound(tensors, 1 + k, start, size):
            d = scratch.deltas[:size]
            read_delta(tensors, k, start, scratch.base[:size], d)
            _keep_largest(tensors, drops, k, d, start, block, scratch)

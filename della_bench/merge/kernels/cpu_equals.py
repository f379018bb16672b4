"""Keeping what lies above a cut on the CPU, and of the elements at it those of the lowest random words; by numba.

Of the elements whose key equals the cut, all up to a last one are kept, in the order of (word, index). Which one is the
last is known only when all their words are, which takes a pass of its own. `cpu_whole` says how that pass is saved: a
guess, and a list of those near it.
"""

from __future__ import annotations

import numpy as np
from numba import uint32

from della_bench.merge.kernels.cpu_loops import compiled, kept, philox

__all__ = ["keep_above", "keep_and_mark", "keep_up_to", "note_marked", "row_last", "words_at"]

_BUCKETS = 4096


# Magnitudes are compared by their bits (see `cpu_convert.least_magnitude`), so that no key is computed here.
@compiled
def keep_above(d: np.ndarray, least: int, scale: float) -> None:
    """Keep d, times `scale`, where its magnitude's bits are `least` or more; else 0."""
    bits, factor, limit = d.view(np.uint32), np.float32(scale), uint32(least)
    for i in range(d.size):
        d[i] = kept(d[i] * factor, (bits[i] & uint32(0x7FFFFFFF)) >= limit)


# i runs over a block or a row. Elements at the cut have magnitudes from `cut` to just below `above`. Both comparisons
# of words are made for all elements, without a jump, so that the loop is vectorised: two equals of one word, which
# only the index tells apart, are rare but exist.
@compiled
def keep_up_to(d: np.ndarray, words: np.ndarray, cut: int, above: int, last_word: int, last: int, scale: float) -> None:
    """Keep d, times `scale`, above the cut, and at it up to the element of `last_word` at place `last`; else 0.

    last: a place in `d`; it may lie before it or behind it.
    """
    bits, factor = d.view(np.uint32), np.float32(scale)
    low, high, word = uint32(cut), uint32(above), uint32(last_word)
    after = uint32(min(max(last + 1, 0), d.size))
    for i in range(d.size):
        magnitude = uint32(bits[i] & uint32(0x7FFFFFFF))
        is_first = (words[i] < word) | ((words[i] == word) & (uint32(i) < after))
        d[i] = kept(d[i] * factor, (magnitude >= high) | ((magnitude >= low) & is_first))


# What `keep_up_to` does by a guess. On its way, and vectorised, the loop marks the elements that are to be noted: at
# the cut, with a word from `lowest` to `lowest + span`. `a - b < c` in unsigned numbers is two comparisons in one.
@compiled
def keep_and_mark(
    d: np.ndarray,
    words: np.ndarray,
    cut: int,
    above: int,
    last_word: int,
    lowest: int,
    span: int,
    scale: float,
    marks: np.ndarray,
) -> int:
    """Keep d, times `scale`, above the cut, and at it where the word is below `last_word`; else 0.

    Sets marks (uint8, at least as many) to 1 or 0. Returns how many elements at the cut are kept.
    """
    bits, factor, kept_equals = d.view(np.uint32), np.float32(scale), uint32(0)
    low, width, high, word = uint32(cut), uint32(above - cut), uint32(above), uint32(last_word)
    first, window = uint32(lowest), uint32(span)
    for i in range(d.size):
        magnitude = uint32(bits[i] & uint32(0x7FFFFFFF))
        is_equal = uint32(magnitude - low) < width
        is_first = is_equal & (words[i] < word)
        kept_equals = uint32(kept_equals + uint32(is_first))
        marks[i] = np.uint8(is_equal & (uint32(words[i] - first) <= window))
        d[i] = kept(d[i] * factor, (magnitude >= high) | is_first)
    return np.int64(kept_equals)


# Marks are rare: eight of them, a byte each, are looked at as one number, and only where that is not 0 one by one.
@compiled
def note_marked(
    marks: np.ndarray, words: np.ndarray, start: int, places: np.ndarray, noted: np.ndarray, count: int
) -> int:
    """Note the marked elements, from places[count] and noted[count] on; returns the new count.

    marks: of a multiple of 8, as many as there are words or more. start: the place of the first element in the tensor.
    What does not fit into the arrays is counted and not noted.
    """
    eights = marks.view(np.uint64)
    for eight in range((words.size + 7) // 8):
        if eights[eight]:
            for i in range(8 * eight, min(8 * eight + 8, words.size)):
                if marks[i]:
                    if count < places.size:
                        places[count] = start + i
                        noted[count] = words[i]
                    count += 1
    return count


# For one row, whose equals are few: their words are counted by the upper 12 bits, a walk finds the bucket in which the
# last one lies, and only that bucket's elements are put in order, by insertion: as many buckets as most rows have
# equals leave one or two in each. `left` becomes how many of the bucket's elements are kept; `order` holds their
# places, of which words are equal the lower first, as they come in that order.
@compiled
def row_last(
    keys: np.ndarray, words: np.ndarray, cut: int, left: int, bins: np.ndarray, order: np.ndarray
) -> tuple[int, int]:
    """Return word and place of the last of the `left` elements at the cut that a row keeps.

    bins: int64[65536], of any content. order: uint32, at least as long as the row, likewise.
    """
    counts = bins[:_BUCKETS]
    counts[:] = 0
    for i in range(keys.size):
        if keys[i] == cut:
            counts[words[i] >> uint32(20)] += 1
    bucket = 0
    while counts[bucket] < left:
        left -= counts[bucket]
        bucket += 1
    count = 0
    for i in range(keys.size):
        if keys[i] == cut and words[i] >> uint32(20) == bucket:
            at = count
            while at > 0 and words[order[at - 1]] > words[i]:
                order[at] = order[at - 1]
                at -= 1
            order[at] = i
            count += 1
    return np.int64(words[order[left - 1]]), np.int64(order[left - 1])


# j runs over places of the tensor, far apart: each takes a counter of its own, whose four words are computed for one.
@compiled
def words_at(places: np.ndarray, key: int, out: np.ndarray) -> None:
    """Set out[j] (uint32) to the random word of the tensor's element places[j]."""
    four = np.empty(4, np.uint32)
    for j in range(places.size):
        philox(four, places[j] // 4, key)
        out[j] = four[places[j] % 4]

"""Dropping by rank on the CPU, compiled by numba: keys of 16 bits are counted, keys of 32 bits sorted."""

from __future__ import annotations

import numpy as np
from numba import njit, uint32, uint64

from della_bench.merge.kernels.cpu_loops import compiled, kept

__all__ = ["count_keys", "layer_keep16", "layer_keep32", "rank_rows16", "rank_rows32", "take_counts"]


# i runs over keys four at a time, each into a table of its own: a processor that has seen a counter read right after
# it was written expects it again and waits for every write; with four tables it waits for every fourth.
@compiled
def count_keys(keys: np.ndarray, bins: np.ndarray) -> None:
    """Count 16-bit keys, each fourth one in another row of bins, int32 (4, 32768)."""
    one, two, three, four = bins[0], bins[1], bins[2], bins[3]
    whole = keys.size // 4 * 4
    for i in range(0, whole, 4):
        one[keys[i]] += 1
        two[keys[i + 1]] += 1
        three[keys[i + 2]] += 1
        four[keys[i + 3]] += 1
    for i in range(whole, keys.size):
        one[keys[i]] += 1


# i runs over the keys: the four tables of `count_keys` become one, and zeros again.
@compiled
def take_counts(bins: np.ndarray, out: np.ndarray) -> None:
    """Add what `count_keys` counted to `out`, int64[32768], and begin anew."""
    one, two, three, four = bins[0], bins[1], bins[2], bins[3]
    for i in range(out.size):
        out[i] += one[i] + two[i] + three[i] + four[i]
    bins[:] = 0


# A minimum and a maximum, vectorised, to bound the scan over 32,768 keys: a row's keys lie in a few thousand of them.
# Key 0 wraps to 65,535 in `key - 1` and so does not count as the least: most deltas of a fine-tune may be zeros,
# which the scan treats apart.
@compiled
def _key_range(keys: np.ndarray) -> tuple[int, int]:
    """Return the least key but 0, less 1, and the largest; 65535 and 0 where all are 0."""
    least, most = np.uint16(65535), np.uint16(0)
    for i in range(keys.size):
        least = min(least, np.uint16(keys[i] - np.uint16(1)))
        most = max(most, keys[i])
    return np.int64(least), np.int64(most)


# What happens to an element follows from its rank: it is multiplied by a scale and kept up to a highest random word.
# Both in one 64-bit word make one look-up of two.
@njit(inline="always")
def _rule(scale: int, highest: int) -> int:
    """Return the bits of a scale (float32) and the highest word that is kept in one word."""
    return (uint64(scale) << uint64(32)) | uint64(highest)


# i runs over a row. The rules were gathered before, in a loop of their own: a gather is not vectorised, and what
# follows it would not be either if it stood in the same loop.
@compiled
def _apply_rules(d: np.ndarray, words: np.ndarray, rules: np.ndarray) -> None:
    """Keep d where its word is at most what its rule (`_rule`) says, times the rule's scale; else 0."""
    for i in range(d.size):
        scale = np.uint32(rules[i] >> uint64(32)).view(np.float32)
        d[i] = kept(d[i] * scale, words[i] <= uint32(rules[i]))


# The tables of counts are read as pairs (one 64-bit word holds two int32 counts), so that the scan skips two absent
# keys with one test; here are the two keys of one pair that occurs. With `below` keys under it, a key that occurs
# `count` times has the doubled mean rank 2 * below + count - 1.
@njit(inline="always")
def _rank_pair(
    pair: int,
    below: int,
    bins: np.ndarray,
    pairs: np.ndarray,
    highest: np.ndarray,
    factors: np.ndarray,
    key_rules: np.ndarray,
) -> int:
    """Note what the ranks of two neighbouring keys mean, and set their counts to 0; returns how many are up to them."""
    for key in (2 * pair, 2 * pair + 1):
        count = bins[0, key] + bins[1, key] + bins[2, key] + bins[3, key]
        if count:
            rank = 2 * below + count - 1
            key_rules[key] = _rule(factors[rank], highest[rank])
            below += count
    for table in range(4):
        pairs[table, pair] = 0
    return below


# start is a row's first element in the block, j runs over a row, `pair` over pairs of neighbouring keys. A counting
# pass finds how often each key occurs; a scan over the keys that may occur turns counts into doubled ranks and notes
# the rule of each key; a gather by key and a vectorised pass apply the rules. That is linear in n, with small tables
# that stay in the cache, where a sort moves every element several times. The scan leaves the counts zero for the next
# row.
@compiled
def rank_rows16(
    d: np.ndarray,
    keys: np.ndarray,
    words: np.ndarray,
    n: int,
    highest: np.ndarray,
    scales: np.ndarray,
    bins: np.ndarray,
    key_rules: np.ndarray,
    rules: np.ndarray,
) -> None:
    """Drop by the rank of 16-bit keys in rows of n.

    highest, scales: of each doubled rank, the highest word that is kept, and what a kept value is multiplied by. bins:
    int32 (4, 32768), zeros, and zeros again afterwards. key_rules: uint64[32768], and rules: uint64 of the size of d,
    of any content.
    """
    pairs = bins.view(np.int64)
    factors = scales.view(np.uint32)
    for start in range(0, d.size, n):
        row, row_keys, row_words = d[start : start + n], keys[start : start + n], words[start : start + n]
        count_keys(row_keys, bins)
        least, most = _key_range(row_keys)
        below = _rank_pair(0, 0, bins, pairs, highest, factors, key_rules)
        for pair in range(max(1, (least + 1) // 2), most // 2 + 1):
            if pairs[0, pair] | pairs[1, pair] | pairs[2, pair] | pairs[3, pair]:  # most values do not occur
                below = _rank_pair(pair, below, bins, pairs, highest, factors, key_rules)
        row_rules = rules[start : start + n]
        for j in range(n):
            row_rules[j] = key_rules[row_keys[j]]
        _apply_rules(row, row_words, row_rules)


# A stable counting sort of indices by 11 bits at a time, the lowest first: three passes for 31 bits, with tables of
# 2,048 that stay in the first-level cache. After each pass, order[p] is the index of the p-th key by the bits so far.
@compiled
def _radix_order(keys: np.ndarray, order: np.ndarray, spare: np.ndarray, counts: np.ndarray) -> None:
    """Set `order` (int32) to the indices that sort `keys` (31-bit uint32), by three digits of 11 bits."""
    for i in range(keys.size):
        order[i] = i
    for digit in range(3):
        shift = uint32(11 * digit)
        counts[:] = 0
        for i in range(keys.size):
            counts[(keys[i] >> shift) & uint32(2047)] += 1
        position = 0
        for value in range(2048):
            count = counts[value]
            counts[value] = position
            position += count
        for i in range(keys.size):
            index = order[i]
            value = (keys[index] >> shift) & uint32(2047)
            spare[counts[value]] = index
            counts[value] += 1
        order[:] = spare


# start is a row's first element in the block. In the sorted order, a run of equal keys goes from place `first` up to
# `after`: its doubled mean rank is first + after - 1, and each index of the run is looked at once.
@compiled
def rank_rows32(
    d: np.ndarray, keys: np.ndarray, words: np.ndarray, n: int, highest: np.ndarray, scales: np.ndarray
) -> None:
    """Drop by the rank of 32-bit keys in rows of n; as `rank_rows16`, with a radix sort in the place of counting."""
    order, spare = np.empty(n, np.int32), np.empty(n, np.int32)
    counts = np.empty(2048, np.int64)
    for start in range(0, d.size, n):
        row = keys[start : start + n]
        _radix_order(row, order, spare, counts)
        first = 0
        while first < n:
            after = first + 1
            while after < n and row[order[after]] == row[order[first]]:
                after += 1
            rank = first + after - 1
            for i in range(first, after):
                j = start + order[i]
                d[j] = kept(d[j] * scales[rank], words[j] <= highest[rank])
            first = after


# i runs over a block. Two binary searches in the tensor's sorted keys find how many are below an element's key and
# how many are at most that: their sum less 1 is the doubled mean rank. The threshold is computed for each element,
# since a table by rank would have twice the tensor's size.
@compiled
def layer_keep32(
    d: np.ndarray, keys: np.ndarray, words: np.ndarray, ordered: np.ndarray, low: int, span: int, inverse: bool
) -> None:
    """Drop by the rank of 32-bit keys in the whole tensor, whose sorted keys are `ordered`."""
    steps = 2 * (ordered.size - 1)
    for i in range(d.size):
        rank = np.searchsorted(ordered, keys[i], side="left") + np.searchsorted(ordered, keys[i], side="right") - 1
        limit = low + (span * rank // steps if steps else span // 2)
        value = d[i] * np.float32(4294967296.0 / np.float64(limit)) if inverse else d[i]
        d[i] = kept(value, np.int64(words[i]) < limit)


# i runs over a block. The whole tensor was counted before, and so the tables are by key, 2^15 long, and no rank is
# needed here.
@compiled
def layer_keep16(
    d: np.ndarray, keys: np.ndarray, words: np.ndarray, highest: np.ndarray, scales: np.ndarray, rules: np.ndarray
) -> None:
    """Drop by the rank of 16-bit keys in the whole tensor. highest, scales: by key. rules: as in `rank_rows16`."""
    factors = scales.view(np.uint32)
    for i in range(d.size):
        rules[i] = _rule(factors[keys[i]], highest[keys[i]])
    _apply_rules(d, words, rules)

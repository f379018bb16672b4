"""Dropping by rank on the CPU, compiled by numba: keys of 16 bits are counted, keys of 32 bits sorted."""

from __future__ import annotations

import numpy as np
from numba import njit, uint32, uint64

from della_bench.merge.kernels.cpu_loops import compiled, kept

__all__ = ["count_keys", "layer_keep16", "layer_keep32", "rank_rows16", "rank_rows32", "take_counts"]


@compiled
def count_keys(keys: np.ndarray, bins: np.ndarray) -> None:
    """Count 16-bit keys, each fourth one in another row of bins, int32 (4, 32768).

    A processor that has seen a counter read right after it was written expects it again and waits for every write; four
    instructions with tables of their own wait for every fourth.
    """
    one, two, three, four = bins[0], bins[1], bins[2], bins[3]
    whole = keys.size // 4 * 4
    for i in range(0, whole, 4):
        one[keys[i]] += 1
        two[keys[i + 1]] += 1
        three[keys[i + 2]] += 1
        four[keys[i + 3]] += 1
    for i in range(whole, keys.size):
        one[keys[i]] += 1


@compiled
def take_counts(bins: np.ndarray, out: np.ndarray) -> None:
    """Add what `count_keys` counted to `out`, int64[32768], and begin anew."""
    one, two, three, four = bins[0], bins[1], bins[2], bins[3]
    for i in range(out.size):
        out[i] += one[i] + two[i] + three[i] + four[i]
    bins[:] = 0


@compiled
def _key_range(keys: np.ndarray) -> tuple[int, int]:
    """Return the least key but 0, less 1, and the largest; 65535 and 0 where all are 0."""
    least, most = np.uint16(65535), np.uint16(0)
    for i in range(keys.size):
        least = min(least, np.uint16(keys[i] - np.uint16(1)))
        most = max(most, keys[i])
    return np.int64(least), np.int64(most)


@njit(inline="always")
def _pair(scale: int, last: int) -> int:
    """Return the bits of a scale (float32) and a threshold less 1 in one word."""
    return (uint64(scale) << uint64(32)) | uint64(last)


@compiled
def _keep_found(d: np.ndarray, words: np.ndarray, found: np.ndarray) -> None:
    """Keep d where its word is at most what was found for it, times the scale that was found; else 0.

    Apart from the look-ups this is vectorised; beside them it would jump over what is dropped.
    """
    for i in range(d.size):
        scale = np.uint32(found[i] >> uint64(32)).view(np.float32)
        d[i] = kept(d[i] * scale, words[i] <= uint32(found[i]))


@njit(inline="always")
def _take_ranks(
    pair: int,
    below: int,
    bins: np.ndarray,
    pairs: np.ndarray,
    lasts: np.ndarray,
    factors: np.ndarray,
    meaning: np.ndarray,
) -> int:
    """Note what the ranks of two neighbouring keys mean, and set their counts to 0; returns how many are up to them."""
    for key in (2 * pair, 2 * pair + 1):
        count = bins[0, key] + bins[1, key] + bins[2, key] + bins[3, key]
        if count:
            rank = 2 * below + count - 1
            meaning[key] = _pair(factors[rank], lasts[rank])
            below += count
    for table in range(4):
        pairs[table, pair] = 0
    return below


@compiled
def rank_rows16(
    d: np.ndarray,
    keys: np.ndarray,
    words: np.ndarray,
    n: int,
    lasts: np.ndarray,
    scales: np.ndarray,
    bins: np.ndarray,
    meaning: np.ndarray,
    found: np.ndarray,
) -> None:
    """Drop by the rank of 16-bit keys in rows of n. lasts, scales: by doubled rank.

    A counting pass finds how many keys of each value a row has; a scan over the values that may occur turns counts into
    doubled ranks and looks up what they mean; a gather by key applies that. bins: int32 (4, 32768), zeros, and zeros
    again afterwards. meaning: uint64[32768], and found: uint64 of the size of d, of any content.
    """
    pairs = bins.view(np.int64)
    factors = scales.view(np.uint32)
    for start in range(0, d.size, n):
        row, row_keys, row_words = d[start : start + n], keys[start : start + n], words[start : start + n]
        count_keys(row_keys, bins)
        least, most = _key_range(row_keys)
        below = _take_ranks(0, 0, bins, pairs, lasts, factors, meaning)
        for pair in range(max(1, (least + 1) // 2), most // 2 + 1):
            if pairs[0, pair] | pairs[1, pair] | pairs[2, pair] | pairs[3, pair]:  # most values do not occur
                below = _take_ranks(pair, below, bins, pairs, lasts, factors, meaning)
        row_found = found[start : start + n]
        for j in range(n):
            row_found[j] = meaning[row_keys[j]]
        _keep_found(row, row_words, row_found)


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


@compiled
def rank_rows32(
    d: np.ndarray, keys: np.ndarray, words: np.ndarray, n: int, lasts: np.ndarray, scales: np.ndarray
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
                d[j] = kept(d[j] * scales[rank], words[j] <= lasts[rank])
            first = after


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


@compiled
def layer_keep16(
    d: np.ndarray, keys: np.ndarray, words: np.ndarray, lasts: np.ndarray, scales: np.ndarray, found: np.ndarray
) -> None:
    """Drop by the rank of 16-bit keys in the whole tensor. lasts, scales: by key. found: as in `rank_rows16`."""
    factors = scales.view(np.uint32)
    for i in range(d.size):
        found[i] = _pair(factors[keys[i]], lasts[keys[i]])
    _keep_found(d, words, found)

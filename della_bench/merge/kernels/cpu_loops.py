"""The inner loops on the CPU, compiled by numba: plain loops over flat blocks, without Python objects.

They release the interpreter lock, so that blocks run in threads. No fast-math and no contraction: every product and
every sum is rounded once, as in the torch reference. Magnitudes are compared as integers ("keys"), which order as the
non-negative floats do whose bits they are.

Whether an element is kept is a coin's toss, which no branch predictor guesses: dropped values are masked, not
jumped over.
"""

from __future__ import annotations

import numpy as np
from numba import njit, uint32, uint64

__all__ = [
    "OPTIONS", "count_keys", "finite", "histogram", "keep_above", "layer_keep32", "magnitude_sums", "norank_rows",
    "philox", "random_keep", "rank_rows16", "rank_rows32", "row_cut", "scale_kept", "table_keep", "take_counts",
]  # fmt: skip

OPTIONS = {"nogil": True, "cache": True, "error_model": "numpy", "boundscheck": False}
_M0, _M1 = uint64(0xD2511F53), uint64(0xCD9E8D57)
_W0, _W1 = uint32(0x9E3779B9), uint32(0xBB67AE85)


@njit(**OPTIONS)
def philox(words: np.ndarray, first: int, key: int) -> None:
    """Fill `words` (uint32, a multiple of 4) from counter `first` on; see della_bench.merge.bits."""
    for i in range(words.size // 4):
        counter = uint64(first + i)
        c0, c1 = uint32(counter), uint32(counter >> uint64(32))
        c2, c3 = uint32(0), uint32(0)
        k0, k1 = uint32(key), uint32(uint64(key) >> uint64(32))
        for _ in range(10):
            p0, p1 = uint64(c0) * _M0, uint64(c2) * _M1
            c0, c1, c2, c3 = (
                uint32(p1 >> uint64(32)) ^ c1 ^ k0,
                uint32(p1),
                uint32(p0 >> uint64(32)) ^ c3 ^ k1,
                uint32(p0),
            )
            k0, k1 = uint32(k0 + _W0), uint32(k1 + _W1)
        words[4 * i] = c0
        words[4 * i + 1] = c1
        words[4 * i + 2] = c2
        words[4 * i + 3] = c3


@njit(inline="always")
def _kept(value: float, keep: bool) -> float:
    """Return the float32 `value` where `keep`, else +0, by masking its bits."""
    return np.uint32(np.float32(value).view(np.uint32) & (uint32(0) - uint32(keep))).view(np.float32)


@njit(**OPTIONS)
def random_keep(d: np.ndarray, words: np.ndarray, last: int, scale: float) -> None:
    """Keep d where its word is at most `last` (the threshold less 1), times `scale`; else 0."""
    limit, factor = uint32(last), np.float32(scale)
    for i in range(d.size):
        d[i] = _kept(d[i] * factor, words[i] <= limit)


@njit(**OPTIONS)
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


@njit(**OPTIONS)
def take_counts(bins: np.ndarray, out: np.ndarray) -> None:
    """Move what `count_keys` counted to `out`, int32[32768]."""
    one, two, three, four = bins[0], bins[1], bins[2], bins[3]
    for i in range(out.size):
        out[i] = one[i] + two[i] + three[i] + four[i]
    bins[:] = 0


@njit(**OPTIONS)
def _key_range(keys: np.ndarray) -> tuple[int, int]:
    """Return the least key but 0, less 1, and the largest; 65535 and 0 where all are 0."""
    least, most = np.uint16(65535), np.uint16(0)
    for i in range(keys.size):
        least = min(least, np.uint16(keys[i] - np.uint16(1)))
        most = max(most, keys[i])
    return np.int64(least), np.int64(most)


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
            meaning[key] = (uint64(factors[rank]) << uint64(32)) | uint64(lasts[rank])
            below += count
    for table in range(4):
        pairs[table, pair] = 0
    return below


@njit(**OPTIONS)
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
        for j in range(n):  # apart from the look-ups, it is vectorised; beside them, it jumps over what is dropped
            scale = np.uint32(row_found[j] >> uint64(32)).view(np.float32)
            row[j] = _kept(row[j] * scale, row_words[j] <= uint32(row_found[j]))


@njit(**OPTIONS)
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


@njit(**OPTIONS)
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
                d[j] = _kept(d[j] * scales[rank], words[j] <= lasts[rank])
            first = after


@njit(**OPTIONS)
def layer_keep32(
    d: np.ndarray, keys: np.ndarray, words: np.ndarray, ordered: np.ndarray, low: int, span: int, inverse: bool
) -> None:
    """Drop by the rank of 32-bit keys in the whole tensor, whose sorted keys are `ordered`."""
    steps = 2 * (ordered.size - 1)
    for i in range(d.size):
        rank = np.searchsorted(ordered, keys[i], side="left") + np.searchsorted(ordered, keys[i], side="right") - 1
        limit = low + (span * rank // steps if steps else span // 2)
        value = d[i] * np.float32(4294967296.0 / np.float64(limit)) if inverse else d[i]
        d[i] = _kept(value, np.int64(words[i]) < limit)


@njit(**OPTIONS)
def norank_rows(
    d: np.ndarray, magnitudes: np.ndarray, words: np.ndarray, n: int, low: int, span: int, inverse: bool
) -> None:
    """Drop by the min-max-normalised magnitude (float32) in rows of n; see drop.magnitude_thresholds."""
    for start in range(0, d.size, n):
        least, most = magnitudes[start], magnitudes[start]
        for j in range(start, start + n):
            least, most = min(least, magnitudes[j]), max(most, magnitudes[j])
        base, width = np.float64(least), np.float64(most) - np.float64(least)
        for j in range(start, start + n):
            share = 0.5
            if most > least:
                share = 1.0 if np.isinf(magnitudes[j]) else (np.float64(magnitudes[j]) - base) / width
            limit = low + np.int64(np.floor(span * share))
            value = d[j] * np.float32(4294967296.0 / np.float64(limit)) if inverse else d[j]
            d[j] = _kept(value, np.int64(words[j]) < limit)


@njit(**OPTIONS)
def histogram(keys: np.ndarray, shift: int, prefix: int, bins: np.ndarray) -> None:
    """Count keys by `(key >> shift) mod bins.size`, those whose bits above are `prefix` (any, if negative)."""
    mask = bins.size - 1
    width = 0
    while (1 << width) < bins.size:
        width += 1
    for i in range(keys.size):
        key = np.int64(keys[i])
        if prefix < 0 or (key >> (shift + width)) == prefix:
            bins[(key >> shift) & mask] += 1


@njit(**OPTIONS)
def keep_above(d: np.ndarray, cut: int, above: int, room: int, scale: float) -> int:
    """Keep d where its magnitude's bits are `above` or more, and the first `room` from `cut` on; else 0.

    What is kept is multiplied by `scale`. Returns how many between `cut` and `above` were kept.
    """
    bits, factor = d.view(np.uint32), np.float32(scale)
    low, high = uint32(cut), uint32(above)
    between = 0
    # Most blocks keep all in between or none, which needs no running count.
    if room <= 0 or room >= d.size:
        if room > 0:
            for i in range(d.size):
                magnitude = bits[i] & uint32(0x7FFFFFFF)
                between += (magnitude >= low) & (magnitude < high)
        least = low if room > 0 else high
        for i in range(d.size):
            d[i] = _kept(d[i] * factor, (bits[i] & uint32(0x7FFFFFFF)) >= least)
        return between
    for i in range(d.size):
        magnitude = bits[i] & uint32(0x7FFFFFFF)
        first = (magnitude >= low) & (magnitude < high) & (between < room)
        between += first
        d[i] = _kept(d[i] * factor, first | (magnitude >= high))
    return between


@njit(**OPTIONS)
def row_cut(keys: np.ndarray, count: int, bins: np.ndarray) -> tuple[int, int]:
    """Return the key at the cut that leaves the `count` largest, and how many of those equal to it are left.

    bins: int64[65536], of any content.
    """
    left, cut, prefix = count, 0, -1
    shift = 16 if keys.itemsize == 4 else 0
    while True:
        bins[:] = 0
        histogram(keys, shift, prefix, bins)
        b = 65535
        while bins[b] < left:
            left -= bins[b]
            b -= 1
        cut = (cut << 16) | b
        if shift == 0:
            return cut, left
        prefix, shift = cut, 0


@njit(**OPTIONS)
def table_keep(d: np.ndarray, index: np.ndarray, words: np.ndarray, lasts: np.ndarray, scales: np.ndarray) -> None:
    """Keep d where its word is at most lasts[index], times scales[index]; else 0."""
    for i in range(d.size):
        d[i] = _kept(d[i] * scales[index[i]], words[i] <= lasts[index[i]])


@njit(**OPTIONS)
def scale_kept(d: np.ndarray, factor: float) -> None:
    """Multiply by a float32 factor, in place; zeros stay positive zeros."""
    f = np.float32(factor)
    for i in range(d.size):
        d[i] = d[i] * f if d[i] != np.float32(0) else np.float32(0)


@njit(**OPTIONS)
def magnitude_sums(bits: np.ndarray, sums: np.ndarray) -> None:
    """Add the mantissas of float32 bits to sums[exponent] (int64[256]): an exact L1 norm, in any order.

    A value is its mantissa (24 bits, or 23 where the exponent is 0) times 2^(max(exponent, 1) - 150).
    """
    for i in range(bits.size):
        exponent = (bits[i] >> uint32(23)) & uint32(255)
        mantissa = np.int64(bits[i] & uint32(0x7FFFFF))
        sums[exponent] += mantissa + (np.int64(0x800000) if exponent else np.int64(0))


@njit(**OPTIONS)
def finite(bits: np.ndarray, exponent: int) -> bool:
    """Whether no float, given by its bits, has an exponent of all ones; `exponent` is the mask of those bits."""
    found = 0
    for i in range(bits.size):
        found += (bits[i] & exponent) == exponent
    return found == 0

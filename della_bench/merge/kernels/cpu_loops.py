"""The inner loops on the CPU, compiled by numba: plain loops over flat blocks, without Python objects.

They release the interpreter lock, so that blocks run in threads. Every product and every sum is rounded once, as in the
torch reference. Magnitudes are compared as integers ("keys"), which order as the
non-negative floats do whose bits they are.

Whether an element is kept is a coin's toss, which no branch predictor guesses: dropped values are masked, not
jumped over.
"""

from __future__ import annotations

import numpy as np
from numba import njit, uint32, uint64

from della_bench.compiled import compiler

__all__ = ["compiled", "finite", "kept", "magnitude_sums", "norank_rows", "philox", "random_keep", "scale_kept"]

compiled = compiler(__file__, "cpu_*.py")
_M0, _M1 = uint64(0xD2511F53), uint64(0xCD9E8D57)
_W0, _W1 = uint32(0x9E3779B9), uint32(0xBB67AE85)


# i runs over counters: counter first + i makes the words 4i to 4i + 3, so that any stretch of a tensor has its words
# without those before it. Products of two 32-bit words are computed in 64 bits, whose halves are the round's two
# results. The compiler makes a vector of several counters of this loop, as none depends on another.
@compiled
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


# A kept element is a coin's toss, which no branch predictor guesses: 0 - 1 is a mask of all ones, 0 - 0 of none.
@njit(inline="always")
def kept(value: float, keep: bool) -> float:
    """Return the float32 `value` where `keep`, else +0, by masking its bits."""
    return np.uint32(np.float32(value).view(np.uint32) & (uint32(0) - uint32(keep))).view(np.float32)


# i runs over a block's elements and their words. A comparison with a limit that holds for all of them: "at most the
# threshold less 1" in 32 bits says what "below the threshold" says in 33.
@compiled
def random_keep(d: np.ndarray, words: np.ndarray, highest: int, scale: float) -> None:
    """Keep d where its word is at most `highest` (the threshold less 1), times `scale`; else 0."""
    limit, factor = uint32(highest), np.float32(scale)
    for i in range(d.size):
        d[i] = kept(d[i] * factor, words[i] <= limit)


# start is a row's first element in the block, j runs over the row: once for the smallest and the largest magnitude,
# once to keep or drop. Thresholds are computed in float64 in the order of the reference, `low` and `span` being the
# lowest one and how much the highest lies above it.
@compiled
def norank_rows(
    d: np.ndarray, magnitudes: np.ndarray, words: np.ndarray, n: int, low: int, span: int, inverse: bool
) -> None:
    """Drop by the min-max-normalised magnitude (float32) in rows of n; see drop.magnitude_thresholds."""
    for start in range(0, d.size, n):
        row, row_magnitudes, row_words = d[start : start + n], magnitudes[start : start + n], words[start : start + n]
        least, most = row_magnitudes[0], row_magnitudes[0]
        for j in range(n):
            least, most = min(least, row_magnitudes[j]), max(most, row_magnitudes[j])
        base, width = np.float64(least), np.float64(most) - np.float64(least)
        for j in range(n):
            fraction = 0.5
            if most > least:
                fraction = 1.0 if np.isinf(row_magnitudes[j]) else (np.float64(row_magnitudes[j]) - base) / width
            limit = low + np.int64(np.floor(span * fraction))
            value = row[j] * np.float32(4294967296.0 / np.float64(limit)) if inverse else row[j]
            row[j] = kept(value, np.int64(row_words[j]) < limit)


# The factor of the L1 norm. What is zero is set to +0 rather than multiplied, since a factor may be infinite.
@compiled
def scale_kept(d: np.ndarray, factor: float) -> None:
    """Multiply by a float32 factor, in place; zeros stay positive zeros."""
    f = np.float32(factor)
    for i in range(d.size):
        d[i] = d[i] * f if d[i] != np.float32(0) else np.float32(0)


# i runs over a block. Float sums depend on their order, sums of integers do not: each value adds its mantissa to the
# total of its exponent, and the totals are put together exactly, in Python. A total of 2^31 mantissas of 24 bits
# fits.
@compiled
def magnitude_sums(bits: np.ndarray, sums: np.ndarray) -> None:
    """Add the mantissas of float32 bits to sums[exponent] (int64[256]): an exact L1 norm, in any order.

    A value is its mantissa (24 bits, or 23 where the exponent is 0) times 2^(max(exponent, 1) - 150).
    """
    for i in range(bits.size):
        exponent = (bits[i] >> uint32(23)) & uint32(255)
        mantissa = np.int64(bits[i] & uint32(0x7FFFFF))
        sums[exponent] += mantissa + (np.int64(0x800000) if exponent else np.int64(0))


# A maximum over the exponents' bits, without a jump out of the loop, so that the loop is vectorised: looking at all
# of a block costs less than looking for the first.
@compiled
def finite(bits: np.ndarray, exponent: int) -> bool:
    """Whether no float, given by its bits, has an exponent of all ones; `exponent` is the mask of those bits."""
    most = bits.dtype.type(0)  # as wide as the bits, of which most go into a vector then
    for i in range(bits.size):
        most = max(most, bits.dtype.type(bits[i] & exponent))
    return most != exponent

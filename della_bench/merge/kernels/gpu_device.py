"""What the Triton kernels share: reading, writing and rounding elements, keys, random words, ranks.

A program works on one tile of one row: `block` elements, a power of two, masked at the row's end. Magnitudes are
compared as integers ("keys"), which order as the non-negative floats do whose bits they are: of 15 bits with a 16-bit
base, else of 31.
"""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = [
    "BINS", "EACH", "HEAD", "INTERPRETED", "IN_INTERPRETER", "TRITON", "divide", "doubled_rank", "expert_at", "key_of",
    "least_bits", "load", "magnitude_bits", "magnitude_of", "note_faults", "part_at", "poisoned", "random_key_at",
    "store", "tile_of", "word_at", "words_of",
]  # fmt: skip

BINS = tl.constexpr(32_768)  # keys of 15 bits
TRITON = tuple(int(part) for part in triton.__version__.split(".")[:2])
_DIVIDES = tl.constexpr(TRITON >= (3, 6))
HEAD, EACH = tl.constexpr(8), tl.constexpr(8)  # columns of a launch's table, see gpu_kernels


# `index` is of the flattened tensor; where not `inside`, a tile hangs over its row's end, and zeros are read.
@triton.jit
def load(pointer, index, inside):
    """Return elements as float32. The bits of bfloat16 are widened by hand: that is exact for denormals everywhere."""
    value = tl.load(pointer + index, mask=inside, other=0.0)
    if pointer.dtype.element_ty == tl.bfloat16:
        wide = (value.to(tl.uint16, bitcast=True).to(tl.uint32) << 16).to(tl.float32, bitcast=True)
    else:
        wide = value.to(tl.float32)
    return wide


INTERPRETED = not isinstance(load, triton.JITFunction)  # on the CPU, by Triton's interpreter
IN_INTERPRETER = tl.constexpr(INTERPRETED)


# Adding 0x7FFF, or 0x8000 where the last bit that stays is 1, carries into the upper half exactly where rounding half
# to even rounds up.
@triton.jit
def _to_bfloat16_bits(bits):
    """Round the bits of a float32 that is no NaN to those of a bfloat16, half to even."""
    return (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16


# A GPU rounds half to even, two elements in one instruction; the interpreter does not.
@triton.jit
def store(pointer, index, value, inside):
    """Round float32 elements to the pointer's dtype and write them."""
    rounded = value
    if IN_INTERPRETER and pointer.dtype.element_ty == tl.bfloat16:
        bits = value.to(tl.uint32, bitcast=True)
        is_nan = (bits & 0x7FFFFFFF) > 0x7F800000
        rounded = tl.where(is_nan, 0x7FC0, _to_bfloat16_bits(bits)).to(tl.uint16).to(tl.bfloat16, bitcast=True)
    tl.store(pointer + index, rounded.to(pointer.dtype.element_ty), mask=inside)


@triton.jit
def magnitude_bits(value):
    """Return the bits of a float32 without its sign, int32; those of infinity and NaN are 0x7F800000 and more."""
    return value.to(tl.int32, bitcast=True) & 0x7FFFFFFF


# Zero times a finite number is 0, and NaN times anything else: one operation an element tells whether all were finite.
@triton.jit
def poisoned(value, poison):
    """Return `poison`, a zero or NaN, and NaN where a value is infinite or NaN."""
    return tl.fma(value, 0.0, poison)


# What a thread has of a tile, eight elements of 16 bits, it puts together by itself. The few that have something to
# tell do so, and the others need not wait to hear that nobody has. The smallest magnitude that rounds to infinity lies
# half a step above the dtype's largest number, since that is even.
@triton.jit
def note_faults(found, poison, out, merged, block: tl.constexpr):
    """Set `found` to 1 where elements of a tile are poisoned, or infinite or NaN once they are rounded as `out` is."""
    least = 0x7F800000
    if out.dtype.element_ty == tl.bfloat16:
        least = 0x7F7F8000
    elif out.dtype.element_ty == tl.float16:
        least = 0x477FF000
    worst = tl.maximum(magnitude_bits(merged), magnitude_bits(poison))
    eighths = tl.max(worst.reshape(block // 8, 8), 1)
    tl.atomic_or(found + 0 * eighths, 1, mask=eighths >= least, sem="relaxed")


# A launch's table is described in gpu_kernels. `base` and `out` are there for their dtypes.
@triton.jit
def part_at(table, part, base, out, count: tl.constexpr, even: tl.constexpr):
    """Return a tensor's row of the table, how long its rows are, and where its base and its result lie."""
    table += part.to(tl.int64) * (HEAD + EACH * count)
    n = tl.load(table).to(tl.int32)
    base = tl.load(table + 4).to(base.dtype)
    out = tl.load(table + 5).to(out.dtype)
    if even:
        n, base, out = tl.multiple_of(n, 16), tl.multiple_of(base, 16), tl.multiple_of(out, 16)
    return table, n, base, out


@triton.jit
def expert_at(table, k: tl.constexpr, expert, even: tl.constexpr):
    """Return where an expert lies, by its tensor's row of the table."""
    pointer = tl.load(table + HEAD + EACH * k).to(expert.dtype)
    if even:
        pointer = tl.multiple_of(pointer, 16)
    return pointer


@triton.jit
def random_key_at(table, k: tl.constexpr):
    """Return an expert's Philox key, by its tensor's row of the table."""
    return tl.load(table + HEAD + EACH * k + 4)


# Before Triton 3.6, div_rn flushes denormals. The 53 bits of float64 make a second rounding harmless, but its division
# takes a third of a merge's instructions.
@triton.jit
def divide(dividend, divisor):
    """Return the quotients of float32, rounded once."""
    if _DIVIDES:
        quotient = tl.div_rn(dividend, divisor)
    else:
        quotient = (dividend.to(tl.float64) / divisor.to(tl.float64)).to(tl.float32)
    return quotient


# Without its sign, a float's bits order as the float does, and comparisons of integers do not flush denormals. `base`
# is there for its dtype alone.
@triton.jit
def key_of(base, d):
    """Return the magnitude of a delta, rounded to the base's dtype, as an integer."""
    bits = d.to(tl.uint32, bitcast=True) & 0x7FFFFFFF
    if base.dtype.element_ty == tl.bfloat16:
        key = _to_bfloat16_bits(tl.minimum(bits, 0x7FFF0000))  # a NaN's bits must not be rounded up beyond 15
    elif base.dtype.element_ty == tl.float16:
        key = tl.abs(d).to(tl.float16).to(tl.uint16, bitcast=True).to(tl.uint32)
    else:
        key = bits
    return key.to(tl.int32)


# Half a step below a key; halfway between two keys a magnitude rounds to the even one.
@triton.jit
def least_bits(base, key):
    """Return the least `magnitude_bits` of a delta whose key is `key` or above."""
    if base.dtype.element_ty == tl.bfloat16:
        bits = tl.where(key > 0, (tl.minimum(key, 0x7FFF) << 16) - 0x8000 + (key & 1), 0)
        bits = tl.where(key > 0x7FFF, 0x7FFFFFFF, bits)
    elif base.dtype.element_ty == tl.float16:
        upper = key.to(tl.uint16).to(tl.float16, bitcast=True).to(tl.float32)
        lower = tl.maximum(key - 1, 0).to(tl.uint16).to(tl.float16, bitcast=True).to(tl.float32)
        halfway = 0.5 * (lower + tl.where(key < 0x7C00, upper, 65536.0))
        bits = tl.where(key > 0, halfway.to(tl.int32, bitcast=True) + (key & 1), 0)
        bits = tl.where(key > 0x7C00, 0x7FFFFFFF, bits)
    else:
        bits = key
    return bits


# The way back from `key_of`, to float64, in which thresholds by magnitude are computed.
@triton.jit
def magnitude_of(base, key):
    """Return the float64 that a key stands for."""
    if base.dtype.element_ty == tl.bfloat16:
        value = (key << 16).to(tl.float32, bitcast=True)
    elif base.dtype.element_ty == tl.float16:
        value = key.to(tl.uint16).to(tl.float16, bitcast=True).to(tl.float32)
    else:
        value = key.to(tl.float32, bitcast=True)
    return value.to(tl.float64)


# Programs are numbered through the tiles of the launch's rows, row after row; a tile never holds two rows.
@triton.jit
def tile_of(n, block: tl.constexpr):
    """Return this program's row among those of the launch, and the first column of its tile."""
    tiles = (n + block - 1) // block
    return tl.program_id(0) // tiles, (tl.program_id(0) % tiles) * block


# Ten rounds on a tile's counters at once. The upper three words of a counter are 0, since a tensor has fewer than
# 2^34 elements; `c0 ^ c0` is a zero of the right shape and type.
@triton.jit
def _philox(key, counter):
    """Return the four words of 32-bit counters; see della_bench.merge.bits."""
    c0 = counter.to(tl.uint32)
    c1, c2, c3 = c0 ^ c0, c0 ^ c0, c0 ^ c0
    k0, k1 = key.to(tl.uint32), (key >> 32).to(tl.uint32)
    for _ in tl.static_range(10):
        product0, product1 = c0.to(tl.uint64) * 0xD2511F53, c2.to(tl.uint64) * 0xCD9E8D57
        high0, high1 = (product0 >> 32).to(tl.uint32), (product1 >> 32).to(tl.uint32)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, product1.to(tl.uint32), high0 ^ c3 ^ k1, product0.to(tl.uint32)
        k0, k1 = k0 + 0x9E3779B9, k1 + 0xBB67AE85
    return c0, c1, c2, c3


# A counter makes four words, of the elements 4c to 4c + 3, which an aligned tile computes once. A thread loads 16 bytes
# at a time: four elements of float32, or eight of 16 bits, whose two counters it then takes itself, so that no word has
# to be handed from thread to thread. A join puts its two arguments side by side in a new last dimension.
@triton.jit
def words_of(base, key, start, aligned: tl.constexpr, block: tl.constexpr):
    """Return the random words of the elements from `start` on. aligned: start is a multiple of 4."""
    if not aligned:
        words = word_at(key, start + tl.arange(0, block))
    elif base.dtype.element_ty == tl.float32:
        c0, c1, c2, c3 = _philox(key, start // 4 + tl.arange(0, block // 4))
        words = tl.join(tl.join(c0, c2), tl.join(c1, c3)).reshape(block)
    else:
        first = start // 4 + 2 * tl.arange(0, block // 8)
        a0, a1, a2, a3 = _philox(key, first)
        b0, b1, b2, b3 = _philox(key, first + 1)
        even = tl.join(tl.join(a0, b0), tl.join(a2, b2))
        odd = tl.join(tl.join(a1, b1), tl.join(a3, b3))
        words = tl.join(even, odd).reshape(block)
    return words


@triton.jit
def word_at(key, index):
    """Return the random words of elements anywhere: a counter for each, of whose four words one is its own."""
    c0, c1, c2, c3 = _philox(key, index // 4)
    lane = index % 4
    return tl.where(lane < 2, tl.where(lane == 0, c0, c1), tl.where(lane == 2, c2, c3))


# Two binary searches side by side, without a branch: below and up_to grow by halving steps as long as the key at the
# place before the step's end is smaller (or at most as large). `depth` is the number of steps, known to the compiler.
@triton.jit
def doubled_rank(ordered, n, key, inside, depth: tl.constexpr):
    """Return twice the mean rank of keys in a sorted row of n < 2^depth: those below, and those not above, less 1."""
    below, up_to = key * 0, key * 0
    for bit in range(depth):
        step = 1 << (depth - 1 - bit)
        fits = inside & (below + step <= n)
        there = tl.load(ordered + below + step - 1, mask=fits, other=0)
        below = tl.where(fits & (there < key), below + step, below)
        fits = inside & (up_to + step <= n)
        there = tl.load(ordered + up_to + step - 1, mask=fits, other=0)
        up_to = tl.where(fits & (there <= key), up_to + step, up_to)
    return below + up_to - 1

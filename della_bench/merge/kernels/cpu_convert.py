"""Between the stored dtypes and float32 on the CPU, compiled by numba; all by bits, rounded half to even.

A stretch of a tensor is given by its address and its dtype's code, so that one compiled loop serves any number of
experts of any dtype.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import carray, njit, types, uint16, uint32
from numba.core import cgutils
from numba.extending import intrinsic

from della_bench.merge.kernels import cpu_loops
from della_bench.merge.kernels.cpu_loops import compiled

__all__ = [
    "BF16",
    "F16",
    "F32",
    "bf16_delta_counts",
    "bf16_delta_keys",
    "delta",
    "finite",
    "keys",
    "least_magnitude",
    "magnitudes",
    "store",
    "widen",
]

F32, BF16, F16 = 0, 1, 2  # codes of dtypes


@intrinsic
def _pointer(typing_context: Any, address: Any) -> Any:
    """Return an address (int64) as a pointer, for numba.carray."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], cgutils.voidptr_t)

    return types.voidptr(types.int64), generate


# bfloat16 is the upper half of a float32. Adding 0x7FFF, or 0x8000 where the last bit that stays is 1, carries into
# the upper half exactly where rounding half to even rounds up; a carry out of the mantissa raises the exponent, as it
# should, up to infinity.
@njit(inline="always")
def _bf16(bits: int) -> int:
    """Round float32 bits that are no NaN to bfloat16 bits."""
    return (bits + uint32(0x7FFF) + ((bits >> uint32(16)) & uint32(1))) >> uint32(16)


# All three cases are computed and one is chosen, without a jump, so that loops over it are vectorised. A normal
# number shifts its 10 bits of mantissa to the place of float32's 23 and its exponent's bias from 15 to 127
# (0x38000000 is their difference); a subnormal is its integer times 2^-24, which float32 holds exactly.
@njit(inline="always")
def _from_f16(bits: int) -> float:
    """Return the float32 of float16 bits."""
    half = uint32(bits)
    sign, rest = (half & uint32(0x8000)) << uint32(16), half & uint32(0x7FFF)
    normal = np.uint32(sign | ((rest << uint32(13)) + uint32(0x38000000))).view(np.float32)
    special = np.uint32(sign | (rest << uint32(13)) | uint32(0x7F800000)).view(np.float32)
    small = np.float32(rest) * np.float32(2.0**-24)
    subnormal = np.uint32(sign | np.float32(small).view(np.uint32)).view(np.float32)
    return special if rest >= uint32(0x7C00) else (normal if rest >= uint32(0x400) else subnormal)


# As in `_from_f16`, all cases are computed and one is chosen. 0xC8000FFF is the difference of the biases, negative,
# plus all but one of the bits that are rounded off: with the last bit that stays, that rounds half to even. From
# 0x47800000 (2^16) on there is only infinity; a carry out of the largest finite number gives it as well.
@njit(inline="always")
def _f16(magnitude: int) -> int:
    """Round the bits of a non-negative float32 to float16 bits; any NaN becomes the quiet one."""
    # Adding 0.5 aligns a subnormal's last bit with that of the sum, and the addition rounds.
    small = np.float32(np.uint32(magnitude).view(np.float32) + np.float32(0.5)).view(np.uint32) - uint32(0x3F000000)
    normal = (magnitude + uint32(0xC8000FFF) + ((magnitude >> uint32(13)) & uint32(1))) >> uint32(13)
    nan = magnitude > uint32(0x7F800000)
    rounded = small if magnitude < uint32(0x38800000) else normal
    return uint32(0x7E00) if nan else (uint32(0x7C00) if magnitude >= uint32(0x47800000) else rounded)


# In all loops of this file, `start` counts elements from the tensor's first, `i` those of the block from 0. The
# dtype's code is looked at once a block, outside the loop, so that the loop itself has one dtype and is vectorised.
@compiled
def finite(address: int, code: int, start: int, size: int) -> bool:
    """Whether the elements from `start` on of the tensor at `address` are finite."""
    if code == F32:
        return cpu_loops.finite(carray(_pointer(address + 4 * start), (size,), np.uint32), uint32(0x7F800000))
    stored = carray(_pointer(address + 2 * start), (size,), np.uint16)
    return cpu_loops.finite(stored, uint16(0x7F80) if code == BF16 else uint16(0x7C00))


# Each element on its own: out[i] is the tensor's element start + i. bfloat16 and float16 go by their bits, which is
# exact for subnormals, too.
@compiled
def widen(address: int, code: int, start: int, out: np.ndarray) -> None:
    """Set `out` (float32) to the elements from `start` on of the tensor at `address`."""
    if code == F32:
        out[:] = carray(_pointer(address + 4 * start), (out.size,), np.float32)
    elif code == BF16:
        stored = carray(_pointer(address + 2 * start), (out.size,), np.uint16)
        for i in range(out.size):
            out[i] = np.uint32(uint32(stored[i]) << uint32(16)).view(np.float32)
    else:
        stored = carray(_pointer(address + 2 * start), (out.size,), np.uint16)
        for i in range(out.size):
            out[i] = _from_f16(stored[i])


# `widen` and the subtraction in one loop: the expert's float32 values are never written anywhere. One rounding an
# element, that of the difference. base[i] is the base's element start + i, widened before.
@compiled
def delta(address: int, code: int, start: int, base: np.ndarray, out: np.ndarray) -> None:
    """Set out = expert - base, all float32, for the expert's elements from `start` on."""
    if code == F32:
        wide = carray(_pointer(address + 4 * start), (out.size,), np.float32)
        for i in range(out.size):
            out[i] = wide[i] - base[i]
    elif code == BF16:
        stored = carray(_pointer(address + 2 * start), (out.size,), np.uint16)
        for i in range(out.size):
            out[i] = np.uint32(uint32(stored[i]) << uint32(16)).view(np.float32) - base[i]
    else:
        stored = carray(_pointer(address + 2 * start), (out.size,), np.uint16)
        for i in range(out.size):
            out[i] = _from_f16(stored[i]) - base[i]


# The one rounding of a merge. NaN, which only an overflow brings, becomes the quiet NaN of the dtype: rounding its
# bits could carry it into a finite number.
@compiled
def store(values: np.ndarray, address: int, code: int, start: int) -> None:
    """Round float32 values to the dtype of the tensor at `address` and put them at its elements from `start` on."""
    bits = values.view(np.uint32)
    if code == F32:
        wide = carray(_pointer(address + 4 * start), (values.size,), np.float32)
        wide[:] = values
    elif code == BF16:
        target = carray(_pointer(address + 2 * start), (values.size,), np.uint16)
        for i in range(bits.size):
            nan = (bits[i] & uint32(0x7FFFFFFF)) > uint32(0x7F800000)
            target[i] = uint32(0x7FC0) if nan else _bf16(bits[i])
    else:
        target = carray(_pointer(address + 2 * start), (values.size,), np.uint16)
        for i in range(bits.size):
            target[i] = uint16(_f16(bits[i] & uint32(0x7FFFFFFF)) | ((bits[i] >> uint32(16)) & uint32(0x8000)))


# The magnitude rounded to the base's dtype, by its bits: without the sign, a float's bits order as the float does.
# For a base of float16 or bfloat16 that leaves 15 bits, few enough to count instead of sorting.
@compiled
def keys(d: np.ndarray, code: int, out: np.ndarray) -> None:
    """Set `out` (uint32 for float32, else uint16) to the rounded magnitudes, as integers that order alike."""
    bits = d.view(np.uint32)
    if code == F32:
        for i in range(bits.size):
            out[i] = bits[i] & uint32(0x7FFFFFFF)
    elif code == BF16:
        for i in range(bits.size):
            out[i] = _bf16(bits[i] & uint32(0x7FFFFFFF))
    else:
        for i in range(bits.size):
            out[i] = _f16(bits[i] & uint32(0x7FFFFFFF))


# The most frequent case in one loop, without float32 blocks in between. It checks for finite sources on the
# way, at the price of one maximum: an infinity or NaN in either source makes a delta whose key has an exponent of all
# ones, 0x7F80 or more. A finite delta that overflows does as well, and then the caller looks again.
@compiled
def bf16_delta_keys(base_address: int, address: int, start: int, out: np.ndarray) -> bool:
    """Set `out` (uint16) to the keys of the delta of two bfloat16 tensors: what `widen`, `delta` and `keys` would.

    Returns whether all keys are those of finite deltas, which only finite tensors have.
    """
    base = carray(_pointer(base_address + 2 * start), (out.size,), np.uint16)
    expert = carray(_pointer(address + 2 * start), (out.size,), np.uint16)
    most = uint16(0)
    for i in range(out.size):
        b = np.uint32(uint32(base[i]) << uint32(16)).view(np.float32)
        d = np.float32(np.uint32(uint32(expert[i]) << uint32(16)).view(np.float32) - b)
        key = uint16(_bf16(d.view(np.uint32) & uint32(0x7FFFFFFF)))
        out[i] = key
        most = max(most, key)
    return most < uint16(0x7F80)


# Where one key alone is in question, no key is computed: magnitudes are compared by their bits with where it begins
# and where it ends (`least_magnitude`), which takes less time. The largest tells, as above, whether all is finite.
@compiled
def bf16_delta_counts(
    base_address: int, address: int, start: int, size: int, least: int, above: int
) -> tuple[int, int, bool]:
    """Return how many magnitudes of the delta of two bfloat16 tensors have bits of `least` or more, of `above` or more.

    And whether all are those of finite deltas, as `bf16_delta_keys` does.
    """
    base = carray(_pointer(base_address + 2 * start), (size,), np.uint16)
    expert = carray(_pointer(address + 2 * start), (size,), np.uint16)
    low, high = uint32(least), uint32(above)
    from_least, from_above, most = uint32(0), uint32(0), uint32(0)
    for i in range(size):
        b = np.uint32(uint32(base[i]) << uint32(16)).view(np.float32)
        d = np.float32(np.uint32(uint32(expert[i]) << uint32(16)).view(np.float32) - b)
        magnitude = uint32(d.view(np.uint32) & uint32(0x7FFFFFFF))
        from_least = uint32(from_least + uint32(magnitude >= low))
        from_above = uint32(from_above + uint32(magnitude >= high))
        most = max(most, magnitude)
    return np.int64(from_least), np.int64(from_above), most < uint32(0x7F800000)


# Rounding is monotonous, so that a binary search over the 2^31 magnitudes finds where keys of `key` begin: 31 steps a
# block, after which a loop may compare magnitudes as they are, and need not round each.
@compiled
def least_magnitude(key: int, code: int) -> int:
    """Return the bits of the least float32 magnitude whose key is `key` or more; 2^31 where there is none."""
    least, most = 0, 0x80000000
    while least < most:
        middle = (least + most) // 2
        bits = uint32(middle)
        middle_key = np.int64(bits) if code == F32 else np.int64(uint16(_bf16(bits) if code == BF16 else _f16(bits)))
        if middle_key >= key:
            most = middle
        else:
            least = middle + 1
    return least


# The way back from `keys`: the float32 that each key is the bits of, in the dtype that `code` says.
@compiled
def magnitudes(keys: np.ndarray, code: int, out: np.ndarray) -> None:
    """Set `out` (float32) to the magnitudes whose keys these are."""
    for i in range(keys.size):
        if code == F32:
            out[i] = np.uint32(keys[i]).view(np.float32)
        elif code == BF16:
            out[i] = np.uint32(uint32(keys[i]) << uint32(16)).view(np.float32)
        else:
            out[i] = _from_f16(keys[i])

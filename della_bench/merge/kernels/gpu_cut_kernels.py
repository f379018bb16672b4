"""The Triton kernels that find where whole tensors are cut; see `gpu_cuts` for when each is launched.

A cut is told by magnitudes as the deltas have them, in float32: `hi`, from which on all are kept, and `lo`, from which
on up to `hi` some are. So no element has to be rounded to a key. Between the two, elements come in an order, the first
of which are kept: by key from the largest down, then by random word, then by place. Those whose word is below `first`
are kept, those up to `last` are open until their order has been counted through, and the others are dropped; of a word
the upper 31 bits decide.

Of each expert's cut `cuts` (parts, experts, CUT) int64 has hi, lo, first, last, and the largest key below hi.
"""

from __future__ import annotations

import triton
import triton.language as tl

from della_bench.merge.kernels.gpu_device import expert_at, key_of, least_bits, load, magnitude_bits, part_at

__all__ = ["CUT", "count_at_least", "guess_limits", "narrow_limits", "settle_cuts"]

CUT = tl.constexpr(5)
_SAMPLE, _RUN = tl.constexpr(16384), tl.constexpr(64)  # elements, and how many neighbours of them together


# The largest value below which there are at most `rank` keys, found bit by bit.
@triton.jit
def _ranked(key, inside, rank, bits: tl.constexpr):
    """Return the key that `rank` others come before."""
    value = 0
    for bit in range(bits):
        with_bit = value + (1 << (bits - 1 - bit))
        below = tl.sum((inside & (key < with_bit)).to(tl.int32), 0)
        value = tl.where(below <= rank, with_bit, value)
    return value


# Of four keys it is known how many are at least as large: whether the cut is one of the first and the third, whose
# successors are the second and the fourth, or lies where nothing has to be found.
@triton.jit
def _is_found(kept, n, counts):
    first = (kept > tl.load(counts + 1)) & (kept <= tl.load(counts))
    third = (kept > tl.load(counts + 3)) & (kept <= tl.load(counts + 2))
    return first | third | (kept <= 0) | (kept >= n)


# What was counted exactly is nearer to the truth than a sample: the key whose count is nearest to the cut serves.
@triton.jit
def _corrected(kept, n, size, key, inside, limits, counts):
    """Return how many elements of a sample should be kept, by the keys that were counted of the whole tensor."""
    nearest, counted = tl.load(limits), tl.load(counts)
    for j in tl.static_range(1, 4):
        other = tl.load(counts + j)
        is_nearer = tl.abs(kept - other) < tl.abs(kept - counted)
        nearest = tl.where(is_nearer, tl.load(limits + j), nearest)
        counted = tl.where(is_nearer, other, counted)
    return tl.sum((inside & (key >= nearest)).to(tl.int32), 0) + size.to(tl.int64) * (kept - counted) // n


# Few keys of 15 bits are different: a sample says which one the cut falls on, or else which of its neighbours; both are
# counted, and where it is neither, it is guessed again. Keys of 31 bits are mostly different; there a sample says
# between which two the cut lies.
@triton.jit
def guess_limits(
    table, keep, limits, counts, open_parts, base, experts,
    count: tl.constexpr, drops: tl.constexpr, wide: tl.constexpr,
):  # fmt: skip
    """Write to limits (parts, experts, 4) int32 the keys that are to be counted, by evenly spread runs of a tensor.

    Only the cuts that limits and counts do not tell are guessed; before anything was counted, limits are beyond all
    keys, and counts 0. open_parts: (parts,) int32 gets 0 where none is left. keep: (parts, experts) int32, how many
    elements are kept. wide: whether keys have 31 bits.
    """
    part = tl.program_id(0)
    table, n, base, _ = part_at(table, part, base, base, count, False)
    owner = part * count
    unknown = 0
    for k in tl.static_range(count):
        if (drops >> k) & 1:
            unknown += 1 - _is_found(tl.load(keep + owner + k), n, counts + 4 * (owner + k)).to(tl.int32)
    tl.store(open_parts + part, unknown)
    if unknown > 0:
        index = tl.arange(0, _SAMPLE)
        if n > _SAMPLE:
            index = (index // _RUN) * (n // (_SAMPLE // _RUN)) + index % _RUN
        inside = index < n
        whole = load(base, index, inside)
        for k in tl.static_range(count):
            if (drops >> k) & 1:
                key = key_of(base, load(expert_at(table, k, experts[k], False), index, inside) - whole)
                place = 4 * (owner + k)
                _guess(key, inside, n, keep + owner + k, limits + place, counts + place, wide)


@triton.jit
def _guess(key, inside, n, keep, limits, counts, wide: tl.constexpr):
    size, kept = tl.minimum(n, _SAMPLE), tl.load(keep)
    in_sample = _corrected(kept, n, size, key, inside, limits, counts)
    rank = tl.minimum(tl.maximum(size - in_sample, 0), size - 1).to(tl.int32)
    at = tl.minimum(_ranked(key, inside, rank, 31 if wide else 15), 0x7FFFFFFE)
    if wide:
        share = kept.to(tl.float32) / n
        margin = (5 * tl.sqrt(size * share * (1 - share)) + 2).to(tl.int32)
        margin = tl.where(n > _SAMPLE, margin, 0)
        first = tl.where(rank < margin, 0, _ranked(key, inside, rank - margin, 31))
        second, third = at, at + 1
        high = tl.where(rank + margin < size, _ranked(key, inside, rank + margin, 31), 0x7FFFFFFE)
        fourth = tl.minimum(high, 0x7FFFFFFE) + 1
    else:
        below = tl.sum((inside & (key < at)).to(tl.int32), 0)
        up_to = tl.sum((inside & (key <= at)).to(tl.int32), 0)
        lower = tl.max(tl.where(inside & (key < at), key, -1), 0)
        upper = tl.min(tl.where(inside & (key > at), key, 0x7FFFFFFF), 0)
        other = tl.where(rank - below < up_to - rank, lower, upper)
        other = tl.where((other < 0) | (other == 0x7FFFFFFF), at, other)
        first, third = tl.minimum(at, other), tl.maximum(at, other)
        second, fourth = first + 1, third + 1
    is_found = _is_found(kept, n, counts)
    first, second = tl.where(is_found, tl.load(limits), first), tl.where(is_found, tl.load(limits + 1), second)
    third, fourth = tl.where(is_found, tl.load(limits + 2), third), tl.where(is_found, tl.load(limits + 3), fourth)
    tl.debug_barrier()  # all threads have read what is written over
    tl.store(limits, first)
    tl.store(limits + 1, second)
    tl.store(limits + 2, third)
    tl.store(limits + 3, fourth)
    for j in tl.static_range(4):
        tl.store(counts + j, 0)


# Each lane counts in bytes, four limits in one integer.
@triton.jit
def count_at_least(
    table, part_of_span, first_spans, limits, counts, open_parts, base, experts,
    count: tl.constexpr, drops: tl.constexpr, span: tl.constexpr, even: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """Add to counts (parts, experts, 4) int32 how many elements have keys that are at least each limit.

    A program counts one span of `span` tiles of all experts, fewer than 2^15 elements and at most 255 a lane, unless
    open_parts (parts,) int32 says that nothing is to be counted. part_of_span: int32. first_spans: (parts,) int32.
    """
    part = tl.load(part_of_span + tl.program_id(0))
    if tl.load(open_parts + part) > 0:
        _count_span(
            table, part, tl.program_id(0) - tl.load(first_spans + part), limits, counts, base, experts, count, drops,
            span, even, block,
        )  # fmt: skip


@triton.jit
def _count_span(
    table, part, here, limits, counts, base, experts,
    count: tl.constexpr, drops: tl.constexpr, span: tl.constexpr, even: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    table, n, base, _ = part_at(table, part, base, base, count, even)
    first = here * (span * block)
    tiles = tl.minimum(span, (n - first + block - 1) // block)
    limits += 4 * part * count
    pointers, tallies, least = (), (), ()
    for k in tl.static_range(count):
        for j in tl.static_range(4):
            least = least + (least_bits(base, tl.load(limits + 4 * k + j)),)  # noqa: RUF005
        pointers = pointers + (expert_at(table, k, experts[k], even),)  # noqa: RUF005
        tallies = tallies + (tl.zeros((block,), tl.int32),)  # noqa: RUF005
    for tile in range(0, tiles):
        index = first + tile * block + tl.arange(0, block)
        inside = index < n
        whole = load(base, index, inside)
        following = ()
        for k in tl.static_range(count):
            tally = tallies[k]
            if (drops >> k) & 1:
                bits = magnitude_bits(load(pointers[k], index, inside) - whole)
                bits = tl.where(inside, bits, -1)
                for j in tl.static_range(4):
                    tally += tl.where(bits >= least[4 * k + j], 1 << (8 * j), 0)
            following = following + (tally,)  # noqa: RUF005
        tallies = following
    for k in tl.static_range(count):
        if (drops >> k) & 1:
            counts_here = counts + 4 * (part * count + k)
            evens, odds = tl.sum(tallies[k] & 0xFF00FF, 0), tl.sum((tallies[k] >> 8) & 0xFF00FF, 0)
            tl.atomic_add(counts_here, evens & 0xFFFF, sem="relaxed")
            tl.atomic_add(counts_here + 1, odds & 0xFFFF, sem="relaxed")
            tl.atomic_add(counts_here + 2, (evens >> 16) & 0xFFFF, sem="relaxed")
            tl.atomic_add(counts_here + 3, (odds >> 16) & 0xFFFF, sem="relaxed")


@triton.jit
def _four(numbers, owner, inside):
    """Return the four numbers of each owner, as int64."""
    at = numbers + 4 * owner
    return (
        tl.load(at, mask=inside, other=0).to(tl.int64), tl.load(at + 1, mask=inside, other=0).to(tl.int64),
        tl.load(at + 2, mask=inside, other=0).to(tl.int64), tl.load(at + 3, mask=inside, other=0).to(tl.int64),
    )  # fmt: skip


@triton.jit
def _magnitude(key):
    """Return the magnitude of a key of 31 bits, float64."""
    return tl.minimum(key, 0x7F7FFFFF).to(tl.int32).to(tl.float32, bitcast=True).to(tl.float64)


@triton.jit
def _key(magnitude):
    """Return the key of 31 bits of a magnitude, rounded; of a negative one that of zero."""
    return tl.maximum(magnitude, 0.0).to(tl.float32).to(tl.int32, bitcast=True).to(tl.int64)


# Between two limits magnitudes lie nearly evenly: that gives where the cut should be, and two limits around it, which
# are narrow enough to list what lies between.
@triton.jit
def narrow_limits(keep, limits, counts, owners, block: tl.constexpr):
    """Put the second and third limits of keys of 31 bits about the cut, unless they hold a single key with it."""
    owner = tl.program_id(0) * block + tl.arange(0, block)
    inside = owner < owners
    kept = tl.load(keep + owner, mask=inside, other=0).to(tl.int64)
    limit0, limit1, limit2, limit3 = _four(limits, owner, inside)
    count0, count1, count2, count3 = _four(counts, owner, inside)
    is_lower = kept > count1
    low, high = tl.where(is_lower, limit0, limit2), tl.where(is_lower, limit1, limit3)
    above, between = tl.where(is_lower, count1, count3), tl.where(is_lower, count0 - count1, count2 - count3)
    elements = tl.maximum(between, 1).to(tl.float64)
    lowest, highest = _magnitude(low), _magnitude(high)
    step = (highest - lowest) / elements
    middle = highest - step * (kept - above).to(tl.float64)
    margin = step * (8 * tl.sqrt(elements) + elements / 100 + 64)
    second, third = _key(middle - margin) - 1, _key(middle + margin) + 1
    is_found = (kept > count2) & (kept <= count1)
    tl.store(limits + 4 * owner + 1, tl.where(is_found, limit1, tl.maximum(second, low)).to(tl.int32), mask=inside)
    tl.store(limits + 4 * owner + 2, tl.where(is_found, limit2, tl.minimum(third, high)).to(tl.int32), mask=inside)
    for j in tl.static_range(4):
        tl.store(counts + 4 * owner + j, 0 * owner, mask=inside)


# Words are uniform, so that the last one kept is known but for some thousandths.
@triton.jit
def settle_cuts(
    keep, sizes, limits, counts, cuts, found, base, owners, missed, deviations, spare,
    count: tl.constexpr, drops: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """Write the cuts that limits and what was counted of them tell; or add `missed` to what was found with a part.

    keep, sizes: (parts, experts) int32. deviations, spare: standard deviations and equals between which the last word
    is looked for. found: (parts,) int32.
    """
    owner = tl.program_id(0) * block + tl.arange(0, block)
    inside = (owner < owners) & ((drops >> (owner % count)) & 1 > 0)
    kept = tl.load(keep + owner, mask=inside, other=0).to(tl.int64)
    size = tl.load(sizes + owner, mask=inside, other=0).to(tl.int64)
    limit0, limit1, limit2, limit3 = _four(limits, owner, inside)
    count0, count1, count2, count3 = _four(counts, owner, inside)
    is_second = (kept > count2) & (kept <= count1)  # a band, of several keys or of one
    is_first = kept > count1
    lo, hi = tl.where(is_first, limit0, limit2), tl.where(is_first, limit1, limit3)
    up_to, above = tl.where(is_first, count0, count2), tl.where(is_first, count1, count3)
    lo, hi = tl.where(is_second, limit1, lo), tl.where(is_second, limit2, hi)
    up_to, above = tl.where(is_second, count1, up_to), tl.where(is_second, count2, above)
    is_single = hi - lo == 1
    is_found = (kept > above) & (kept <= up_to) & (is_single | is_second)
    top = hi - 1
    lo, hi = least_bits(base, lo.to(tl.int32)).to(tl.int64), least_bits(base, hi.to(tl.int32)).to(tl.int64)
    equals, left = up_to - above, kept - above
    several = tl.maximum(equals, 1).to(tl.float64)
    share = left.to(tl.float64) / several
    margin = (deviations * tl.sqrt(tl.maximum(share * (1 - share), 0.0) * several) + spare) / several
    first = tl.floor(tl.maximum(share - margin, 0.0) * 2147483648.0).to(tl.int64)
    last = tl.floor((share + margin) * 2147483648.0).to(tl.int64)
    first = tl.where(is_single, tl.minimum(first, 0x7FFFFFFF), 0)
    last = tl.where(is_single, tl.minimum(last, 0x7FFFFFFF), 0x7FFFFFFF)
    every, none = kept >= size, kept <= 0
    all_above = every | (is_found & (left == equals))  # nothing is open
    hi = tl.where(all_above, tl.where(every, 0, lo), hi)
    hi = tl.where(none, 0x7FFFFFFF, hi)
    lo = tl.where(all_above | none, hi, lo)
    is_missed = ~(is_found | every | none) | (~is_single & (hi - lo > 0x20000000))  # orders have 62 bits
    lo, hi = tl.where(is_missed, 0, lo), tl.where(is_missed, 0, hi)
    cut = cuts + CUT * owner
    tl.store(cut, hi, mask=inside)
    tl.store(cut + 1, lo, mask=inside)
    tl.store(cut + 2, first, mask=inside)
    tl.store(cut + 3, last, mask=inside)
    tl.store(cut + 4, top, mask=inside)
    tl.atomic_or(found + owner // count, missed + 0 * owner.to(tl.int32), mask=inside & is_missed, sem="relaxed")

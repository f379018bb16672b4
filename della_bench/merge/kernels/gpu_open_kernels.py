"""The Triton kernels that merge whole tensors at their cuts, and what the cuts leave open; see `gpu_cuts`."""

from __future__ import annotations

import triton
import triton.language as tl

from della_bench.merge.kernels.gpu_cut_kernels import CUT
from della_bench.merge.kernels.gpu_device import (
    expert_at,
    key_of,
    load,
    magnitude_bits,
    note_faults,
    part_at,
    poisoned,
    random_key_at,
    store,
    word_at,
    words_of,
)
from della_bench.merge.kernels.gpu_fuse import fuse

__all__ = ["find_last", "merge_at_cuts", "order_open", "patch_open"]

_LAST = tl.constexpr(2**62)  # after every order


@triton.jit
def _of_cut(cut):
    """Return the magnitudes hi and lo, and the first and the last open half of a word."""
    hi, lo = tl.load(cut).to(tl.int32), tl.load(cut + 1).to(tl.int32)
    return hi, lo, tl.load(cut + 2).to(tl.int32), tl.load(cut + 3).to(tl.int32)


@triton.jit
def _half(words):
    return (words >> 1).to(tl.int32)


# Elements are listed by eights, which a thread has together: whoever lists one waits for its number, so that a counter
# serves no more than the tiles of one segment. `lists` (parts + 1, 5) int32 has of each part its first segment, its
# first slot, how many slots a segment has, its first order, and how many orders an expert has; the last row has what
# follows on the last part's.
@triton.jit
def _segments_of(lists, part):
    return tl.load(lists + 5 * part), tl.load(lists + 5 * part + 1), tl.load(lists + 5 * part + 2)


@triton.jit
def _orders_of(lists, part, k):
    """Return the first order of an expert, and how many it has."""
    room = tl.load(lists + 5 * part + 4)
    return tl.load(lists + 5 * part + 3) + k * room, room


# A program merges one tile. Lanes count in bytes, four experts in one integer, how many are kept; those that are open
# are listed, in any order, and what is written of them is not final. Whether one number is below another is told by
# the sign of their difference, which serves as a mask: a GPU has few registers for truths.
@triton.jit
def merge_at_cuts(
    table, part_of_tile, factors, found, cuts, sums, opened, lists, eights, base, experts, out,
    count: tl.constexpr, drops: tl.constexpr, inverse: tl.constexpr, elect: tl.constexpr, normalize: tl.constexpr,
    even: tl.constexpr, tiles: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """Merge whole tensors; arguments as in `gpu_kernels.merge_tiles`, and what it learns.

    tiles: of a segment. sums: (segments, experts) int32, to which it adds how many elements are kept, but for the open
    ones. opened: (segments,) int32, to which it adds how many eights have an element that is open for some expert.
    eights: (slots,) int32, which of the tensor's these are.
    """
    part = tl.load(part_of_tile + tl.program_id(0))
    table, n, base, out = part_at(table, part, base, out, count, even)
    factors += part * (2 * count + 2)
    tile = tl.program_id(0) - tl.load(table + 2).to(tl.int32)
    start = tile * block
    index = start + tl.arange(0, block)
    inside = index < n
    whole = load(base, index, inside)
    poison = poisoned(whole, 0.0)
    is_open = tl.zeros((block,), tl.int32)
    tallies = (tl.zeros((block,), tl.int32), tl.zeros((block,), tl.int32))
    deltas = ()
    for k in tl.static_range(count):
        value = load(expert_at(table, k, experts[k], even), index, inside)
        poison = poisoned(value, poison)
        d = value - whole
        if (drops >> k) & 1:
            hi, lo, first, last = _of_cut(cuts + CUT * (part * count + k))
            bits = tl.where(inside, magnitude_bits(d), -1)
            half = _half(words_of(base, random_key_at(table, k), start, True, block))
            below_hi, from_lo, early = bits - hi, lo - 1 - bits, half - first
            kept = (~below_hi | (from_lo & early)) >> 31
            is_open |= below_hi & from_lo & ~early & (half - last - 1)
            tally = kept * (-1 << (8 * (k % 4)))
            tallies = (tallies[0] + tally, tallies[1]) if k < 4 else (tallies[0], tallies[1] + tally)
            if inverse:
                d *= tl.load(factors + 2 * k + 1)
            d = (d.to(tl.int32, bitcast=True) & kept).to(tl.float32, bitcast=True)
        deltas = deltas + (d * tl.load(factors + 2 * k),)  # noqa: RUF005
    merged = fuse(whole, deltas, factors, factors, 0, count, elect, normalize, False)
    store(out, index, merged, inside)
    note_faults(found + part, poison, out, merged, block)
    segment, slot, slots = _segments_of(lists, part)
    segment += tile // tiles
    _add_tallies(sums + segment * count, tallies[0], 0, count, drops, block)
    if count > 4:
        _add_tallies(sums + segment * count, tallies[1], 4, count, drops, block)
    some = tl.min(is_open.reshape(block // 8, 8), 1) < 0
    at = tl.atomic_add(opened + segment + 0 * some.to(tl.int32), 1, mask=some, sem="relaxed")
    eights += slot + (tile // tiles) * slots
    tl.store(eights + at, start // 8 + tl.arange(0, block // 8), mask=some & (at < slots))


# Bytes hold what a lane counted of its eight elements; all lanes together are counted in 16 bits.
@triton.jit
def _add_tallies(sums, tally, first: tl.constexpr, count: tl.constexpr, drops: tl.constexpr, block: tl.constexpr):
    lanes = tl.sum(tally.reshape(block // 8, 8), 1).to(tl.int64)
    together = tl.sum((lanes & 0xFF) | ((lanes & 0xFF00) << 8) | ((lanes & 0xFF0000) << 16) | ((lanes >> 24) << 48), 0)
    for k in tl.static_range(first, count if count < first + 4 else first + 4):
        if (drops >> k) & 1:
            tl.atomic_add(sums + k, ((together >> (16 * (k - first))) & 0xFFFF).to(tl.int32), sem="relaxed")


@triton.jit
def _open_places(part_of_block, lists, opened, eights, block: tl.constexpr):
    """Return a part, and the places of this program's slots, eight each; -1 where a slot is not used."""
    part = tl.load(part_of_block + tl.program_id(0))
    lane = tl.arange(0, 8 * block)
    slot = tl.program_id(0) * block + lane // 8
    segment, first_slot, slots = _segments_of(lists, part)
    local = (tl.program_id(0) * block - first_slot) // slots
    used = slot - first_slot - local * slots < tl.load(opened + segment + local)
    return part, tl.where(used, 8 * tl.load(eights + slot, mask=used, other=0) + lane % 8, -1)


@triton.jit
def _order_of(base, d, words, cut):
    """Return the order of the open elements, int64; `_LAST` for all others."""
    hi, lo, first, last = _of_cut(cut)
    bits, half = magnitude_bits(d), _half(words)
    is_open = (bits >= lo) & (bits < hi) & (half >= first) & (half <= last)
    key = key_of(base, d).to(tl.int64)
    return tl.where(is_open, ((tl.load(cut + 4) - key) << 32) + (words.to(tl.int64) - 2 * first.to(tl.int64)), _LAST)


@triton.jit
def order_open(
    table, part_of_block, lists, opened, eights, cuts, taken, orders, places, base, experts,
    count: tl.constexpr, drops: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """List where the elements that are open for an expert come, and where they lie in the tensor.

    taken: (parts, experts) int32, to which it adds how many. orders: int64, and places: int32, see `lists`.
    """
    part, index = _open_places(part_of_block, lists, opened, eights, block)
    table, n, base, out = part_at(table, part, base, base, count, False)  # noqa: RUF059
    used = (index >= 0) & (index < n)
    whole = load(base, index, used)
    for k in tl.static_range(count):
        if (drops >> k) & 1:
            owner = part * count + k
            d = load(expert_at(table, k, experts[k], False), index, used) - whole
            order = _order_of(base, d, word_at(random_key_at(table, k), index), cuts + CUT * owner)
            listed = used & (order < _LAST)
            at = tl.atomic_add(taken + owner + 0 * index, 1, mask=listed, sem="relaxed")
            first, room = _orders_of(lists, part, k)
            tl.store(orders + first + at, order, mask=listed & (at < room))
            tl.store(places + first + at, index, mask=listed & (at < room))


# A program finds the last of one expert's open elements, three bits of its order at a time; then, of those few that are
# in this same place, the last one kept by where it lies in the tensor.
@triton.jit
def find_last(
    lists, opened, taken, orders, places, keep, cuts, sums, lasts, found, missed,
    count: tl.constexpr, drops: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """Write to lasts (parts, experts, 2) int64 the order and the place of the last open element that is kept.

    Both are -1 where none is. Where there are too few of them, or of slots or orders, `missed` is added to what
    was found with the part. keep: (parts, experts) int32, how many elements are kept.
    """
    owner = tl.program_id(0)
    part, k = owner // count, owner % count
    if (drops >> k) & 1 > 0:
        segment, _slot, slots = _segments_of(lists, part)
        end_segment, _end_slot, _no_slots = _segments_of(lists, part + 1)
        first, room = _orders_of(lists, part, k)
        orders += first
        places += first
        available = tl.load(taken + owner)
        listed = tl.minimum(available, room)
        kept, most = tl.zeros((block,), tl.int32), tl.zeros((block,), tl.int32)
        for start in range(segment, end_segment, block):
            here = start + tl.arange(0, block)
            kept += tl.load(sums + here * count + k, mask=here < end_segment, other=0)
            most = tl.maximum(most, tl.load(opened + here, mask=here < end_segment, other=0))
        left = tl.load(keep + owner) - tl.sum(kept, 0)
        cut = cuts + CUT * owner
        is_open = tl.load(cut) > tl.load(cut + 1)
        is_missed = is_open & ((left < 0) | (left > available) | (available > room) | (tl.max(most, 0) > slots))
        tl.atomic_or(found + part, missed, mask=is_missed, sem="relaxed")
        last, last_place = tl.full((), -1, tl.int64), tl.full((), -1, tl.int32)
        if is_open & (is_missed == 0) & (left > 0):
            last, last_place = _last_of(orders, places, listed, left, block)
        tl.store(lasts + 2 * owner, last)
        tl.store(lasts + 2 * owner + 1, last_place.to(tl.int64))


@triton.jit
def _below(orders, listed, limit, block: tl.constexpr):
    """Return how many orders are below a limit."""
    tally = tl.zeros((block,), tl.int32)
    for start in range(0, listed, block):
        slot = start + tl.arange(0, block)
        tally += (tl.load(orders + slot, mask=slot < listed, other=_LAST) < limit).to(tl.int32)
    return tl.sum(tally, 0)


@triton.jit
def _last_of(orders, places, listed, left, block: tl.constexpr):
    """Return the order of the element that is `left`th, and the place of the last of its equals up to it."""
    last = tl.full((), 0, tl.int64)
    shift = 60
    while shift > 0 and _below(orders, listed, tl.full((), 1, tl.int64) << shift, block) >= left:
        shift -= 12
    shift = tl.minimum(shift + 9, 60)
    while shift >= 0:
        tallies = (
            tl.zeros((block,), tl.int32), tl.zeros((block,), tl.int32), tl.zeros((block,), tl.int32),
            tl.zeros((block,), tl.int32), tl.zeros((block,), tl.int32), tl.zeros((block,), tl.int32),
            tl.zeros((block,), tl.int32),
        )  # fmt: skip
        for start in range(0, listed, block):
            slot = start + tl.arange(0, block)
            order = tl.load(orders + slot, mask=slot < listed, other=_LAST)
            following = ()
            for j in tl.static_range(7):
                is_below = order < last + (tl.full((), j + 1, tl.int64) << shift)
                following = following + (tallies[j] + is_below.to(tl.int32),)  # noqa: RUF005
            tallies = following
        digit = 0
        for j in tl.static_range(7):
            digit += (tl.sum(tallies[j], 0) < left).to(tl.int32)
        last += digit.to(tl.int64) << shift
        shift -= 3
    equals = left - _below(orders, listed, last, block)
    last_place = -1
    while equals > 0:
        nearest = tl.full((block,), 0x7FFFFFFF, tl.int32)
        for start in range(0, listed, block):
            slot = start + tl.arange(0, block)
            inside = slot < listed
            order = tl.load(orders + slot, mask=inside, other=_LAST)
            place = tl.load(places + slot, mask=inside, other=0)
            nearest = tl.where((order == last) & (place > last_place), tl.minimum(nearest, place), nearest)
        last_place = tl.min(nearest, 0)
        equals -= 1
    return last, last_place


@triton.jit
def patch_open(
    table, part_of_block, lists, opened, eights, factors, found, cuts, lasts, base, experts, out,
    count: tl.constexpr, drops: tl.constexpr, inverse: tl.constexpr, elect: tl.constexpr, normalize: tl.constexpr,
    block: tl.constexpr,
):  # fmt: skip
    """Merge the eights that have open elements, now that the last one kept is known of each expert."""
    part, index = _open_places(part_of_block, lists, opened, eights, block)
    if tl.max(index, 0) >= 0:
        table, n, base, out = part_at(table, part, base, out, count, False)
        factors += part * (2 * count + 2)
        used = (index >= 0) & (index < n)
        whole = load(base, index, used)
        deltas = ()
        for k in tl.static_range(count):
            d = load(expert_at(table, k, experts[k], False), index, used) - whole
            if (drops >> k) & 1:
                owner = part * count + k
                words = word_at(random_key_at(table, k), index)
                order = _order_of(base, d, words, cuts + CUT * owner)
                last, last_place = tl.load(lasts + 2 * owner), tl.load(lasts + 2 * owner + 1)
                hi, lo, first, _last = _of_cut(cuts + CUT * owner)
                bits = magnitude_bits(d)
                kept = (bits >= hi) | ((bits >= lo) & (_half(words) < first))
                kept |= (order < last) | ((order == last) & (index <= last_place))
                if inverse:
                    d *= tl.load(factors + 2 * k + 1)
                d = tl.where(kept, d, 0.0)
            deltas = deltas + (d * tl.load(factors + 2 * k),)  # noqa: RUF005
        merged = fuse(whole, deltas, factors, factors, 0, count, elect, normalize, False)
        store(out, index, merged, used)
        note_faults(found + part, 0.0 * merged, out, merged, 8 * block)

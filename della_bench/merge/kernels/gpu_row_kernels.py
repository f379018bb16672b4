"""The Triton kernel that merges by ranks within rows: a program finds the ranks of its row, and merges it.

A row's keys lie within a few powers of two of its largest: counted down from that, they fall into 4,096 bins (32
powers of two of bfloat16), where all 15-bit keys would take 128 KiB a row. So few fit into the shared memory of a
program, in which counting is faster than in the GPU's own; Triton has no words for that, and the PTX for it stands
here. In Triton's interpreter the bins lie in ordinary memory.
"""

from __future__ import annotations

import triton
import triton.language as tl

from della_bench.merge.kernels.gpu_device import (
    EACH,
    HEAD,
    expert_at,
    key_of,
    least_bits,
    load,
    magnitude_bits,
    note_faults,
    part_at,
    poisoned,
    random_key_at,
    store,
    words_of,
)
from della_bench.merge.kernels.gpu_fuse import fuse

__all__ = ["WORDS", "merge_rows"]

WORDS = tl.constexpr(2048)  # two bins share a word
ZEROS = tl.constexpr(4095)  # the last bin, that of zeros and of what does not fit


# `bins` is a pointer, or the address of shared memory if `shared`. The assembler's text stands once in the kernel,
# since it declares the memory.
@triton.jit
def _bins_of(scratch, words, allocate: tl.constexpr, shared: tl.constexpr):
    if shared:
        bins = tl.inline_asm_elementwise(
            allocate, "=r,r", [tl.program_id(0)], dtype=tl.int32, is_pure=False, pack=1
        )  # fmt: skip
    else:
        bins = scratch + tl.program_id(0) * words
    return bins


@triton.jit
def _load_word(bins, word, shared: tl.constexpr):
    if shared:
        value = tl.inline_asm_elementwise(
            "ld.shared.u32 $0, [$1];", "=r,r", [bins + 4 * word], dtype=tl.int32, is_pure=False, pack=1
        )  # fmt: skip
    else:
        value = tl.load(bins + word)
    return value


@triton.jit
def _store_word(bins, word, value, shared: tl.constexpr):
    if shared:
        tl.inline_asm_elementwise(
            "{ st.shared.u32 [$1], $2; mov.u32 $0, 0; }", "=r,r,r", [bins + 4 * word, value], dtype=tl.int32,
            is_pure=False, pack=1,
        )  # fmt: skip
    else:
        tl.store(bins + word, value)


@triton.jit
def _add_to_word(bins, word, value, mask, shared: tl.constexpr):
    if shared:
        tl.inline_asm_elementwise(
            "{ .reg .pred p; setp.ne.s32 p, $3, 0; @p red.shared.add.u32 [$1], $2; mov.u32 $0, 0; }", "=r,r,r,r",
            [bins + 4 * word, value, mask.to(tl.int32)], dtype=tl.int32, is_pure=False, pack=1,
        )  # fmt: skip
    else:
        tl.atomic_add(bins + word, value, mask=mask, sem="relaxed")


@triton.jit
def _load_half(bins, bin, shared: tl.constexpr):
    """Return what a bin has, 16 bits."""
    if shared:
        value = tl.inline_asm_elementwise(
            "{ .reg .u16 half; ld.shared.u16 half, [$1]; cvt.u32.u16 $0, half; }", "=r,r", [bins + 2 * bin],
            dtype=tl.int32, is_pure=False, pack=1,
        )  # fmt: skip
    else:
        value = (tl.load(bins + bin // 2) >> (16 * (bin % 2))) & 0xFFFF
    return value


@triton.jit
def _of_expert(bins, k: tl.constexpr, shared: tl.constexpr):
    return bins + k * (4 * WORDS if shared else WORDS)


# Experts are gone through together, so that the base is read once for all of them and threads wait for each other
# once. Beyond the row's end a delta is 0, which is no key between the smallest and the largest.
@triton.jit
def _spans(
    table, base, experts, offset, n,
    count: tl.constexpr, drops: tl.constexpr, even: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """Return the largest key of each expert's row, and the smallest that is not 0, if there is one."""
    least = least_bits(base, 1)
    tops, leasts = (), ()
    for _ in tl.static_range(count):
        tops = tops + (tl.zeros((block,), tl.int32),)  # noqa: RUF005
        leasts = leasts + (tl.full((block,), 0x7FFFFFFF, tl.uint32),)  # noqa: RUF005
    for start in range(0, n, block):
        inside = start + tl.arange(0, block) < n
        index = offset + start + tl.arange(0, block)
        whole = load(base, index, inside)
        next_tops, next_leasts = (), ()
        for k in tl.static_range(count):
            top, bottom = tops[k], leasts[k]
            if (drops >> k) & 1:
                bits = magnitude_bits(load(expert_at(table, k, experts[k], even), index, inside) - whole)
                top = tl.maximum(top, bits)
                bottom = tl.minimum(bottom, (bits - least).to(tl.uint32, bitcast=True))
            next_tops, next_leasts = next_tops + (top,), next_leasts + (bottom,)  # noqa: RUF005
        tops, leasts = next_tops, next_leasts
    top_keys, least_keys = (), ()
    for k in tl.static_range(count):
        top, bottom = tl.max(tops[k], 0), tl.min(leasts[k], 0).to(tl.int32) + least
        top_keys = top_keys + (key_of(base, top.to(tl.float32, bitcast=True)),)  # noqa: RUF005
        least_keys = least_keys + (key_of(base, bottom.to(tl.float32, bitcast=True)),)  # noqa: RUF005
    return top_keys, least_keys


@triton.jit
def _count(
    bins, tops, table, base, experts, offset, n,
    count: tl.constexpr, drops: tl.constexpr, even: tl.constexpr, shared: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """Count in bins how often each key occurs, zeros apart."""
    for start in range(0, n, block):
        inside = start + tl.arange(0, block) < n
        index = offset + start + tl.arange(0, block)
        whole = load(base, index, inside)
        for k in tl.static_range(count):
            if (drops >> k) & 1:
                key = key_of(base, load(expert_at(table, k, experts[k], even), index, inside) - whole)
                bin = tops[k] - key
                counted = (key > 0) & (bin < ZEROS)
                _add_to_word(_of_expert(bins, k, shared), bin // 2, 1 + 0xFFFF * (bin % 2), counted, shared)


# Counts of four experts are added in one integer, 16 bits each. Bins are counted down from the largest key. A key that
# occurs `count` times, with `up_to` at or above it, has the doubled mean rank 2 (n - up_to) + count - 1.
@triton.jit
def _rank(bins, words, n, count: tl.constexpr, drops: tl.constexpr, shared: tl.constexpr, step: tl.constexpr):
    """Leave doubled ranks in the bins, that of zeros in the last one."""
    done = (tl.full((), 0, tl.int64), tl.full((), 0, tl.int64))
    for first in range(0, words, step):
        word = first + tl.arange(0, step)
        pairs = ()
        sums = (tl.zeros((step,), tl.int64), tl.zeros((step,), tl.int64))
        for k in tl.static_range(count):
            pair = tl.zeros((step,), tl.int32)
            if (drops >> k) & 1:
                pair = _load_word(_of_expert(bins, k, shared), word, shared)
            pairs = pairs + (pair,)  # noqa: RUF005
            both = ((pair & 0xFFFF) + ((pair >> 16) & 0xFFFF)).to(tl.int64) << (16 * (k % 4))
            sums = (sums[0] + both, sums[1]) if k < 4 else (sums[0], sums[1] + both)
        up_to = (done[0] + tl.cumsum(sums[0], 0), done[1])
        if count > 4:
            up_to = (up_to[0], done[1] + tl.cumsum(sums[1], 0))
        for k in tl.static_range(count):
            if (drops >> k) & 1:
                upper, lower = pairs[k] & 0xFFFF, (pairs[k] >> 16) & 0xFFFF  # of two keys, the larger one's count first
                both = ((up_to[0] if k < 4 else up_to[1]) >> (16 * (k % 4))).to(tl.int32) & 0xFFFF
                rank_upper, rank_lower = 2 * (n - (both - lower)) + upper - 1, 2 * (n - both) + lower - 1
                _store_word(_of_expert(bins, k, shared), word, (rank_upper & 0xFFFF) | (rank_lower << 16), shared)
        done = (done[0] + tl.sum(sums[0], 0), done[1])
        if count > 4:
            done = (done[0], done[1] + tl.sum(sums[1], 0))
    tl.debug_barrier()
    last = WORDS - 1 + 0 * tl.arange(0, 16)
    for k in tl.static_range(count):
        if (drops >> k) & 1:
            not_zero = ((done[0] if k < 4 else done[1]) >> (16 * (k % 4))).to(tl.int32) & 0xFFFF
            _store_word(_of_expert(bins, k, shared), last, tl.maximum(n - not_zero - 1, 0) << 16, shared)


@triton.jit
def merge_rows(
    table, tensor_of_row, factors, found, scratch, base, experts, out,
    count: tl.constexpr, drops: tl.constexpr, inverse: tl.constexpr, elect: tl.constexpr, normalize: tl.constexpr,
    aligned: tl.constexpr, even: tl.constexpr, missed: tl.constexpr, shared: tl.constexpr, allocate: tl.constexpr,
    block: tl.constexpr, step: tl.constexpr,
):  # fmt: skip
    """Merge rows; arguments as in `gpu_kernels.merge_tiles`. missed: what is noted of a row of too wide a span.

    What is known of an expert's drop is its rules, (2n - 1, 2) int32: by doubled rank the highest word that is kept,
    and the bits of the scale.
    """
    bins = _bins_of(scratch, count * WORDS, allocate, shared)
    tensor = tl.load(tensor_of_row + tl.program_id(0)).to(tl.int64)
    table, n, base, out = part_at(table, tensor, base, out, count, even)
    factors += tensor * (2 * count + 2)
    offset = (tl.program_id(0) - tl.load(table + 2).to(tl.int32)) * n
    for first in range(0, count * WORDS, step):
        _store_word(bins, first + tl.arange(0, step), tl.zeros((step,), tl.int32), shared)
    tops, leasts = _spans(table, base, experts, offset, n, count, drops, even, block)
    words = 0
    for k in tl.static_range(count):
        if (drops >> k) & 1:
            used = tl.where(tops[k] > 0, tops[k] - leasts[k] + 1, 0)
            tl.atomic_or(found + tensor, missed, mask=used >= ZEROS, sem="relaxed")
            words = tl.maximum(words, tl.minimum((used + 1) // 2, WORDS))
    tl.debug_barrier()
    _count(bins, tops, table, base, experts, offset, n, count, drops, even, shared, block)
    tl.debug_barrier()
    _rank(bins, words, n, count, drops, shared, step)
    tl.debug_barrier()

    longs: tl.constexpr = tl.pointer_type(tl.int64)
    for start in range(0, n, block):
        inside = start + tl.arange(0, block) < n
        index = offset + start + tl.arange(0, block)
        whole = load(base, index, inside)
        poison = poisoned(whole, 0.0)
        deltas = ()
        for k in tl.static_range(count):
            value = load(expert_at(table, k, experts[k], even), index, inside)
            poison = poisoned(value, poison)
            d = value - whole
            if (drops >> k) & 1:
                key = key_of(base, d)
                bin = tl.where(key > 0, tl.minimum(tops[k] - key, ZEROS), ZEROS)
                rank = _load_half(_of_expert(bins, k, shared), bin, shared)
                rule = tl.load(tl.load(table + HEAD + EACH * k + 2).to(longs) + rank)
                kept = words_of(base, random_key_at(table, k), offset + start, aligned, block) <= rule.to(tl.uint32)
                scale = tl.load(factors + 2 * k + 1)
                if inverse:
                    scale = (rule >> 32).to(tl.int32).to(tl.float32, bitcast=True)
                d = tl.where(kept, d * scale, 0.0)
            deltas = deltas + (d * tl.load(factors + 2 * k),)  # noqa: RUF005
        merged = fuse(whole, deltas, factors, factors, 0, count, elect, normalize, False)
        store(out, index, merged, inside)
        note_faults(found + tensor, poison, out, merged, block)

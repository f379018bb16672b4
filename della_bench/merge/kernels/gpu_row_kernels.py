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
    is_broken,
    key_of,
    load,
    magnitude_bits,
    note_faults,
    store,
    words_of,
)
from della_bench.merge.kernels.gpu_kernels import fuse

__all__ = ["WORDS", "merge_rows"]

_BINS, WORDS = tl.constexpr(4096), tl.constexpr(2048)  # two bins share a word


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


# Bins are counted down from the largest key, zeros apart. A key that occurs `count` times, with `up_to` at or above it,
# has the doubled mean rank 2 (n - up_to) + count - 1.
@triton.jit
def _rank_row(bins, base, expert, offset, n, shared: tl.constexpr, block: tl.constexpr, step: tl.constexpr):
    """Leave doubled ranks of a row's keys in its bins; returns the largest key, the rank of zeros, the bins used."""
    top, least = 0, 0x7FFF
    for start in range(0, n, block):
        inside = start + tl.arange(0, block) < n
        index = offset + start + tl.arange(0, block)
        key = key_of(base, load(expert, index, inside) - load(base, index, inside))
        top = tl.maximum(top, tl.max(tl.where(inside, key, 0), 0))
        least = tl.minimum(least, tl.min(tl.where(inside & (key > 0), key, 0x7FFF), 0))
    used = top - least + 1  # below 1 where all are zeros; then no bin is looked at
    words = tl.minimum((used + 1) // 2, WORDS)
    for first in range(0, words, step):
        _store_word(bins, first + tl.arange(0, step), tl.zeros((step,), tl.int32), shared)
    tl.debug_barrier()
    for start in range(0, n, block):
        inside = start + tl.arange(0, block) < n
        index = offset + start + tl.arange(0, block)
        key = key_of(base, load(expert, index, inside) - load(base, index, inside))
        bin = top - key
        _add_to_word(bins, bin // 2, 1 << (16 * (bin % 2)), inside & (key > 0) & (bin < _BINS), shared)
    tl.debug_barrier()
    up_to = 0
    for first in range(0, words, step):
        word = first + tl.arange(0, step)
        pair = _load_word(bins, word, shared)
        upper, lower = pair & 0xFFFF, (pair >> 16) & 0xFFFF  # of the two keys, the larger one's count and the smaller's
        both = up_to + tl.cumsum(upper + lower, 0)
        rank_upper, rank_lower = 2 * (n - (both - lower)) + upper - 1, 2 * (n - both) + lower - 1
        _store_word(bins, word, (rank_upper & 0xFFFF) | (rank_lower << 16), shared)
        up_to += tl.sum(upper + lower, 0)
    return top, n - up_to - 1, used


@triton.jit
def merge_rows(
    table, tensor_of_row, factors, found, scratch, base, experts, out,
    count: tl.constexpr, drops: tl.constexpr, inverse: tl.constexpr, elect: tl.constexpr, normalize: tl.constexpr,
    aligned: tl.constexpr, even: tl.constexpr, missed: tl.constexpr, shared: tl.constexpr, allocate: tl.constexpr,
    block: tl.constexpr, step: tl.constexpr,
):  # fmt: skip
    """Merge rows; arguments as in `gpu_kernels.merge_tiles`. missed: what is noted of a row of too wide a span."""
    bins = _bins_of(scratch, count * WORDS, allocate, shared)
    tensor = tl.load(tensor_of_row + tl.program_id(0)).to(tl.int64)
    table += tensor * (HEAD + EACH * count)
    factors += tensor * (2 * count + 2)
    n = tl.load(table).to(tl.int32)
    row = tl.program_id(0) - tl.load(table + 2).to(tl.int32)
    base = tl.load(table + 4).to(base.dtype)
    out = tl.load(table + 5).to(out.dtype)
    if even:
        n, base, out = tl.multiple_of(n, 16), tl.multiple_of(base, 16), tl.multiple_of(out, 16)
    offset = row * n
    integers: tl.constexpr = tl.pointer_type(tl.int32)
    pointers, tops, zeros = (), (), ()
    for k in tl.static_range(count):
        expert = tl.load(table + HEAD + EACH * k).to(experts[k].dtype)
        if even:
            expert = tl.multiple_of(expert, 16)
        top, zero = 0, 0
        if (drops >> k) & 1:
            top, zero, used = _rank_row(_of_expert(bins, k, shared), base, expert, offset, n, shared, block, step)
            tl.atomic_or(found + tensor, missed, mask=used > _BINS, sem="relaxed")
        pointers, tops, zeros = pointers + (expert,), tops + (top,), zeros + (zero,)  # noqa: RUF005
    tl.debug_barrier()

    for start in range(0, n, block):
        inside = start + tl.arange(0, block) < n
        index = offset + start + tl.arange(0, block)
        wide = load(base, index, inside)
        worst = magnitude_bits(wide)
        deltas = ()
        for k in tl.static_range(count):
            value = load(pointers[k], index, inside)
            worst = tl.maximum(worst, magnitude_bits(value))
            d = value - wide
            if (drops >> k) & 1:
                entry = table + HEAD + EACH * k
                key = key_of(base, d)
                bin = tl.minimum(tl.maximum(tops[k] - key, 0), _BINS - 1)
                pair = _load_word(_of_expert(bins, k, shared), bin // 2, shared)
                rank = tl.where(key > 0, (pair >> (16 * (bin % 2))) & 0xFFFF, zeros[k])
                rank = tl.where(inside, tl.minimum(rank, 2 * n - 2), 0)  # of a row whose span is too wide, it is any
                words = words_of(tl.load(entry + 4), offset + start, aligned, block)
                highest = tl.load(tl.load(entry + 2).to(integers) + rank).to(tl.uint32, bitcast=True)
                scale = tl.load(factors + 2 * k + 1)
                if inverse:
                    scale = tl.load(tl.load(entry + 3).to(factors.dtype) + rank)
                d = tl.where(words <= highest, d * scale, 0.0)
            deltas = deltas + (d * tl.load(factors + 2 * k),)  # noqa: RUF005
        merged = fuse(wide, deltas, factors, factors, 0, count, elect, normalize, False)
        store(out, index, merged, inside)
        note_faults(found + tensor, worst, inside & is_broken(out, merged))


@triton.jit
def _of_expert(bins, k: tl.constexpr, shared: tl.constexpr):
    return bins + k * (4 * WORDS if shared else WORDS)

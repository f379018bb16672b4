"""Magnitude cuts of whole tensors, many at once, without the host waiting for anything.

1. A sample says on which key a cut falls, and a pass counts the elements at it and above; where it falls on another
   one, what was counted corrects the sample, and the pass is repeated. Of bases of 32 bits, whose keys are mostly
   different, the sample says between which two the cut lies, and a second pass counts in a narrow band there.
2. Of the equals at a cut those of the lowest random words are kept. Words are uniform, so that the last of them is
   known but for a few thousandths: the tensor is merged, and the elements that this leaves open (or those of the band)
   are listed, some thousands of millions.
3. They are put in order, which tells the last one kept, and merged once more.

Where chance would have it that a cut lies elsewhere, the tensor is left to `gpu_known`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from della_bench.merge.kernels import gpu_cut_kernels as kernels
from della_bench.merge.kernels import gpu_open_kernels as open_kernels
from della_bench.merge.kernels.gpu_table import Launch, Part, Variant, spread, upload
from della_bench.merge.kernels.job import MISSED
from della_bench.spec.thresholds import kept_count

__all__ = ["merge_by_cuts"]

Numbers = Any  # a numpy array of integers

_SPAN, _SEGMENT = 24, 64  # tiles that a program counts, and that list their open elements together
_GUESSES = 3  # times that the key at a cut is guessed
_SLOTS, _OWNERS, _SEARCHED = 64, 128, 2048  # slots, cuts and orders that a program works on
_DEVIATIONS, _SPARE = 5.0, 16.0  # standard deviations and equals between which the last word is looked for


def merge_by_cuts(variant: Variant, parts: Sequence[Part], densities: Sequence[Sequence[float]]) -> torch.Tensor:
    """Merge parts of one variant, each a whole tensor.

    densities: a number an expert for each part; those of 1 drop nothing. Returns what was found wrong with each part.
    """
    launch = Launch(variant, parts, parts[0].base.device)
    keep = np.array([[kept_count(d, part.grid.n) for d in each] for part, each in zip(parts, densities, strict=True)])
    sizes = np.broadcast_to(np.array([[part.grid.n] for part in parts]), keep.shape)
    spans, room = _before(np.array([-(-part.grid.tiles // _SPAN) for part in parts])), _Lists.of(parts, variant)
    numbers = [np.stack([keep, sizes]), spans[:-1], room.table, room.blocks[:-1]]
    (kept, of), first_spans, lists, first_blocks = upload(launch.device, *(each.astype(np.int32) for each in numbers))
    cuts = _cuts(launch, kept, of, spread(first_spans, int(spans[-1])), first_spans)
    _merge(launch, kept, cuts, room, lists, spread(first_blocks, int(room.blocks[-1])))
    return launch.found


def _cuts(
    launch: Launch, keep: torch.Tensor, sizes: torch.Tensor, part_of_span: torch.Tensor, first_spans: torch.Tensor
) -> torch.Tensor:
    """Return the cuts, (parts, experts, CUT) int64; see `gpu_cut_kernels`, also for the arguments."""
    variant, device = launch.variant, launch.device
    base, experts, _ = launch.like
    count, owners = keep.shape[1], keep.numel()
    wide = variant.base == torch.float32
    limits = torch.full((owners, 4), 2**31 - 1, dtype=torch.int32, device=device)
    counts = torch.zeros(owners, 4, dtype=torch.int32, device=device)
    open_parts = torch.empty(len(launch.parts), dtype=torch.int32, device=device)
    programs = (-(-owners // _OWNERS),)
    for turn in range(2 if wide else _GUESSES):
        if wide and turn > 0:
            kernels.narrow_limits[programs](keep, limits, counts, owners, block=_OWNERS, enable_fp_fusion=False)
        else:
            kernels.guess_limits[(len(launch.parts),)](
                launch.table, keep, limits, counts, open_parts, base, experts, count=count, drops=variant.drops,
                wide=wide, enable_fp_fusion=False, num_warps=8,
            )  # fmt: skip
        kernels.count_at_least[(part_of_span.numel(),)](
            launch.table, part_of_span, first_spans, limits, counts, open_parts, base, experts, count=count,
            drops=variant.drops, span=_SPAN, even=variant.even, block=variant.block, enable_fp_fusion=False,
        )  # fmt: skip
    cuts = torch.empty(owners, kernels.CUT.value, dtype=torch.int64, device=device)
    kernels.settle_cuts[programs](
        keep, sizes, limits, counts, cuts, launch.found, base, owners, MISSED, _DEVIATIONS, _SPARE, count=count,
        drops=variant.drops, block=_OWNERS, enable_fp_fusion=False,
    )  # fmt: skip
    return cuts


@dataclass(frozen=True)
class _Lists:
    """Room for what is open, more than is ever needed; `table` and what it numbers are described in `gpu_open_kernels`.

    blocks: the first block of slots of each part, and how many there are of all.
    """

    table: Numbers
    blocks: Numbers

    @classmethod
    def of(cls, parts: Sequence[Part], variant: Variant) -> _Lists:
        """Make room for the open elements of parts."""
        n = np.array([part.grid.n for part in parts], dtype=np.float64)
        segments = -(-np.array([part.grid.tiles for part in parts]) // _SEGMENT)
        roots = np.sqrt(n)
        one = 2 * (_DEVIATIONS * roots / 2 + _SPARE) if variant.base != torch.float32 else 6 * roots + n / 1000 + 256
        some = np.minimum(one * variant.drops.bit_count() / n, 1) * np.minimum(n, _SEGMENT * variant.block)
        slots, orders = (np.ceil(each + 8 * np.sqrt(each) + 32).astype(np.int64) for each in (some, np.minimum(one, n)))
        slots = -(-slots // _SLOTS) * _SLOTS
        columns = [_before(segments), _before(segments * slots), np.append(slots, 0)]
        columns += [_before(orders * len(variant.experts)), np.append(orders, 0)]
        return cls(np.stack(columns, axis=1), columns[1] // _SLOTS)


def _before(lengths: Numbers) -> Numbers:
    """Return where each of several ranges of numbers begins that lie one behind the other, and where the last ends."""
    return np.concatenate([[0], np.cumsum(lengths)])


def _merge(
    launch: Launch,
    keep: torch.Tensor,
    cuts: torch.Tensor,
    room: _Lists,
    lists: torch.Tensor,
    part_of_block: torch.Tensor,
) -> None:
    """Merge all parts at their cuts. lists: the table of `room` on the device; for others see `gpu_open_kernels`."""
    variant, device = launch.variant, launch.device
    base, experts, out = launch.like
    count, owners = len(experts), keep.numel()
    segments, slots, _, listed, _ = room.table[-1].tolist()
    numbers = torch.zeros(segments + segments * count + owners, dtype=torch.int32, device=device)
    opened, sums, taken = torch.split(numbers, [segments, segments * count, owners])
    eights, places = torch.split(torch.empty(slots + listed, dtype=torch.int32, device=device), [slots, listed])
    orders = torch.empty(listed, dtype=torch.int64, device=device)
    lasts = torch.empty(owners, 2, dtype=torch.int64, device=device)
    rules = {
        "count": count, "drops": variant.drops, "inverse": variant.inverse, "elect": variant.elect,
        "normalize": variant.normalize,
    }  # fmt: skip
    open_kernels.merge_at_cuts[(launch.part_of_program.numel(),)](
        launch.table, launch.part_of_program, launch.factors, launch.found, cuts, sums, opened, lists, eights,
        base, experts, out, **rules, even=variant.even, tiles=_SEGMENT, block=variant.block, enable_fp_fusion=False,
        num_warps=4,
    )  # fmt: skip
    open_kernels.order_open[(part_of_block.numel(),)](
        launch.table, part_of_block, lists, opened, eights, cuts, taken, orders, places, base, experts, count=count,
        drops=variant.drops, block=_SLOTS, enable_fp_fusion=False,
    )  # fmt: skip
    open_kernels.find_last[(owners,)](
        lists, opened, taken, orders, places, keep, cuts, sums, lasts, launch.found, MISSED, count=count,
        drops=variant.drops, block=_SEARCHED, enable_fp_fusion=False, num_warps=8,
    )  # fmt: skip
    open_kernels.patch_open[(part_of_block.numel(),)](
        launch.table, part_of_block, lists, opened, eights, launch.factors, launch.found, cuts, lasts, base,
        experts, out, **rules, block=_SLOTS, enable_fp_fusion=False,
    )  # fmt: skip

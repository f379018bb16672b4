"""Merging by ranks within rows on the GPU, in one launch; see `gpu_row_kernels` for how.

A row whose keys span too much is noted, and its tensor merged by what `gpu_known` finds.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from della_bench.merge.kernels import gpu_row_kernels as kernels
from della_bench.merge.kernels.gpu_device import INTERPRETED
from della_bench.merge.kernels.gpu_grid import Grid
from della_bench.merge.kernels.gpu_table import Launch, Part, Variant
from della_bench.merge.kernels.job import MISSED

__all__ = ["covers_rows", "merge_rows"]

_LONGEST = 2**15 - 1  # a count and a doubled rank take 16 bits
_MOST = 5  # experts, whose bins fit into the 48 KiB that a program gets unasked
_BLOCK, _STEP, _WARPS = 1024, 512, 4  # fewer elements than threads would be counted more than once


def covers_rows(variant: Variant, grid: Grid) -> bool:
    """Whether the kernel covers ranked rows."""
    return variant.base == torch.bfloat16 and grid.n <= _LONGEST and len(variant.experts) <= _MOST


def merge_rows(variant: Variant, parts: Sequence[Part]) -> torch.Tensor:
    """Merge parts of one variant, whose tables by rank are known; returns what was found wrong with each."""
    device = parts[0].base.device
    launch = Launch(variant, parts, device, [part.grid.rows for part in parts])
    count, total = len(variant.experts), launch.part_of_program.numel()
    words = total * count * kernels.WORDS.value if INTERPRETED else 1
    scratch = torch.empty(words, dtype=torch.int32, device=device)
    kernels.merge_rows[(total,)](
        launch.table, launch.part_of_program, launch.factors, launch.found, scratch, *launch.like, count=count,
        drops=variant.drops, inverse=variant.inverse, elect=variant.elect, normalize=variant.normalize,
        aligned=variant.aligned, even=variant.even, missed=MISSED, shared=not INTERPRETED,
        allocate=f".shared .align 16 .b32 bins[{count * kernels.WORDS.value}]; mov.u32 $0, bins;",
        block=_BLOCK, step=_STEP, enable_fp_fusion=False, num_warps=_WARPS,
    )  # fmt: skip
    return launch.found

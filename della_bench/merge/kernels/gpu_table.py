"""Many tensors in one launch of the fused kernel: what is the same for all of them, and the table of what is not.

A launch costs the host some 20 microseconds, in which an H200 merges ten million parameters: tensor by tensor, a model
takes several times as long as its bytes do.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate, chain
from typing import Any, NamedTuple

import numpy as np
import torch

from della_bench.merge.kernels import gpu_kernels as kernels
from della_bench.merge.kernels.gpu_grid import Grid

__all__ = ["Known", "Launch", "Part", "Variant", "spread", "upload"]

_NOTHING = [0, 0, 0]  # addresses that no kernel reads
_WIDTH = 16  # bytes and elements that addresses and rows are multiples of, if they are `even`
_NUMBERED = 1024  # programs that a program numbers


class Known(NamedTuple):
    """What the kernels get of one expert's drop; `gpu_kernels` says what it is for each kind of drop.

    Where a kind of drop needs nothing, any tensor stands.
    """

    rows: torch.Tensor
    highest: torch.Tensor
    scales: torch.Tensor


class Variant(NamedTuple):
    """What is known to the compiler: one kernel serves all tensors that have it in common.

    even: whether wide loads are possible, see `is_even`.
    """

    base: torch.dtype
    experts: tuple[torch.dtype, ...]
    out: torch.dtype
    kind: int
    drops: int
    inverse: bool
    elect: int
    normalize: bool
    depth: int
    aligned: bool
    block: int
    even: bool = False
    scaled: bool = False
    voting: bool = False


class Part:
    """One tensor's share of a launch."""

    def __init__(
        self,
        grid: Grid,
        base: torch.Tensor,
        experts: tuple[torch.Tensor, ...],
        out: torch.Tensor,
        numbers: tuple[tuple[int, ...], ...],
        factors: tuple[float, ...],
        known: Sequence[Known] | None,
    ) -> None:
        """Take a tensor's contiguous base, experts and result; numbers, factors: of this tensor, see `gpu_kernels`."""
        self.grid, self.base, self.experts, self.out = grid, base, experts, out
        self.numbers, self.factors, self.known = numbers, factors, known
        self.first, self.rows = 0, grid.rows  # how many of the grid's rows, and from which on
        self.votes: torch.Tensor | None = None
        self.ratios: torch.Tensor | None = None
        self._addresses = [tensor.data_ptr() for tensor in (base, out, *experts)]

    @property
    def is_even(self) -> bool:
        """Whether addresses and rows are multiples of 16 bytes and elements."""
        together = self.grid.n
        for address in self._addresses:
            together |= address
        return together % _WIDTH == 0

    @property
    def tiles(self) -> int:
        """How many programs merge it."""
        return self.rows * self.grid.tiles

    def row(self, first_program: int) -> list[int]:
        """Return its row of the table."""
        base, out, *experts = self._addresses
        votes, ratios = (0 if tensor is None else tensor.data_ptr() for tensor in (self.votes, self.ratios))
        row = [self.grid.n, self.grid.rows, first_program, self.first, base, out, votes, ratios]
        for k, expert in enumerate(experts):
            known = _NOTHING if self.known is None else [tensor.data_ptr() for tensor in self.known[k]]
            row += [expert, *known, *self.numbers[k]]
        return row


class Launch:
    """Parts of one variant, and their table on the device.

    programs: how many work on each part; its tiles, unless they are given. part_of_program: int32.
    table: (parts, columns) int64. factors: (parts, 2 experts + 2) float32. found: (parts,) int32, what the kernels
    found wrong with each.
    """

    def __init__(
        self, variant: Variant, parts: Sequence[Part], device: torch.device, programs: Sequence[int] | None = None
    ) -> None:
        self.variant, self.parts, self.device = variant, parts, device
        programs = [part.tiles for part in parts] if programs is None else programs
        *firsts, total = accumulate(programs, initial=0)
        rows = array("q", chain.from_iterable(part.row(first) for part, first in zip(parts, firsts, strict=True)))
        numbers = array("f", chain.from_iterable(part.factors for part in parts))
        table, factors, first = upload(device, np.asarray(rows), np.asarray(numbers), np.array(firsts, np.int32))
        self.table, self.factors = table.view(len(parts), -1), factors.view(len(parts), -1)
        self.found = torch.zeros(len(parts), dtype=torch.int32, device=device)
        self.part_of_program = spread(first, total)

    @property
    def like(self) -> tuple[torch.Tensor, tuple[torch.Tensor, ...], torch.Tensor]:
        """A base, experts and a result, which tell the kernels what lies at the table's addresses."""
        return self.parts[0].base, self.parts[0].experts, self.parts[0].out

    def run(self) -> None:
        """Merge all parts, or count their votes."""
        variant = self.variant
        kernels.merge_tiles[(self.part_of_program.numel(),)](
            self.table, self.part_of_program, self.factors, self.found, *self.like, count=len(variant.experts),
            kind=variant.kind, drops=variant.drops, inverse=variant.inverse,
            elect=variant.elect, normalize=variant.normalize, scaled=variant.scaled, voting=variant.voting,
            depth=variant.depth, aligned=variant.aligned, even=variant.even, block=variant.block,
            enable_fp_fusion=False, num_warps=4,
        )  # fmt: skip


def spread(firsts: torch.Tensor, total: int) -> torch.Tensor:
    """Return which part each of `total` programs works on, by the first program of each part; int32."""
    parts = torch.empty(total, dtype=torch.int32, device=firsts.device)
    programs = (-(-total // _NUMBERED),)
    kernels.number_programs[programs](firsts, parts, firsts.numel(), total, block=_NUMBERED)
    return parts


def upload(device: torch.device, *arrays: np.ndarray[Any, Any]) -> list[torch.Tensor]:
    """Return arrays as tensors on the device, at once: the copy does not wait for what the device is doing.

    All travel in one copy, which costs the host more than what is copied.
    """
    if device.type == "cpu":
        return [torch.from_numpy(each.copy()) for each in arrays]
    *starts, size = accumulate((-(-each.nbytes // _WIDTH) * _WIDTH for each in arrays), initial=0)
    together = np.empty(size, np.uint8)
    for each, start in zip(arrays, starts, strict=True):
        together[start : start + each.nbytes] = np.ascontiguousarray(each).reshape(-1).view(np.uint8)
    with torch.cuda.stream(_uploads(device)):
        uploaded = torch.from_numpy(together).to(device)
    uploaded.record_stream(torch.cuda.current_stream(device))
    found = []
    for each, start in zip(arrays, starts, strict=True):
        flat = uploaded[start : start + each.nbytes].view(torch.from_numpy(each[:0]).dtype)
        found.append(flat.view(each.shape))
    return found


@lru_cache(maxsize=64)
def _uploads(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

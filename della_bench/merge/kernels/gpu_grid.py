"""How a tensor is cut up for the Triton kernels, and the tables of thresholds that they look up."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch
import triton

from della_bench.merge.kernels.tables import thresholds_by_rank
from della_bench.spec.thresholds import ONE

__all__ = ["SCRATCH", "Grid", "rank_rules", "rank_tables", "tables"]

SCRATCH = 2**26  # int32 elements: 256 MiB of ranks or sorted keys, for all experts together
_TILE = 1024  # elements that one program works on


@dataclass(frozen=True)
class Grid:
    """How a tensor is cut into rows of n elements, and these into the tiles of one program each."""

    n: int
    rows: int

    @cached_property
    def block(self) -> int:
        """Elements of a tile, at least one counter of Philox for each of a few threads."""
        return int(min(_TILE, max(16, triton.next_power_of_2(self.n))))

    @cached_property
    def tiles(self) -> int:
        """Tiles of a row."""
        return -(-self.n // self.block)

    @property
    def aligned(self) -> bool:
        """Whether every tile starts at a whole counter of Philox."""
        return self.rows == 1 or self.n % 4 == 0


def tables(ranks: torch.Tensor, low: int, high: int, n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the highest words that are kept (the bits of uint32, as int32) and the scales of doubled ranks among n.

    A word is kept up to the threshold less 1; a kept value is multiplied by 2^32 / threshold, in float32.
    """
    limits = thresholds_by_rank(ranks, low, high, n)
    highest = limits - 1
    highest = torch.where(highest >= 2**31, highest - 2**32, highest).to(torch.int32)
    return highest, (ONE / limits.to(torch.float64)).float()


@lru_cache(maxsize=64)
def rank_tables(low: int, high: int, n: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the tables of every doubled rank of a row of n, (2n - 1,) each; see `tables`."""
    return tables(torch.arange(2 * n - 1, dtype=torch.int64, device=device), low, high, n)


@lru_cache(maxsize=64)
def rank_rules(low: int, high: int, n: int, device: torch.device) -> torch.Tensor:
    """Return both tables in one, (2n - 1, 2) int32: the highest word that is kept, and the bits of the scale."""
    highest, scales = rank_tables(low, high, n, device)
    return torch.stack([highest, scales.view(torch.int32)], dim=1).contiguous()

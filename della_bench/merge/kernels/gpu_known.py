"""What the fused kernel on the GPU has to know of an expert's drop before it runs: ranks, cuts, extremes of a row."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from della_bench.merge.kernels import gpu_counts, gpu_grid
from della_bench.merge.kernels.gpu_device import BINS
from della_bench.merge.kernels.gpu_grid import Grid, tables
from della_bench.merge.kernels.gpu_table import Known
from della_bench.spec.tensor import TensorSpec
from della_bench.spec.thresholds import keep_bounds, kept_count

__all__ = ["KEYS", "Finder"]

KEYS: int = BINS.value  # of bases of 16 bits
_SCAN = 4096  # bins that a scan reads at a time
_HALVES = 2**16  # values of half a word
_ALIKE = 64  # of 2^30 random words none occurs so often


class Finder:
    """Finds this for the experts of one tensor.

    base, experts: flat. numbers: see `gpu_kernels`. grid: how the fused kernel cuts the tensor up.
    """

    def __init__(
        self,
        spec: TensorSpec,
        base: torch.Tensor,
        experts: Sequence[torch.Tensor],
        numbers: torch.Tensor,
        grid: Grid,
    ) -> None:
        self.spec, self.base, self.experts, self.numbers, self.grid = spec, base, experts, numbers, grid
        self.drop, self.device, self.wide_keys = spec.method.drop_kind, base.device, base.dtype == torch.float32
        self.whole = Grid(base.numel(), 1)
        self.density = spec.density or (1.0,) * len(experts)
        self.nothing = Known(numbers, numbers, numbers)

    def known_of(self, k: int) -> Known:
        """Return what is known of an expert for all rows together; ranks in a row are `row_ranks`."""
        if self.drop in ("magnitude", "magnitude_row"):
            return self._cuts(k, self.grid if self.drop == "magnitude_row" else self.whole)
        if self.drop == "magprune_norank":
            extremes = torch.tensor([2**31 - 1, 0], dtype=torch.int32).repeat(self.grid.rows, 1).to(self.device)
            gpu_counts.key_extremes[(self.grid.rows * self.grid.tiles,)](
                self.base, self.experts[k], extremes, self.grid.n, block=self.grid.block, enable_fp_fusion=False
            )
            return self.nothing._replace(rows=extremes)
        if self.drop == "magprune_layer" and self.wide_keys:
            return self.nothing._replace(rows=self._sorted_keys(k, self.whole, 0, 1))
        if self.drop == "magprune_layer":
            counts = self._counts(k, self.whole, 0, 1).to(torch.int64).reshape(-1)
            ranks = torch.where(counts > 0, 2 * counts.cumsum(0) - counts - 1, 0)
            highest, scales = tables(ranks, *keep_bounds(*self.spec.bounds_of(k)), self.whole.n)
            return self.nothing._replace(highest=highest, scales=scales)
        return self.nothing

    def _counts(self, k: int, grid: Grid, first: int, rows: int) -> torch.Tensor:
        """Return how often each key occurs in each row, (rows, 2^15) int32."""
        counts = torch.zeros(rows, KEYS, dtype=torch.int32, device=self.device)
        gpu_counts.count_keys[(rows * grid.tiles,)](
            self.base, self.experts[k], counts, first, grid.n, block=grid.block, enable_fp_fusion=False
        )
        return counts

    def _sorted_keys(self, k: int, grid: Grid, first: int, rows: int) -> torch.Tensor:
        """Return the 31-bit keys of each row in order, (rows, n) int32."""
        here = slice(first * grid.n, (first + rows) * grid.n)
        magnitudes = (self.experts[k][here].to(torch.float32) - self.base[here]).abs_()
        return magnitudes.view(torch.int32).reshape(rows, grid.n).sort(dim=1).values

    def row_ranks(self, k: int, first: int, rows: int) -> torch.Tensor:
        """Return doubled ranks by key, (rows, KEYS), or with 31-bit keys the sorted keys, (rows, n); both int32."""
        if self.wide_keys:
            return self._sorted_keys(k, self.grid, first, rows)
        counts = self._counts(k, self.grid, first, rows)
        gpu_counts.rank_counts[(rows,)](counts, block=_SCAN, enable_fp_fusion=False)
        return counts

    def _cuts(self, k: int, cut_grid: Grid) -> Known:
        """Return the cut of each row (or of the tensor), and which of its equals are kept; see `gpu_kernels`."""
        keep = kept_count(self.density[k], cut_grid.n)
        cuts = torch.empty(cut_grid.rows, 2, dtype=torch.int32, device=self.device)
        last_words = torch.empty(cut_grid.rows, dtype=torch.int32, device=self.device)
        step = max(1, gpu_grid.SCRATCH // max(_HALVES, cut_grid.n if self.wide_keys else KEYS))
        for first in range(0, cut_grid.rows, step):
            rows = min(step, cut_grid.rows - first)
            here = cuts[first : first + rows]
            if self.wide_keys:
                ordered = self._sorted_keys(k, cut_grid, first, rows)
                cut = ordered[:, cut_grid.n - keep].unsqueeze(1)
                here[:, :1] = cut
                here[:, 1:] = keep - (ordered > cut).sum(dim=1, keepdim=True)
            else:
                counts = self._counts(k, cut_grid, first, rows)
                gpu_counts.find_cuts[(rows,)](counts, here, cut_grid.n, keep, block=_SCAN, enable_fp_fusion=False)
            last_words[first : first + rows] = self._last_words(k, here, first, rows)
        cuts[:, 1:] = self._last_places(k, cuts, last_words)
        return self.nothing._replace(rows=cuts, highest=last_words)

    def _last_places(self, k: int, cuts: torch.Tensor, last_words: torch.Tensor) -> torch.Tensor:
        """Return the place in the tensor of the last equal that is kept of those with the last word, (rows or 1, 1)."""
        grid = self.grid
        found = torch.zeros(len(cuts), dtype=torch.int32, device=self.device)
        places = torch.full((len(cuts), _ALIKE), 2**31 - 1, dtype=torch.int32, device=self.device)
        gpu_counts.list_equals[(grid.rows * grid.tiles,)](
            self.base, self.experts[k], cuts, last_words, self.numbers[k], found, places, grid.n, capacity=_ALIKE,
            by_row=self.drop == "magnitude_row", aligned=grid.aligned, block=grid.block, enable_fp_fusion=False,
        )  # fmt: skip
        return places.sort(dim=1).values.gather(1, cuts[:, 1:].to(torch.int64) - 1)

    def _last_words(self, k: int, cuts: torch.Tensor, first: int, rows: int) -> torch.Tensor:
        """Return the last word of the equals that are kept at each cut, (rows,) int32 of its bits.

        cuts: of `rows` rows from `first` on, or of the whole tensor. What it says of how many equals are kept becomes
        how many of those with the last word are.
        """
        by_row = self.drop == "magnitude_row"
        grid = self.grid if by_row else self.whole
        upper, left = torch.zeros(rows, dtype=torch.int64, device=self.device), cuts[:, 1:].to(torch.int64)
        for lower in (False, True):
            counts = torch.zeros(rows, _HALVES, dtype=torch.int32, device=self.device)
            gpu_counts.count_words[((rows if by_row else 1) * grid.tiles,)](
                self.base, self.experts[k], cuts, upper.to(torch.int32), self.numbers[k], counts, first, grid.n,
                by_row=by_row, lower=lower, aligned=grid.aligned, block=grid.block, enable_fp_fusion=False,
            )  # fmt: skip
            up_to = counts.cumsum(dim=1, dtype=torch.int32)
            half = torch.searchsorted(up_to, left.to(torch.int32))
            left = left - up_to.gather(1, half) + counts.gather(1, half)
            upper, word = half.squeeze(1), upper * _HALVES + half.squeeze(1)
        cuts[:, 1:] = left
        return torch.where(word >= 2**31, word - 2**32, word).to(torch.int32)

"""Merging one tensor on the GPU, through Triton: one fused kernel, after small ones for what it needs to know before.

The fused kernel reads the base and all experts once and writes the result once; no delta or mask of the tensor's size
is ever stored. Before it, what depends on a whole row or tensor is found:

- ranks: a histogram of each row over all 15-bit keys (of 16-bit bases), turned into ranks by a scan. It takes 128 KiB
  a row and expert, so rows go in chunks of a bounded scratch. Bases of 32 bits have no such few keys: their rows (or
  all of them) are sorted by torch, and the fused kernel searches them.
- cuts: from the same histogram (or sort); then the last random word of those of its equals that are kept, by two
  histograms of words; then how many elements of this very word lie before each tile, so that the first are kept.
- the smallest and largest key of a row; exact L1 norms; how many elements agree with the election, for which the
  fused kernel runs twice.

Nothing here has been measured yet. It also runs on the CPU, slowly, in Triton's interpreter: set TRITON_INTERPRET=1
before Triton is imported.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext

import torch
import triton

from della_bench.merge import bits
from della_bench.merge.exact import norm_ratio
from della_bench.merge.kernels import gpu_grid
from della_bench.merge.kernels import gpu_kernels as kernels
from della_bench.merge.kernels.coverage import covers
from della_bench.merge.kernels.gpu_grid import Grid, rank_tables
from della_bench.merge.kernels.gpu_known import KEYS, Finder
from della_bench.merge.tensor import merge_tensor
from della_bench.spec.tensor import TensorSpec
from della_bench.spec.thresholds import ONE, exact, keep_bounds, threshold

__all__ = ["merge_tensor_gpu", "supports"]

_EXPERTS = 8  # their deltas all lie in registers
_LONGEST_RANKED_ROW = 2**20  # the tables by rank are twice as long
_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
_TRITON = tuple(int(part) for part in triton.__version__.split(".")[:2])
_INTERPRETED = not isinstance(kernels.merge_tiles, triton.JITFunction)
_RESCALES = ("inverse_keep", "l1", "none")
_SCALINGS = ("lambda", "ada_layer", "ada_row", "ada_row_inv")
_ELECT = {"none": kernels.NONE.value, "sum": kernels.SUM.value, "count": kernels.COUNT.value}
_KINDS = {
    "none": kernels.NONE.value,
    "random": kernels.RANDOM.value,
    "magprune": kernels.RANK_ROW.value,
    "magprune_layer": kernels.RANK_TENSOR.value,
    "magprune_norank": kernels.NORMED_ROW.value,
    "magnitude": kernels.CUT_TENSOR.value,
    "magnitude_row": kernels.CUT_ROW.value,
}
_ROW_KINDS = ("magprune", "magprune_norank", "magnitude_row")


def supports(spec: TensorSpec, base: torch.Tensor, experts: Sequence[torch.Tensor], dtype: torch.dtype) -> bool:
    """Whether the kernels cover a merge.

    They cover the rows of drop, elect and fuse that they know, on bfloat16, float16 and float32 tensors, in any
    mixture, of fewer than 2^30 elements and at most 8 experts, on one NVIDIA GPU (or on the CPU in the interpreter), by
    Triton 3.3 or later, which first takes tuples; not rows of more than 2^20 elements where they are ranked.
    """
    device = "cpu" if _INTERPRETED else "cuda"
    row = base.shape[-1] if base.dim() > 1 else base.numel()
    return (
        _TRITON >= (3, 3)
        and torch.version.hip is None
        and covers(spec, drops=_KINDS, rescales=_RESCALES, elects=_ELECT, scalings=_SCALINGS)
        and 0 < base.numel() < 2**30
        and len(experts) <= _EXPERTS
        and all(t.device.type == device and t.device == base.device and t.dtype in _DTYPES for t in (base, *experts))
        and dtype in _DTYPES
        and (spec.method.drop_kind != "magprune" or row <= _LONGEST_RANKED_ROW)
    )


def merge_tensor_gpu(
    spec: TensorSpec, name: str, base: torch.Tensor, experts: Sequence[torch.Tensor], dtype: torch.dtype
) -> torch.Tensor:
    """Do what `merge_tensor` does, for a merge that `supports` covers."""
    with nullcontext() if _INTERPRETED else torch.cuda.device(base.device):
        return _TensorMerge(spec, name, base, experts, dtype).run()


class _TensorMerge:
    """One tensor's merge: what is known of it, and the launches over its rows."""

    def __init__(
        self, spec: TensorSpec, name: str, base: torch.Tensor, experts: Sequence[torch.Tensor], dtype: torch.dtype
    ) -> None:
        self.spec, self.name, self.dtype = spec, name, dtype
        self.shape, self.device = base.shape, base.device
        self.base = base.reshape(-1)
        self.experts = tuple(expert.reshape(-1) for expert in experts)
        self.wide_keys = base.dtype == torch.float32
        self.drop, self.kind = spec.method.drop_kind, _KINDS[spec.method.drop_kind]
        self.inverse = spec.rescale == "inverse_keep"
        by_row = base.dim() > 1 and (self.drop in _ROW_KINDS or spec.method.scaling.startswith("ada_row"))
        rows = base.numel() // base.shape[-1] if by_row else 1
        self.grid = Grid(base.numel() // rows, rows)
        self.density = spec.density or (1.0,) * len(experts)
        self.dropped = [k for k, density in enumerate(self.density) if spec.method.drops and density < 1]
        self.numbers = self._numbers()
        self.factors = self._factors([1.0] * len(experts))
        self.finder = Finder(spec, self.base, self.experts, self.numbers, self.grid)
        self.known = [self.finder.nothing for _ in experts]

    def run(self) -> torch.Tensor:
        """Find what has to be known, then merge all rows."""
        for k in self.dropped:
            self.known[k] = self.finder.known_of(k)
        if self.spec.rescale == "l1" and self.dropped:
            l1 = self._l1_factors()
            if not all(map(math.isfinite, l1)):
                # Times infinity, a kept zero is NaN and a dropped one 0, which the kernels do not tell apart.
                shaped = [expert.reshape(self.shape) for expert in self.experts]
                return merge_tensor(self.spec, self.name, self.base.reshape(self.shape), shaped, self.dtype)
            self.factors = self._factors(l1)
        ratios = self._ratios() if self.spec.method.scaling.startswith("ada") else None
        out = torch.empty(self.base.numel(), dtype=self.dtype, device=self.device)
        self._for_chunks(lambda first, rows: self._merge(first, rows, out=out, ratios=ratios))
        return out.reshape(self.shape)

    def _numbers(self) -> torch.Tensor:
        """Return (experts, 4) int64: the Philox key, the highest word kept, the lowest threshold, and their span."""
        table = []
        for k, density in enumerate(self.density):
            key = bits.tensor_key(self.spec.seed, k, self.name)
            low, high = self._bounds(k) if k in self.dropped else (ONE, ONE)
            plain = threshold(exact(density)) if k in self.dropped else ONE
            table.append([key - 2**64 if key >= 2**63 else key, plain - 1, low, high - low])
        return torch.tensor(table, dtype=torch.int64).to(self.device)

    def _factors(self, l1: Sequence[float]) -> torch.Tensor:
        """Return (experts + 1, 2) float32: each expert's weight, and its scale if the same everywhere; lambda."""
        table = []
        for k, weight in enumerate(self.spec.weights):
            inverse = self.inverse and k in self.dropped
            table.append([weight, ONE / max(1, threshold(exact(self.density[k]))) if inverse else l1[k]])
        lambda_ = self.spec.lambda_ if self.spec.method.scaling == "lambda" else 1.0
        return torch.tensor([*table, [lambda_, 0.0]], dtype=torch.float32).to(self.device)

    def _bounds(self, k: int) -> tuple[int, int]:
        return keep_bounds(*self.spec.bounds_of(k))

    # The fused kernel.

    def _for_chunks(self, work: Callable[[int, int], None]) -> None:
        """Call work(first row, rows) for chunks of rows, whose ranks are known then."""
        if self.drop != "magprune" or not self.dropped:
            work(0, self.grid.rows)
            return
        step = max(1, gpu_grid.SCRATCH // (len(self.dropped) * (self.grid.n if self.wide_keys else KEYS)))
        for first in range(0, self.grid.rows, step):
            rows = min(step, self.grid.rows - first)
            for k in self.dropped:
                highest, scales = rank_tables(*self._bounds(k), self.grid.n, self.device)
                ranks = self.finder.row_ranks(k, first, rows)
                self.known[k] = self.finder.nothing._replace(rows=ranks, highest=highest, scales=scales)
            work(first, rows)

    def _merge(
        self,
        first: int,
        rows: int,
        out: torch.Tensor | None = None,
        votes: torch.Tensor | None = None,
        ratios: torch.Tensor | None = None,
    ) -> None:
        """Merge rows into `out`, or add to the votes."""
        grid = self.grid
        kernels.merge_tiles[(rows * grid.tiles,)](
            self.base, self.experts, self.base if out is None else out, self.numbers if votes is None else votes,
            self.factors if ratios is None else ratios, *zip(*self.known, strict=True), self.numbers, self.factors,
            first, grid.rows, grid.n,
            count=len(self.experts), kind=self.kind, drops=sum(1 << k for k in self.dropped), inverse=self.inverse,
            elect=_ELECT[self.spec.elect], normalize=self.spec.normalize, scaled=ratios is not None,
            voting=votes is not None, depth=self._depth, aligned=grid.aligned, block=grid.block,
            enable_fp_fusion=False,
        )  # fmt: skip

    @property
    def _depth(self) -> int:
        """Steps of a search in sorted keys; 0 where there is none, so that no kernel is compiled anew for it."""
        searches = self.wide_keys and self.drop in ("magprune", "magprune_layer")
        return self.grid.n.bit_length() if searches else 0

    # What depends on the whole tensor and its drops.

    def _l1_factors(self) -> list[float]:
        """Return the L1 norm of each delta before its drop over that after it, as `drop._l1_factor` does."""
        sums = torch.zeros(len(self.experts), 2, 256, dtype=torch.int64, device=self.device)
        grid = self.grid

        def add(first: int, rows: int) -> None:
            for k in self.dropped:
                kernels.magnitude_sums[(rows * grid.tiles,)](
                    self.base, self.experts[k], sums[k], *self.known[k], self.numbers[k], self.factors[k],
                    first, grid.n, kind=self.kind, depth=self._depth, aligned=grid.aligned, block=grid.block,
                    enable_fp_fusion=False,
                )  # fmt: skip

        self._for_chunks(add)
        return [norm_ratio(*both) if k in self.dropped else 1.0 for k, both in enumerate(sums.tolist())]

    def _ratios(self) -> torch.Tensor:
        """Return the ratio of elements before and after the election, (experts, rows) float32; see `fuse.ada_ratio`."""
        scaling = self.spec.method.scaling
        votes = torch.zeros(2, len(self.experts), self.grid.rows, dtype=torch.int32, device=self.device)
        self._for_chunks(lambda first, rows: self._merge(first, rows, votes=votes))
        if scaling == "ada_layer":
            votes = votes.sum(dim=2, keepdim=True).expand(votes.shape)
        before, after = votes.flip(0) if scaling == "ada_row_inv" else votes
        quotient = before.to(torch.float64) / after.to(torch.float64)
        return torch.where(after == 0, 1.0, quotient).to(torch.float32).contiguous()

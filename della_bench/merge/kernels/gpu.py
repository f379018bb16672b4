"""Merging one tensor on the GPU, through Triton: one fused kernel, after small ones for what it needs to know before.

The fused kernel reads the base and all experts once and writes the result once; no delta or mask of the tensor's size
is ever stored. Before it, what depends on a whole row or tensor is found:

- ranks: a histogram of each row over all 15-bit keys (of 16-bit bases), turned into ranks by a scan. It takes 128 KiB
  a row and expert, so rows go in chunks of a bounded scratch. Bases of 32 bits have no such few keys: their rows (or
  all of them) are sorted by torch, and the fused kernel searches them. This is several times slower.
- cuts: from the same histogram (or sort); then how many keys equal to it lie before each tile, so that the first are
  kept.
- the smallest and largest key of a row; exact L1 norms; how many elements agree with the election.

It also runs on the CPU, slowly, in Triton's interpreter: set TRITON_INTERPRET=1 before Triton is imported.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from fractions import Fraction
from functools import lru_cache

import torch
import triton

from della_bench.merge import bits
from della_bench.merge.kernels import gpu_kernels as kernels
from della_bench.merge.tensor import merge_tensor
from della_bench.merge.thresholds import ONE, exact, keep_bounds, kept_count, threshold
from della_bench.spec import MergeSpec

__all__ = ["merge_tensor_gpu", "supports"]

_SCRATCH = 2**26  # int32 elements: 256 MiB of ranks or sorted keys, for all experts together
_TILE, _SCAN = 1024, 4096  # elements that one program works on; bins that a scan reads at a time
_EXPERTS = 8  # their deltas all lie in registers
_LONGEST_RANKED_ROW = 2**20  # the tables by rank are twice as long
_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
_BINS: int = kernels.BINS.value
_INTERPRETED = not isinstance(kernels.merge_tiles, triton.JITFunction)
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
_Known = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def supports(spec: MergeSpec, base: torch.Tensor, experts: Sequence[torch.Tensor], dtype: torch.dtype) -> bool:
    """Whether the kernels cover a merge.

    They cover every delta method on bfloat16, float16 and float32 tensors, in any mixture, of fewer than 2^30 elements
    and at most 8 experts, on one GPU (or on the CPU in the interpreter); not rows of more than 2^20 elements where
    they are ranked.
    """
    device = "cpu" if _INTERPRETED else "cuda"
    row = base.shape[-1] if base.dim() > 1 else base.numel()
    least = min(spec.density, default=1.0)
    return (
        spec.method.kind == "delta"
        and spec.lambda_ != 0
        and 0 < base.numel() < 2**30
        and len(experts) <= _EXPERTS
        and all(t.device.type == device and t.device == base.device and t.dtype in _DTYPES for t in (base, *experts))
        and dtype in _DTYPES
        and (spec.method.drop != "magprune" or row <= _LONGEST_RANKED_ROW)
        # A threshold of 0 cannot be written as "at most the threshold less 1".
        and (least >= 1 or keep_bounds(least, spec.epsilon or 0.0)[0] > 0)
    )


def merge_tensor_gpu(
    spec: MergeSpec, name: str, base: torch.Tensor, experts: Sequence[torch.Tensor], dtype: torch.dtype
) -> torch.Tensor:
    """Do what `merge_tensor` does, for a merge that `supports` covers."""
    with nullcontext() if _INTERPRETED else torch.cuda.device(base.device):
        return _TensorMerge(spec, name, base, experts, dtype).run()


class _TensorMerge:
    """One tensor's merge: what is known of it, and the launches over its rows."""

    def __init__(
        self, spec: MergeSpec, name: str, base: torch.Tensor, experts: Sequence[torch.Tensor], dtype: torch.dtype
    ) -> None:
        self.spec, self.name, self.dtype = spec, name, dtype
        self.shape, self.device = base.shape, base.device
        self.base = base.reshape(-1)
        self.experts = tuple(expert.reshape(-1) for expert in experts)
        self.wide_keys = base.dtype == torch.float32
        method, size = spec.method, base.numel()
        by_row = base.dim() > 1 and (method.drop in _ROW_KINDS or method.scaling.startswith("ada_row"))
        self.n = base.shape[-1] if by_row else size
        self.rows = size // self.n
        self.density = spec.density or (1.0,) * len(experts)
        dropped = [method.drop != "none" and density < 1 for density in self.density]
        self.dropped = [k for k, drops in enumerate(dropped) if drops]
        self.inverse = spec.rescale == "inverse_keep"
        self.block = min(_TILE, max(16, triton.next_power_of_2(self.n)))
        self.tiles = triton.cdiv(self.n, self.block)
        self.numbers = self._numbers()
        self.factors = self._factors([1.0] * len(experts))
        # What the kernels know of each expert; of what is unused, any tensor.
        self.known: list[_Known] = [(self.numbers, self.numbers, self.numbers) for _ in experts]

    def run(self) -> torch.Tensor:
        """Find what has to be known, then merge all rows."""
        if self.spec.method.drop != "magprune":
            for k in self.dropped:
                self.known[k] = self._know_tensor(k)
        if self.spec.rescale == "l1" and self.dropped:
            l1 = self._l1_factors()
            if not all(map(math.isfinite, l1)):
                # Times infinity, a kept zero is NaN and a dropped one 0, which the kernels do not tell apart.
                shaped = [expert.reshape(self.shape) for expert in self.experts]
                return merge_tensor(self.spec, self.name, self.base.reshape(self.shape), shaped, self.dtype)
            self.factors = self._factors(l1)
        out = torch.empty(self.base.numel(), dtype=self.dtype, device=self.device)
        scaled = self.spec.method.scaling.startswith("ada")
        ratios = self._ratios(out) if scaled else self.factors
        self._each_chunk(lambda first, rows: self._merge(first, rows, out, ratios=ratios, scaled=scaled))
        return out.reshape(self.shape)

    # Launches.

    def _numbers(self) -> torch.Tensor:
        """Return (experts, 4) int64: the Philox key, the threshold less 1, the lowest threshold, the thresholds' span."""
        table = []
        for k, density in enumerate(self.density):
            key = bits.tensor_key(self.spec.seed, k, self.name)
            low, high = keep_bounds(density, self.spec.epsilon or 0.0) if k in self.dropped else (ONE, ONE)
            plain = threshold(exact(density)) if k in self.dropped else ONE
            table.append([key - 2**64 if key >= 2**63 else key, plain - 1, low, high - low])
        return torch.tensor(table, dtype=torch.int64).to(self.device)

    def _factors(self, l1: Sequence[float]) -> torch.Tensor:
        """Return (experts + 1, 2) float32: each expert's weight, and its scale if the same everywhere; lambda."""
        table = []
        for weight, density, factor in zip(self.spec.weights, self.density, l1, strict=True):
            scale = ONE / max(1, threshold(exact(density))) if self.inverse and density < 1 else factor
            table.append([weight, scale])
        lambda_ = self.spec.lambda_ if self.spec.method.scaling == "lambda" else 1.0
        return torch.tensor([*table, [lambda_, 0.0]], dtype=torch.float32).to(self.device)

    def _each_chunk(self, work: Callable[[int, int], None]) -> None:
        """Call work(first row, rows) for chunks of rows, their ranks known."""
        if self.spec.method.drop != "magprune" or not self.dropped:
            work(0, self.rows)
            return
        step = max(1, _SCRATCH // (len(self.dropped) * (self.n if self.wide_keys else _BINS)))
        for first in range(0, self.rows, step):
            rows = min(step, self.rows - first)
            for k in self.dropped:
                low, high = keep_bounds(self.density[k], self.spec.epsilon or 0.0)
                tables = _rank_tables(low, high, self.n, self.device)
                self.known[k] = (self._row_ranks(k, first, rows), *tables)
            work(first, rows)

    def _merge(
        self, first: int, rows: int, out: torch.Tensor, *, ratios: torch.Tensor, scaled: bool, voting: bool = False
    ) -> None:
        firsts, seconds, thirds = zip(*self.known, strict=True)
        kernels.merge_tiles[(rows * self.tiles,)](
            self.base, self.experts, out, ratios, ratios, firsts, seconds, thirds, self.numbers, self.factors,
            first, self.rows, self.n,
            count=len(self.experts), kind=_KINDS[self.spec.method.drop], drops=sum(1 << k for k in self.dropped),
            inverse=self.inverse, elect=_ELECT[self.spec.elect], normalize=self.spec.normalize, scaled=scaled,
            voting=voting, depth=self.n.bit_length(), aligned=self._aligned, block=self.block,
            enable_fp_fusion=False,
        )  # fmt: skip

    @property
    def _aligned(self) -> bool:
        """Whether every tile starts at a whole counter of Philox."""
        return self.rows == 1 or self.n % 4 == 0

    # What is known of a row or of the tensor.

    def _counts(self, k: int, first: int, rows: int) -> torch.Tensor:
        """Return how often each key of expert k occurs in each row, (rows, 2^15) int32."""
        counts = torch.zeros(rows, _BINS, dtype=torch.int32, device=self.device)
        kernels.count_keys[(rows * self.tiles,)](
            self.base, self.experts[k], counts, first, self.n, block=self.block, enable_fp_fusion=False
        )
        return counts

    def _sorted_keys(self, k: int, first: int, rows: int) -> torch.Tensor:
        """Return the 31-bit keys of expert k in order, (rows, n) int32."""
        here = slice(first * self.n, (first + rows) * self.n)
        magnitudes = (self.experts[k][here].to(torch.float32) - self.base[here]).abs_()
        return magnitudes.view(torch.int32).reshape(rows, self.n).sort(dim=1).values

    def _row_ranks(self, k: int, first: int, rows: int) -> torch.Tensor:
        if self.wide_keys:
            return self._sorted_keys(k, first, rows)
        counts = self._counts(k, first, rows)
        kernels.rank_counts[(rows,)](counts, block=_SCAN, enable_fp_fusion=False)
        return counts

    def _know_tensor(self, k: int) -> _Known:
        kind = self.spec.method.drop
        if kind in ("magnitude", "magnitude_row"):
            return self._cuts(k, by_row=kind == "magnitude_row")
        if kind == "magprune_norank":
            extremes = torch.tensor([2**31 - 1, 0], dtype=torch.int32).repeat(self.rows, 1).to(self.device)
            kernels.key_extremes[(self.rows * self.tiles,)](
                self.base, self.experts[k], extremes, self.n, block=self.block, enable_fp_fusion=False
            )
            return extremes, extremes, extremes
        if kind == "magprune_layer" and self.wide_keys:
            ordered = self._whole(self._sorted_keys, k)
            return ordered, ordered, ordered
        if kind == "magprune_layer":
            counts = self._whole(self._counts, k).to(torch.int64).reshape(-1)
            ranks = torch.where(counts > 0, 2 * counts.cumsum(0) - counts - 1, 0)
            low, high = keep_bounds(self.density[k], self.spec.epsilon or 0.0)
            return (counts, *_tables(ranks, low, high, self.base.numel()))
        return self.known[k]

    def _whole(self, find: Callable[[int, int, int], torch.Tensor], k: int) -> torch.Tensor:
        """Find something of the whole tensor as if it were one row."""
        whole = _TensorMerge.__new__(_TensorMerge)
        whole.__dict__.update(self.__dict__)
        return find(k, 0, 1)

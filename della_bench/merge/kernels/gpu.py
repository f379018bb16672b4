"""Merging on the GPU, through Triton: one fused kernel over many tensors, after small ones for what it needs to know.

The fused kernel reads the base and all experts once and writes the result once; no delta or mask of a tensor's size is
ever stored. Before it, what depends on a whole row or tensor is found:

- ranks: of bfloat16 by the program that merges the row, in a kernel of its own (`gpu_row_kernels`). Where that does not
  reach: a histogram of each row over all 15-bit keys (of 16-bit bases), turned into ranks by a scan. It takes 128 KiB a
  row and expert, so rows go in chunks of a bounded scratch. Bases of 32 bits have no such few keys: their rows (or all
  of them) are sorted by torch, and the fused kernel searches them.
- cuts of whole tensors: see `gpu_cuts`, which has a fused kernel of its own. Cuts of rows, and of tensors that it
  misses: from the same histogram (or sort); then the last random word of those of its equals that are kept, by two
  histograms of words; then where the last of this very word lies.
- the smallest and largest key of a row; exact L1 norms; how many elements agree with the election, for which the
  fused kernel runs twice.

It also runs on the CPU, slowly, in Triton's interpreter: set TRITON_INTERPRET=1 before Triton is imported.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch

from della_bench.merge.exact import norm_ratio
from della_bench.merge.kernels import gpu_cuts, gpu_grid, gpu_rows
from della_bench.merge.kernels import gpu_kernels as kernels
from della_bench.merge.kernels.gpu_device import INTERPRETED, TRITON
from della_bench.merge.kernels.gpu_known import KEYS, Finder
from della_bench.merge.kernels.gpu_plan import Plan, plan_of
from della_bench.merge.kernels.gpu_table import Known, Launch, Part, Variant, upload
from della_bench.merge.kernels.job import MISSED, Job
from della_bench.merge.tensor import merge_tensor
from della_bench.spec.tensor import TensorSpec

__all__ = ["merge_tensor_gpu", "merge_tensors_gpu", "plan_for", "supports"]

_HAS_TRITON = TRITON >= (3, 3) and torch.version.hip is None  # 3.3 first takes tuples
_DEVICE = "cpu" if INTERPRETED else "cuda"


def supports(spec: TensorSpec, base: torch.Tensor, experts: Sequence[torch.Tensor], dtype: torch.dtype) -> bool:
    """Whether the kernels cover a merge."""
    return plan_for(Job(spec, "", base, experts, dtype)) is not None


def plan_for(job: Job) -> Plan | None:
    """Return how a tensor is merged on one NVIDIA GPU (or on the CPU in the interpreter); None if it is not covered.

    See `plan_of` for what is covered.
    """
    spec, _, base, experts, dtype = job
    device = base.device
    if not _HAS_TRITON or device.type != _DEVICE or [each.device for each in experts] != [device] * len(experts):
        return None
    return plan_of(spec, base.shape, base.dtype, tuple([each.dtype for each in experts]), dtype)


def merge_tensor_gpu(
    spec: TensorSpec, name: str, base: torch.Tensor, experts: Sequence[torch.Tensor], dtype: torch.dtype
) -> torch.Tensor:
    """Do what `merge_tensor` does, for a merge that `supports` covers."""
    job = Job(spec, name, base, experts, dtype)
    plan = plan_for(job)
    if plan is None:
        raise ValueError(f"{name}: not a merge that the kernels cover")
    tensors, found, again = merge_tensors_gpu([job], [plan])
    if int(found) & MISSED:
        again(0)
    return tensors[0]


def merge_tensors_gpu(
    jobs: Sequence[Job], plans: Sequence[Plan]
) -> tuple[list[torch.Tensor], torch.Tensor, Callable[[int], int]]:
    """Do what `merge_tensor` does, for merges on one device by what `plan_for` says of each.

    Also returns what was found wrong, (jobs,) int32 on the device: 1 where a source or the result may not be finite,
    MISSED where the tensor is not merged yet: the function that is returned last merges it, and returns what it found.
    """
    device = jobs[0].base.device
    with _on(device):
        merges = [_TensorMerge(job, plan) for job, plan in zip(jobs, plans, strict=True)]
        together: dict[Variant, list[int]] = {}
        alone = []
        for index, merge in enumerate(merges):
            if merge.plan.is_single:
                together.setdefault(merge.variant(), []).append(index)
            else:
                alone.append(index)
        found = [merges[index].run() for index in alone]
        found += [_merge_together(variant, [merges[index] for index in group]) for variant, group in together.items()]
        order = [*alone, *(index for group in together.values() for index in group)]
        in_order = torch.cat(found)
        if order != sorted(order):
            in_order = in_order[upload(device, np.argsort(order))[0]]

    def again(index: int) -> int:
        with _on(device):
            return int(merges[index].run())

    return [merge.out for merge in merges], in_order, again


def _on(device: torch.device) -> AbstractContextManager[object]:
    """Return the context in which kernels are launched on a device."""
    return nullcontext() if INTERPRETED else torch.cuda.device(device)


def _merge_together(variant: Variant, merges: list[_TensorMerge]) -> torch.Tensor:
    """Merge tensors whose drops need nothing known before; returns what was found wrong with each."""
    parts = [merge.part for merge in merges]
    if variant.drops and variant.kind == kernels.CUT_TENSOR.value:
        return gpu_cuts.merge_by_cuts(variant, parts, [merge.plan.density for merge in merges])
    if variant.drops and variant.kind == kernels.RANK_ROW.value:
        return gpu_rows.merge_rows(variant, parts)
    launch = Launch(variant, parts, merges[0].device)
    launch.run()
    return launch.found


class _TensorMerge:
    """One tensor's merge: what is known of it, and the launches over its rows."""

    def __init__(self, job: Job, plan: Plan) -> None:
        self.spec, self.name, base, experts, self.dtype = job
        self.plan, self.grid, self.device = plan, plan.grid, base.device
        self.base, self.experts = base.contiguous(), tuple([expert.contiguous() for expert in experts])
        self.out = torch.empty_like(self.base, dtype=self.dtype)  # half the host's time of `torch.empty`
        known = plan.known_ranks(self.device) if plan.is_single else None
        self.part = self._part(plan.factors, known)

    def _part(self, factors: tuple[float, ...], known: Sequence[Known] | None) -> Part:
        numbers = self.plan.numbers(self.name)
        return Part(self.grid, self.base, self.experts, self.out, numbers, factors, known)

    def variant(self, *, scaled: bool = False, voting: bool = False) -> Variant:
        """Return what of it the kernels are compiled for."""
        variant = self.plan.variants[self.part.is_even]
        return variant._replace(scaled=scaled, voting=voting) if scaled or voting else variant

    def run(self) -> torch.Tensor:
        """Find what has to be known, then merge all rows; returns what was found wrong, int32 of one element."""
        numbers = torch.tensor(self.part.numbers, dtype=torch.int64).to(self.device)
        flat = [expert.reshape(-1) for expert in self.experts]
        self.finder = Finder(self.spec, self.base.reshape(-1), flat, numbers, self.grid)
        self.known = [self.finder.nothing for _ in self.experts]
        for k in self.plan.dropped:
            self.known[k] = self.finder.known_of(k)
        factors = self.plan.factors
        if self.spec.rescale == "l1" and self.plan.dropped:
            l1 = self._l1_factors()
            if not all(map(math.isfinite, l1)):
                # Times infinity, a kept zero is NaN and a dropped one 0, which the kernels do not tell apart.
                self.out = merge_tensor(self.spec, self.name, self.base, self.experts, self.dtype)
                return torch.ones(1, dtype=torch.int32, device=self.device)
            factors = (*(number for pair in zip(self.spec.weights, l1, strict=True) for number in pair), *factors[-2:])
        self.part = self._part(factors, self.known)  # shares the list, which chunks of rows change
        self.part.ratios = self._ratios() if self.spec.method.scaling.startswith("ada") else None
        seen = self._launch_chunks(self.variant(scaled=self.part.ratios is not None))
        del self.finder, self.known, self.part  # they hold tables of the tensor's size
        return seen

    def _launch_chunks(self, variant: Variant) -> torch.Tensor:
        """Launch a variant over all rows; returns what was found wrong."""
        found = torch.zeros(1, dtype=torch.int32, device=self.device)

        def work(first: int, rows: int) -> None:
            self.part.first, self.part.rows = first, rows
            launch = Launch(variant, [self.part], self.device)
            launch.run()
            found.bitwise_or_(launch.found)

        self._for_chunks(work)
        return found

    def _for_chunks(self, work: Callable[[int, int], None]) -> None:
        """Call work(first row, rows) for chunks of rows, whose ranks are known then."""
        dropped = self.plan.dropped
        if self.spec.method.drop_kind != "magprune" or not dropped:
            work(0, self.grid.rows)
            return
        wide_keys = self.base.dtype == torch.float32
        step = max(1, gpu_grid.SCRATCH // (len(dropped) * (self.grid.n if wide_keys else KEYS)))
        for first in range(0, self.grid.rows, step):
            rows = min(step, self.grid.rows - first)
            for k in dropped:
                highest, scales = self.plan.rank_tables(k, self.device)
                ranks = self.finder.row_ranks(k, first, rows)
                self.known[k] = self.finder.nothing._replace(rows=ranks, highest=highest, scales=scales)
            work(first, rows)

    # What depends on the whole tensor and its drops.

    def _l1_factors(self) -> list[float]:
        """Return the L1 norm of each delta before its drop over that after it, as `drop._l1_factor` does."""
        sums = torch.zeros(len(self.experts), 2, 256, dtype=torch.int64, device=self.device)
        grid, variant = self.grid, self.variant()
        factors = torch.tensor(self.plan.factors, dtype=torch.float32).to(self.device)

        def add(first: int, rows: int) -> None:
            for k in self.plan.dropped:
                kernels.magnitude_sums[(rows * grid.tiles,)](
                    self.base, self.experts[k], sums[k], *self.known[k], self.finder.numbers[k], factors[2 * k :],
                    first, grid.n, kind=variant.kind, depth=variant.depth, aligned=grid.aligned, block=grid.block,
                    enable_fp_fusion=False,
                )  # fmt: skip

        self._for_chunks(add)
        return [norm_ratio(*both) if k in self.plan.dropped else 1.0 for k, both in enumerate(sums.tolist())]

    def _ratios(self) -> torch.Tensor:
        """Return the ratio of elements before and after the election, (experts, rows) float32; see `fuse.ada_ratio`."""
        scaling = self.spec.method.scaling
        votes = torch.zeros(2, len(self.experts), self.grid.rows, dtype=torch.int32, device=self.device)
        self.part.votes = votes
        self._launch_chunks(self.variant(voting=True))
        if scaling == "ada_layer":
            votes = votes.sum(dim=2, keepdim=True).expand(votes.shape)
        before, after = votes.flip(0) if scaling == "ada_row_inv" else votes
        quotient = before.to(torch.float64) / after.to(torch.float64)
        return torch.where(after == 0, 1.0, quotient).to(torch.float32).contiguous()

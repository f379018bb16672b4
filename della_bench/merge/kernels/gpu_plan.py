"""What follows of a merge on the GPU from its spec, shape and dtypes alone: worked out once for all tensors alike."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch

from della_bench.merge import bits
from della_bench.merge.kernels import gpu_fuse
from della_bench.merge.kernels import gpu_kernels as kernels
from della_bench.merge.kernels.coverage import covers
from della_bench.merge.kernels.gpu_grid import Grid, rank_rules, rank_tables
from della_bench.merge.kernels.gpu_rows import covers_rows
from della_bench.merge.kernels.gpu_table import Known, Variant
from della_bench.spec.tensor import TensorSpec
from della_bench.spec.thresholds import ONE, exact, keep_bounds, threshold

__all__ = ["Plan", "plan_of"]

_EXPERTS = 8  # their deltas all lie in registers
_LONGEST_RANKED_ROW = 2**20  # the tables by rank are twice as long
_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
_RESCALES = ("inverse_keep", "l1", "none")
_SCALINGS = ("lambda", "ada_layer", "ada_row", "ada_row_inv")
_ELECT = {"none": gpu_fuse.NONE.value, "sum": gpu_fuse.SUM.value, "count": gpu_fuse.COUNT.value}
_KINDS = {
    "none": kernels.NO_DROP.value,
    "random": kernels.RANDOM.value,
    "magprune": kernels.RANK_ROW.value,
    "magprune_layer": kernels.RANK_TENSOR.value,
    "magprune_norank": kernels.NORMED_ROW.value,
    "magnitude": kernels.CUT_TENSOR.value,
    "magnitude_row": kernels.CUT_ROW.value,
}
_ROW_KINDS = ("magprune", "magprune_norank", "magnitude_row")


@dataclass(frozen=True)
class Plan:
    """How tensors of one spec, shape and dtypes are merged.

    bounds: of each expert the highest word kept, the lowest threshold, and their span. factors: see `gpu_kernels`.
    is_single: whether one launch merges all of it, alone or with other tensors.
    """

    spec: TensorSpec
    grid: Grid
    variant: Variant
    density: tuple[float, ...]
    dropped: tuple[int, ...]
    bounds: tuple[tuple[int, int, int], ...]
    factors: tuple[float, ...]
    is_single: bool

    def numbers(self, name: str) -> tuple[tuple[int, ...], ...]:
        """Return the numbers of a tensor: of each expert its Philox key, and its bounds."""
        return _numbers(self.spec.seed, self.bounds, name)

    @cached_property
    def variants(self) -> tuple[Variant, Variant]:
        """The variant of tensors that are not `even`, and of those that are."""
        return self.variant, self.variant._replace(even=True)

    def known_ranks(self, device: torch.device) -> list[Known] | None:
        """Return the rules of all ranks in a row, where that is what a single launch looks up."""
        if self.variant.kind != kernels.RANK_ROW.value or not self.dropped:
            return None
        rules = [rank_rules(low, low + span, self.grid.n, device) for _, low, span in self.bounds]
        return [Known(each, each, each) for each in rules]

    def rank_tables(self, k: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the thresholds and scales of an expert by rank."""
        _, low, span = self.bounds[k]
        return rank_tables(low, low + span, self.grid.n, device)


@lru_cache(maxsize=2**14)
def plan_of(
    spec: TensorSpec,
    shape: tuple[int, ...],
    base: torch.dtype,
    experts: tuple[torch.dtype, ...],
    dtype: torch.dtype,
) -> Plan | None:
    """Return how tensors are merged; None where the kernels do not cover it.

    They cover the rows of drop, elect and fuse that they know, on bfloat16, float16 and float32 tensors, in any
    mixture, of fewer than 2^30 elements and at most 8 experts; not rows of more than 2^20 elements that are ranked, nor
    a scaling by rows where ranks are those of the tensor.
    """
    size = 1
    for length in shape:
        size *= length
    row = shape[-1] if len(shape) > 1 else size
    if not (
        covers(spec, drops=_KINDS, rescales=_RESCALES, elects=_ELECT, scalings=_SCALINGS)
        and 0 < size < 2**30
        and len(experts) <= _EXPERTS
        and all(each in _DTYPES for each in (base, *experts, dtype))
        and (spec.method.drop_kind != "magprune" or row <= _LONGEST_RANKED_ROW)
        and not (spec.method.drop_kind == "magprune_layer" and spec.method.scaling.startswith("ada_row"))
    ):
        return None
    method, drop = spec.method, spec.method.drop_kind
    by_row = len(shape) > 1 and (drop in _ROW_KINDS or method.scaling.startswith("ada_row"))
    rows = size // row if by_row else 1
    grid = Grid(size // rows, rows)
    density = spec.density or (1.0,) * len(experts)
    dropped = tuple(k for k, each in enumerate(density) if method.drops and each < 1)
    bounds = tuple(_bounds(*spec.bounds_of(k)) if k in dropped else (ONE - 1, ONE, 0) for k in range(len(experts)))
    factors: list[float] = []
    for k, weight in enumerate(spec.weights):
        inverse = spec.rescale == "inverse_keep" and k in dropped
        factors += [weight, ONE / max(1, bounds[k][0] + 1) if inverse else 1.0]
    factors += [spec.lambda_ if method.scaling == "lambda" else 1.0, 0.0]
    searches = base == torch.float32 and drop in ("magprune", "magprune_layer")
    variant = Variant(
        base, experts, dtype, _KINDS[drop], sum(1 << k for k in dropped), spec.rescale == "inverse_keep",
        _ELECT[spec.elect], spec.normalize, grid.n.bit_length() if searches else 0, grid.aligned, grid.block,
    )  # fmt: skip
    fits = {"none": True, "random": True, "magnitude": len(set(experts)) == 1, "magprune": covers_rows(variant, grid)}
    is_single = method.scaling == "lambda" and (not dropped or (spec.rescale != "l1" and fits.get(drop, False)))
    return Plan(spec, grid, variant, density, dropped, bounds, tuple(factors), is_single)


def _bounds(density: float, epsilon: float) -> tuple[int, int, int]:
    low, high = keep_bounds(density, epsilon)
    return threshold(exact(density)) - 1, low, high - low


@lru_cache(maxsize=2**13)
def _numbers(seed: int, bounds: tuple[tuple[int, int, int], ...], name: str) -> tuple[tuple[int, ...], ...]:
    keys = (bits.tensor_key(seed, k, name) for k in range(len(bounds)))
    return tuple((key - 2**64 if key >= 2**63 else key, *each) for key, each in zip(keys, bounds, strict=True))

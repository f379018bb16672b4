"""Tensors to merge on a device, and what came of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from della_bench.spec.tensor import TensorSpec

if TYPE_CHECKING:
    import torch

__all__ = ["MISSED", "Job", "Merged"]

MISSED = 4  # found where a fast way does not reach, and the tensor has to be merged another way


class Job(NamedTuple):
    """A tensor to merge, and the dtype of the result."""

    spec: TensorSpec
    name: str
    base: torch.Tensor
    experts: Sequence[torch.Tensor]
    dtype: torch.dtype


@dataclass(frozen=True)
class Merged:
    """The tensors that jobs give, which the device may still be computing.

    found: what was found wrong, (jobs,) int32: 1 where a source or the result may not be finite, MISSED where the
    tensor is not merged yet. again: merges it, given its place, and returns what it found.
    """

    jobs: Sequence[Job]
    tensors: Sequence[torch.Tensor]
    found: torch.Tensor
    again: Callable[[int], int]

    def first_fault(self) -> tuple[int, int | None] | None:
        """Wait for the device; return the first job with a fault, and which of its sources is not finite.

        0 is the base, 1 the first expert; None where the sources are finite and the result is not.
        """
        import torch

        for index, seen in enumerate(self.found.tolist()):
            found = self.again(index) if seen & MISSED else seen
            sources = (self.jobs[index].base, *self.jobs[index].experts)
            suspects = [*sources, self.tensors[index]] if found else []
            for position, tensor in enumerate(suspects):
                if not bool(torch.isfinite(tensor).all()):
                    return index, position if position < len(sources) else None
        return None

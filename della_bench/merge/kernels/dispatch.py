"""Fast implementations of the reference `della_bench.merge.tensor.merge_tensor`; each equals it bit for bit.

Nothing is compiled or imported before the first tensor is merged, and torch not at all where the loops on the CPU cover
the merge.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING

from della_bench.checkpoint.tensor import HostTensor, dtype_name, torch_dtype
from della_bench.merge.kernels.coverage import BrokenSourceError
from della_bench.merge.kernels.job import Job, Merged
from della_bench.merge.kernels.workers import Workers
from della_bench.spec import MergeSpec
from della_bench.spec.tensor import TensorSpec

if TYPE_CHECKING:
    import torch

    from della_bench.merge.kernels.gpu_plan import Plan

__all__ = ["is_finite", "merge_device_tensors", "merge_host_tensors", "merge_tensor_fast", "working"]


def merge_tensor_fast(
    spec: MergeSpec | TensorSpec,
    name: str,
    base: torch.Tensor,
    experts: Sequence[torch.Tensor],
    dtype: torch.dtype | None = None,
) -> torch.Tensor:
    """Do what `merge_tensor` does, by the fastest implementation that covers the merge; else by the reference.

    Raises BrokenSourceError on the CPU; elsewhere the caller makes sure that the sources are finite.
    """
    dtype = dtype or base.dtype
    if base.device.type == "cpu":
        sources = [HostTensor.of(tensor) for tensor in (base, *experts)]
        with Workers() as workers:
            return merge_host_tensors(spec, name, sources, dtype_name(dtype), workers).to_torch()
    from della_bench.merge.tensor import merge_tensor

    job = Job(spec.at(name), name, base, experts, dtype)
    if _plan(job) is not None:
        from della_bench.merge.kernels import gpu

        return gpu.merge_tensor_gpu(*job)
    return merge_tensor(*job)


def merge_device_tensors(jobs: Sequence[Job]) -> Merged:
    """Do what `merge_tensor` does for many tensors on one device that is no CPU.

    The kernels see which sources are not finite; the reference is not asked to merge those.
    """
    import torch

    from della_bench.merge.tensor import merge_tensor

    tensors: dict[int, torch.Tensor] = {}
    found = torch.zeros(0)
    again: Callable[[int], int] | None = None
    plans = {index: plan for index, job in enumerate(jobs) if (plan := _plan(job)) is not None}
    covered = list(plans)
    if covered:
        from della_bench.merge.kernels import gpu

        merged, found, again = gpu.merge_tensors_gpu([jobs[index] for index in covered], list(plans.values()))
        tensors = dict(zip(covered, merged, strict=True))
    if len(covered) < len(jobs):
        seen, found = found, torch.ones(len(jobs), dtype=torch.int32, device=jobs[0].base.device)
        if covered:
            found[torch.tensor(covered, device=found.device)] = seen
        for index, job in enumerate(jobs):
            if index not in tensors:
                is_sound = all(is_finite(source) for source in (job.base, *job.experts))
                tensors[index] = merge_tensor(*job) if is_sound else job.base

    def merge_again(index: int) -> int:
        return again(covered.index(index)) if again is not None else 0

    return Merged(jobs, [tensors[index] for index in range(len(jobs))], found, merge_again)


def _plan(job: Job) -> Plan | None:
    """Return how the kernels merge a tensor on the GPU; None where they do not cover it."""
    if job.base.device.type != "cuda" or find_spec("triton") is None:
        return None
    from della_bench.merge.kernels import gpu

    return gpu.plan_for(job)


def merge_host_tensors(
    spec: MergeSpec | TensorSpec, name: str, sources: Sequence[HostTensor], dtype: str, workers: Workers
) -> HostTensor:
    """Do what `merge_tensor` does on the CPU, without torch where the compiled loops cover the merge.

    sources: the base and then the experts. dtype: of the result, by safetensors' name. The result may lie in the memory
    of a source. Raises BrokenSourceError.
    """
    from della_bench.merge.kernels import cpu

    numbers = spec.at(name)
    if cpu.supports(numbers, sources, dtype):
        merged = cpu.merge_stored(numbers, name, sources[0], sources[1:], dtype, workers)
        if merged is not None:
            return merged
    from della_bench.merge.tensor import merge_tensor

    tensors = [source.to_torch() for source in sources]
    for position, tensor in enumerate(tensors):
        if not is_finite(tensor):
            raise BrokenSourceError(position)
    return HostTensor.of(merge_tensor(spec, name, tensors[0], tensors[1:], torch_dtype(dtype)))


@contextmanager
def working() -> Iterator[Workers]:
    """Provide threads, and keep the memory of results from one tensor to the next while the context lasts."""
    from della_bench.merge.kernels.compiling import announced
    from della_bench.merge.kernels.cpu import OUTPUTS

    with OUTPUTS.hold(), announced(), Workers() as workers:
        yield workers


def is_finite(tensor: torch.Tensor | HostTensor) -> bool:
    """Whether no element of a tensor is infinite or NaN."""
    if not isinstance(tensor, HostTensor) and tensor.device.type == "cpu":
        tensor = HostTensor.of(tensor)
    if isinstance(tensor, HostTensor):
        if tensor.dtype in ("BF16", "F16", "F32"):
            from della_bench.merge.kernels import cpu

            return cpu.is_finite(tensor)
        tensor = tensor.to_torch()
    import torch

    return bool(torch.isfinite(tensor).all())

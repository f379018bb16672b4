"""Fast implementations of the reference `della_bench.merge.tensor.merge_tensor`; each equals it bit for bit.

Nothing is compiled or imported before the first tensor is merged.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec

import torch

from della_bench.checkpoint.formats import BUFFERS
from della_bench.merge.tensor import merge_tensor
from della_bench.spec import MergeSpec

__all__ = ["hold_buffers", "is_finite", "merge_tensor_fast"]


def merge_tensor_fast(
    spec: MergeSpec,
    name: str,
    base: torch.Tensor,
    experts: Sequence[torch.Tensor],
    dtype: torch.dtype | None = None,
) -> torch.Tensor:
    """Do what `merge_tensor` does, by the fastest implementation that covers the merge; else by the reference."""
    dtype = dtype or base.dtype
    if base.device.type == "cpu":
        from della_bench.merge.kernels import cpu

        if cpu.supports(spec, base, experts, dtype):
            return cpu.merge_tensor_cpu(spec, name, base, experts, dtype)
    elif base.device.type == "cuda" and find_spec("triton") is not None:
        from della_bench.merge.kernels import gpu

        if gpu.supports(spec, base, experts, dtype):
            return gpu.merge_tensor_gpu(spec, name, base, experts, dtype)
    return merge_tensor(spec, name, base, experts, dtype)


@contextmanager
def hold_buffers() -> Iterator[None]:
    """Keep the memory of sources and results from one tensor to the next while the context lasts."""
    from della_bench.merge.kernels.cpu import OUTPUTS

    with BUFFERS.hold(), OUTPUTS.hold():
        yield


def is_finite(tensor: torch.Tensor) -> bool:
    """Whether no element of a float tensor is infinite or NaN."""
    if tensor.device.type == "cpu" and tensor.dtype in (torch.bfloat16, torch.float16, torch.float32):
        from della_bench.merge.kernels import cpu

        return cpu.is_finite(tensor)
    return bool(torch.isfinite(tensor).all())

"""Merging one tensor: the reference that every faster implementation equals bit for bit.

All arithmetic is float32, with one rounding at the end to the dtype of the result.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from della_bench.merge import bits
from della_bench.merge.drop import drop
from della_bench.merge.fuse import add_to_base, fuse
from della_bench.merge.whole import linear, slerp
from della_bench.spec import MergeSpec

__all__ = ["merge_tensor"]


def merge_tensor(
    spec: MergeSpec,
    name: str,
    base: torch.Tensor,
    experts: Sequence[torch.Tensor],
    dtype: torch.dtype | None = None,
) -> torch.Tensor:
    """Merge one tensor of any shape.

    name: the tensor's name in the base's checkpoint, which its random bits depend on. experts: one tensor for each of
    the spec's experts, in its order, shaped like `base`, on the same device. dtype: of the result, default the base's.

    Integer and bool tensors are the base's. Where no expert takes part in an element, or lambda is 0, the result is
    the base to the bit.
    """
    dtype = dtype or base.dtype
    if not base.is_floating_point():
        return base
    if base.numel() == 0:
        return base.to(dtype)
    wide = base.to(torch.float32)
    kind = spec.method.kind
    if kind == "passthrough":
        return experts[0].to(dtype)
    if kind == "linear":
        return linear([e.to(torch.float32) for e in experts], spec.weights, normalize=spec.normalize).to(dtype)
    if kind == "slerp":
        return slerp(wide, experts[0].to(torch.float32), spec.weights[0]).to(dtype)
    deltas = [_pruned_delta(spec, name, index, wide, expert, base.dtype) for index, expert in enumerate(experts)]
    scaling = spec.method.scaling
    fused, takes_part = fuse(deltas, spec.weights, elect=spec.elect, normalize=spec.normalize, scaling=scaling)
    return add_to_base(base, fused, takes_part, spec.lambda_ if scaling == "lambda" else 1.0, dtype)


def _pruned_delta(
    spec: MergeSpec, name: str, index: int, base: torch.Tensor, expert: torch.Tensor, key_dtype: torch.dtype
) -> torch.Tensor:
    return drop(
        expert.to(torch.float32) - base,
        kind=spec.method.drop,
        density=spec.density[index] if spec.density else 1.0,
        epsilon=spec.epsilon,
        rescale=spec.rescale,
        key_dtype=key_dtype,
        key=bits.tensor_key(spec.seed, index, name),
    )

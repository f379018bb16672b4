"""Merging one tensor: the reference that every faster implementation equals bit for bit.

All arithmetic is float32, with one rounding at the end to the dtype of the result.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch

from della_bench.errors import MergeError
from della_bench.merge import bits
from della_bench.merge.drop import drop, rescaled
from della_bench.merge.fuse import add_to_base, fuse
from della_bench.spec import MergeSpec, Numbers
from della_bench.spec.method import Drop, MergeFunction
from della_bench.spec.tensor import TensorSpec

__all__ = ["merge_tensor"]


def merge_tensor(
    spec: MergeSpec | TensorSpec,
    name: str,
    base: torch.Tensor,
    experts: Sequence[torch.Tensor],
    dtype: torch.dtype | None = None,
) -> torch.Tensor:
    """Merge one tensor of any shape.

    spec: of one tensor, or of a whole merge; where that varies over layers its numbers at the first layer count. name:
    the tensor's name in the base's checkpoint, which its random bits depend on. experts: one tensor for each of the
    spec's experts, in its order, shaped like `base`, on the same device. dtype: of the result, default the base's.

    Integer and bool tensors are the base's. Where no expert takes part in an element, or lambda is 0, the result is
    the base to the bit. Raises MergeError where a method's own function returns what it may not.
    """
    dtype = dtype or base.dtype
    if not base.is_floating_point():
        return base
    if base.numel() == 0:
        return base.to(dtype)
    numbers = spec.at(name)
    function = numbers.method.function()
    if function is not None:
        return _by_function(function, numbers, name, base, experts).to(dtype)
    wide = base.to(torch.float32)
    deltas = [_pruned_delta(numbers, name, index, wide, expert, base.dtype) for index, expert in enumerate(experts)]
    scaling = numbers.method.scaling
    fused, takes_part = fuse(deltas, numbers.weights, elect=numbers.elect, normalize=numbers.normalize, scaling=scaling)
    return add_to_base(base, fused, takes_part, numbers.lambda_ if scaling == "lambda" else 1.0, dtype)


def _by_function(
    function: MergeFunction, spec: TensorSpec, name: str, base: torch.Tensor, experts: Sequence[torch.Tensor]
) -> torch.Tensor:
    """Merge by a method's function over whole tensors; a stored tensor where it returns that."""
    numbers = Numbers(
        tensor=name,
        weights=spec.weights,
        density=spec.density,
        epsilon=spec.epsilon,
        lambda_=spec.lambda_,
        normalize=spec.normalize,
        words=lambda index: _words(spec, name, index, base),
    )
    wide_base = base.to(torch.float32) if spec.method.uses_base else None
    wide = [expert.to(torch.float32) for expert in experts]
    merged = function(wide_base, wide, numbers, **dict(spec.options))
    for stored, widened in zip((base, *experts), (wide_base, *wide), strict=True):
        if merged is widened:
            return stored
    return _checked(merged, base, spec, name)


def _pruned_delta(
    spec: TensorSpec, name: str, index: int, base: torch.Tensor, expert: torch.Tensor, key_dtype: torch.dtype
) -> torch.Tensor:
    delta = expert.to(torch.float32) - base
    density = spec.density[index] if spec.density else 1.0
    epsilon = spec.epsilon[index] if spec.epsilon else None
    function = spec.method.drop_function()
    if function is None:
        return drop(
            delta,
            kind=cast(Drop, spec.method.drop),
            density=density,
            epsilon=epsilon,
            rescale=spec.rescale,
            key_dtype=key_dtype,
            key=bits.tensor_key(spec.seed, index, name),
        )
    if density >= 1:
        return delta
    words = _words(spec, name, index, base) if spec.method.random else None
    own = {key: value[index] if isinstance(value, tuple) else value for key, value in spec.options}
    kept = _checked(function(delta, density, epsilon, words, **own), base, spec, name)
    return rescaled(delta, kept, spec.rescale, density) if spec.method.uses("rescale") else kept


def _words(spec: TensorSpec, name: str, index: int, like: torch.Tensor) -> torch.Tensor:
    """Return the random words of one expert's tensor, in its shape."""
    return bits.words(bits.tensor_key(spec.seed, index, name), like.numel(), like.device).reshape(like.shape)


def _checked(result: object, like: torch.Tensor, spec: TensorSpec, name: str) -> torch.Tensor:
    """Return the result of a method's function. Raises MergeError where it is not float32 in the tensor's shape."""
    if not isinstance(result, torch.Tensor):
        what = type(result).__name__
    elif (result.dtype, result.shape, result.device) != (torch.float32, like.shape, like.device):
        what = f"{result.dtype} {tuple(result.shape)} on {result.device}"
    else:
        return result
    raise MergeError(
        f"merge_method={spec.merge_method} (package {spec.method.package}): for tensor {name} its function returned "
        f"{what}, not torch.float32 {tuple(like.shape)} on {like.device}"
    )

"""Digests of the tensors that a vLLM worker computes with, by the names and in the shapes of the checkpoint.

`digests` and `process_id` run inside vLLM's workers, `expected` beside a transformers model.
"""

from __future__ import annotations

import hashlib
import os
from typing import Any

import torch

__all__ = ["digests", "expected", "process_id"]


def digests(model: Any) -> dict[str, str]:
    """Return, for each weight of this worker, the SHA-256 of its share: fused ones split, padding cut off."""
    packed = model.packed_modules_mapping
    found: dict[str, str] = {}
    for name, module in model.named_modules():
        weight = getattr(module, "weight", None)
        if not isinstance(weight, torch.Tensor):
            continue
        if weight.numel() == 0:
            # On a CPU vLLM keeps only a copy packed for its kernel; a product with the identity is exact.
            one = torch.eye(module.input_size_per_partition, dtype=weight.dtype)
            weight = module.cpu_linear(one, None, None).t()
        parent, _, last = name.rpartition(".")
        if hasattr(module, "shard_indices"):
            weight = weight[: module.shard_indices.num_org_elements]
        sizes = list(getattr(module, "output_partition_sizes", []))
        parts = packed.get(last, [last])
        pieces = weight.split(sizes) if len(parts) > 1 else [weight]
        for part, piece in zip(parts, pieces, strict=True):
            found[f"{parent}.{part}.weight".lstrip(".")] = _digest(piece)
    return found


def process_id(_: Any) -> int:
    """Return the worker's process id."""
    return os.getpid()


def expected(model: Any, rank: int, ranks: int) -> dict[str, str]:
    """Return the digests that worker `rank` of `ranks` has where its weights are the model's."""
    found = {}
    for name, weight in model.state_dict().items():
        dim = 1 if name.endswith(("o_proj.weight", "down_proj.weight")) else 0
        found[name] = _digest(weight if weight.dim() == 1 else weight.chunk(ranks, dim)[rank])
    return found


def _digest(tensor: torch.Tensor) -> str:
    plain = tensor.detach().cpu().contiguous() + 0.0  # a product turns -0.0 into 0.0
    return hashlib.sha256(plain.view(torch.uint8).numpy().tobytes()).hexdigest()

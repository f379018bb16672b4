"""Which tensors of a checkpoint are parameters, and which are only another way of writing the same model.

Checkpoints of several years hold buffers that a model computes itself, heads that repeat the embedding, and names with
or without the base model's prefix. None of this is a difference between models.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from della_bench.checkpoint.model import ModelFolder
from della_bench.checkpoint.tensor import TensorInfo

__all__ = ["HEAD", "align", "is_tied", "parameters", "vocab_size"]

HEAD = re.compile(r"(^|\.)(lm_head|embed_out)\.weight$")
_INV_FREQ = re.compile(r"(^|\.)rotary_emb\.inv_freq$")
_MASK = re.compile(r"(^|\.)(attn|attention)\.bias$")  # GPT-2, GPT-NeoX: the causal mask, 4-D
_MASK_VALUE = re.compile(r"(^|\.)(attn|attention)\.masked_bias$")


def parameters(checkpoint: ModelFolder) -> dict[str, TensorInfo]:
    """Return the tensors that define the model: without recomputed buffers and without a redundant tied head."""
    tied = any(map(HEAD.search, checkpoint.tensors)) and is_tied(checkpoint)
    return {
        name: info
        for name, info in checkpoint.tensors.items()
        if not _is_recomputed(name, info) and not (tied and HEAD.search(name))
    }


def vocab_size(config: dict[str, Any]) -> int | None:
    """Return how many tokens a config names; those of its text part in a model of several."""
    size: int | None = config.get("vocab_size") or (config.get("text_config") or {}).get("vocab_size")
    return size


def is_tied(checkpoint: ModelFolder) -> bool:
    """Whether the head is the embedding; config.json leaves it out where it is the architecture's default."""
    tied = checkpoint.config.get("tie_word_embeddings")
    if tied is None:
        from transformers import CONFIG_MAPPING

        known = checkpoint.model_type in CONFIG_MAPPING
        tied = known and getattr(CONFIG_MAPPING[checkpoint.model_type], "tie_word_embeddings", False)
    return bool(tied)


def _is_recomputed(name: str, info: TensorInfo) -> bool:
    if _INV_FREQ.search(name) or (_MASK.search(name) and len(info.shape) == 4):
        return True
    return bool(_MASK_VALUE.search(name)) and len(info.shape) == 0


def align(names: Iterable[str], others: Iterable[str]) -> dict[str, str]:
    """Return {name: its name among `others`} for every name that is there, with or without a leading prefix.

    A checkpoint of a bare base model lacks the prefix that one with a head has (`transformer.h.0` and `h.0`).
    """
    names, others = list(names), set(others)
    prefixes = sorted({name.partition(".")[0] + "." for name in [*names, *others] if "." in name})
    aligned = {name: name for name in names if name in others}
    free = others - aligned.keys()
    for name in names:
        if name in aligned:
            continue
        for prefix in prefixes:
            other = name.removeprefix(prefix) if name.startswith(prefix) else prefix + name
            if other in free:
                aligned[name] = other
                free.remove(other)
                break
    return aligned

"""Which tensors of a checkpoint are parameters, and which are only another way of writing the same model.

Checkpoints of several years hold buffers that a model computes itself, heads that repeat the embedding, and names with
or without the base model's prefix. None of this is a difference between models.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from della_bench.checkpoint.model import ModelFolder
from della_bench.checkpoint.tensor import TensorInfo

__all__ = ["EMBEDDING", "HEAD", "align", "is_tied", "parameters", "says_tied", "vocab_size"]

HEAD = re.compile(r"(^|\.)(lm_head|embed_out)\.weight$")
EMBEDDING = re.compile(r"(^|\.)(embed_tokens|wte|embed_in|word_embeddings|tok_embeddings|shared)\.weight$")
_PIECE = 1 << 24  # bytes that are compared at a time
_ROTARY = re.compile(r"(^|\.)rotary_emb\.(inv_freq|cos_cached|sin_cached)$")
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
    """Whether the head is the embedding: the config says so, and no head of its own lies in the files.

    A head that repeats the embedding is none of its own. One with other weights is, whatever the config says, and
    transformers and vLLM take it. config.json leaves the key out where it is the architecture's default.
    """
    if checkpoint not in _TIED:
        _TIED[checkpoint] = says_tied(checkpoint) and not _has_own_head(checkpoint)
    return _TIED[checkpoint]


_TIED: WeakKeyDictionary[ModelFolder, bool] = WeakKeyDictionary()


def says_tied(checkpoint: ModelFolder) -> bool:
    """Whether the config says that the head is the embedding; in a model of several parts, that of its text."""
    config, key = checkpoint.config, "tie_word_embeddings"
    if config.get(key) or (config.get("text_config") or {}).get(key):
        return True
    if config.get(key) is not None:
        return False
    from transformers import CONFIG_MAPPING

    known = checkpoint.model_type in CONFIG_MAPPING
    return bool(known and getattr(CONFIG_MAPPING[checkpoint.model_type], "tie_word_embeddings", False))


def _has_own_head(checkpoint: ModelFolder) -> bool:
    head = next(filter(HEAD.search, checkpoint.tensors), None)
    if head is None:
        return False
    info = checkpoint.tensors[head]
    # By its shape: an embedding has many names. Where none is there, the head is all that there is of it.
    others = [name for name, other in checkpoint.tensors.items() if other.shape == info.shape and name != head]
    return bool(others) and not any(_same(checkpoint, head, name) for name in others)


def _same(checkpoint: ModelFolder, one: str, other: str) -> bool:
    a, b = checkpoint.tensor(one), checkpoint.tensor(other)
    if a.dtype != b.dtype:
        return bool(np.array_equal(a.to_torch().float().numpy(), b.to_torch().float().numpy()))
    pieces = range(0, a.data.size, _PIECE)
    return all(np.array_equal(a.data[start : start + _PIECE], b.data[start : start + _PIECE]) for start in pieces)


def _is_recomputed(name: str, info: TensorInfo) -> bool:
    if _ROTARY.search(name) or (_MASK.search(name) and len(info.shape) == 4):
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

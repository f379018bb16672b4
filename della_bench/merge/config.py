"""The config of a merge: the base's, but for what its config.json says wrongly of the merge's tensors."""

from __future__ import annotations

import math
from typing import Any, Protocol

from della_bench.checkpoint import ModelFolder
from della_bench.checkpoint.canonical import HEAD, says_tied
from della_bench.checkpoint.model import read_json
from della_bench.checkpoint.quantised import quantised_in_name
from della_bench.checkpoint.tensor import DTYPES
from della_bench.checkpoint.vocabulary import Vocabulary
from della_bench.merge.vocabulary import vocabulary_changes
from della_bench.spec import MergeSpec

__all__ = ["Configured", "config_changes", "dtype_of", "merged_config"]

_DTYPES = ("dtype", "torch_dtype")


class Configured(Protocol):
    """What the config of a `della_bench.merge.stream.Merge` depends on."""

    spec: MergeSpec
    base: ModelFolder
    vocabulary: Vocabulary | None

    @property
    def names(self) -> list[str]:
        """The names of the merged tensors."""


def config_changes(merge: Configured) -> dict[str, Any]:
    """Return the keys that a merge's config has other than the base's config.json; None stands for a key left out.

    A head of its own is not tied to the embedding, floats are not quantised, and a vocabulary has its own size and ids.
    Where the base is itself made from the model in that folder, or its layers are others, its changes are among them.
    """
    on_disk = read_json(merge.base.folder / "config.json", merge.base.label)
    changes = _differences(on_disk, merge.base.config)
    for key, value in vocabulary_changes(merge.vocabulary, merge.base.config).items():
        changes[key] = {**changes.get(key, {}), **value} if isinstance(value, dict) else value
    if any(map(HEAD.search, merge.names)) and says_tied(merge.base):
        changes["tie_word_embeddings"] = False
        if "text_config" in merge.base.config:
            changes["text_config"] = {**changes.get("text_config", {}), "tie_word_embeddings": False}
    if quantised_in_name(merge.base):
        changes["quantization_config"] = None
    return changes


def _differences(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Return the keys of `new` that are others than in `old`, of a mapping those in it; the dtype is told otherwise."""
    changes: dict[str, Any] = {key: None for key in old if key not in new}
    for key, value in new.items():
        if key in _DTYPES or old.get(key) == value:
            continue
        both = isinstance(value, dict) and isinstance(old.get(key), dict)
        changes[key] = _differences(old[key], value) if both else value
    return changes


def merged_config(merge: Configured) -> dict[str, Any]:
    """Return what the config.json of the merge's folder holds.

    A dtype that it names is the merge's: transformers would load the weights in another one than they have.
    """
    config = dict(merge.base.config)
    for key, value in config_changes(merge).items():
        if value is None:
            config.pop(key, None)
        else:
            config[key] = {**config[key], **value} if isinstance(value, dict) else value
    named = [key for key in _DTYPES if config.get(key)]
    own = dict.fromkeys(named or (_DTYPES[:1] if merge.spec.dtype else ()), dtype_of(merge))
    if isinstance(inner := config.get("text_config"), dict):
        config["text_config"] = {**inner, **{key: dtype_of(merge) for key in _DTYPES if inner.get(key)}}
    return {**config, **own}


def dtype_of(merge: Configured) -> str:
    """Return torch's name of the dtype that a merge runs in: the spec's, else that of most of the base's weights."""
    if merge.spec.dtype:
        return merge.spec.dtype
    counts: dict[str, int] = {}
    for info in merge.base.tensors.values():
        counts[info.dtype] = counts.get(info.dtype, 0) + math.prod(info.shape) * info.is_float
    return DTYPES[max(counts, key=counts.__getitem__)]

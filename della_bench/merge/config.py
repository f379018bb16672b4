"""The config of a merge: the base's, but for what its config.json says wrongly of the merge's tensors."""

from __future__ import annotations

from typing import Any

from della_bench.checkpoint.canonical import HEAD, says_tied
from della_bench.checkpoint.quantised import quantised_in_name
from della_bench.merge.stream import Merge

__all__ = ["config_changes", "merged_config"]


def config_changes(merge: Merge) -> dict[str, Any]:
    """Return the keys that a merge's config has other than the base's config.json; None stands for a key left out.

    A head of its own is not tied to the embedding, and floats are not quantised.
    """
    changes: dict[str, Any] = {}
    if any(map(HEAD.search, merge.names)) and says_tied(merge.base):
        changes["tie_word_embeddings"] = False
        if "text_config" in merge.base.config:
            changes["text_config"] = {"tie_word_embeddings": False}
    if quantised_in_name(merge.base):
        changes["quantization_config"] = None
    return changes


def merged_config(merge: Merge) -> dict[str, Any]:
    """Return what the config.json of the merge's folder holds."""
    config = dict(merge.base.config)
    for key, value in config_changes(merge).items():
        if value is None:
            del config[key]
        else:
            config[key] = {**config[key], **value} if isinstance(value, dict) else value
    if merge.spec.dtype:
        config["torch_dtype" if "torch_dtype" in config else "dtype"] = merge.spec.dtype
    return config

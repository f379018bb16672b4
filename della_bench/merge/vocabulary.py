"""What a merge's vocabulary changes in configs: its size, and ids of tokens that are others there."""

from __future__ import annotations

from typing import Any

from della_bench.checkpoint.canonical import vocab_size
from della_bench.checkpoint.model import ModelFolder, read_json
from della_bench.checkpoint.vocabulary import Vocabulary, row_count

__all__ = ["generation_changes", "row_count_of", "vocabulary_changes"]


def row_count_of(base: ModelFolder, vocabulary: Vocabulary | None) -> int | None:
    """Return how many tokens a merge has a row for; None where nothing says it.

    A base may have more rows than its config says: Llama 3.2 Vision has eight for what stands for an image.
    """
    return vocabulary.size if vocabulary is not None else row_count(base) or None


def vocabulary_changes(vocabulary: Vocabulary | None, config: dict[str, Any]) -> dict[str, Any]:
    """Return the keys in which a merge's config differs from its base's, those of a text part within `text_config`."""
    if vocabulary is None:
        return {}
    changes: dict[str, Any] = vocabulary.moved_ids(config)
    inner = config.get("text_config")
    text = {} if inner is None else vocabulary.moved_ids(inner)
    if vocabulary.size != vocab_size(config):
        (changes if inner is None or "vocab_size" in config else text)["vocab_size"] = vocabulary.size
    return {**changes, "text_config": text} if text else changes


def generation_changes(vocabulary: Vocabulary | None, base: ModelFolder) -> dict[str, Any]:
    """Return the keys that differ from the generation_config.json of the base's folder; none where it has no such file.

    base: a merge's, which may be a merge itself, with changes of its own.
    """
    path = base.folder / "generation_config.json"
    if not path.is_file():
        return {}
    changes = dict(base.generation_changes)
    if vocabulary is not None:
        changes |= vocabulary.moved_ids({**read_json(path, base.label), **changes})
    return changes

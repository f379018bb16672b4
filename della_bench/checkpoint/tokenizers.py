"""How the tokenizers of two checkpoints differ, told from their files alone."""

from __future__ import annotations

import json
from typing import Any

from della_bench.checkpoint.reader import Checkpoint

__all__ = ["tokenizer_difference"]


def tokenizer_difference(base: Checkpoint, expert: Checkpoint) -> str:
    """Return what differs, in words, or "" where nothing does that can be told.

    Compares the vocabularies (token to id, added tokens included), the rest of tokenizer.json, sentencepiece files and
    chat templates. A checkpoint without tokenizer files has nothing to compare.
    """
    if not _has_tokenizer(base) or not _has_tokenizer(expert):
        return ""
    parts = []
    ours, theirs = _vocabulary(base), _vocabulary(expert)
    if ours and theirs and ours != theirs:
        parts.append(_vocabulary_difference(ours, theirs))
    elif _bytes(base, "tokenizer.model") != _bytes(expert, "tokenizer.model") and not (ours and theirs):
        parts.append("another tokenizer.model")
    elif _rules(base) != _rules(expert):
        parts.append("other rules in tokenizer.json")
    if _chat_template(base) != _chat_template(expert):
        parts.append("another chat template")
    return ", ".join(parts)


def _vocabulary_difference(ours: dict[str, int], theirs: dict[str, int]) -> str:
    added = sorted(theirs.keys() - ours.keys(), key=theirs.__getitem__)
    lacking = len(ours.keys() - theirs.keys())
    moved = sum(theirs[token] != ours[token] for token in ours.keys() & theirs.keys())
    counts = []
    if added:
        shown = ", ".join(f"{token!r}={theirs[token]}" for token in added[:3])
        counts.append(f"{len(added)} more tokens ({shown}{', ...' if len(added) > 3 else ''})")
    counts += [f"{lacking} tokens fewer"] if lacking else []
    counts += [f"{moved} tokens with another id"] if moved else []
    return "vocabulary: " + ", ".join(counts)


def _has_tokenizer(checkpoint: Checkpoint) -> bool:
    return any((checkpoint.folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json"))


def _read(checkpoint: Checkpoint, name: str) -> Any:
    path = checkpoint.folder / name
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError:
        return {}  # a broken tokenizer file is the tokenizer loader's to report


def _vocabulary(checkpoint: Checkpoint) -> dict[str, int]:
    data = _read(checkpoint, "tokenizer.json")
    vocab = data.get("model", {}).get("vocab") or _read(checkpoint, "vocab.json")
    if isinstance(vocab, list):  # a unigram model lists [token, score]
        vocab = {item[0]: index for index, item in enumerate(vocab)}
    added = {item["content"]: item["id"] for item in data.get("added_tokens", [])}
    return {**vocab, **added, **_read(checkpoint, "added_tokens.json")} if vocab else {}


def _rules(checkpoint: Checkpoint) -> Any:
    data = _read(checkpoint, "tokenizer.json")
    return {key: data.get(key) for key in ("normalizer", "pre_tokenizer", "post_processor", "decoder")}


def _chat_template(checkpoint: Checkpoint) -> Any:
    file = checkpoint.folder / "chat_template.jinja"
    return file.read_text(encoding="utf-8") if file.is_file() else checkpoint.tokenizer_config.get("chat_template")


def _bytes(checkpoint: Checkpoint, name: str) -> bytes:
    path = checkpoint.folder / name
    return path.read_bytes() if path.is_file() else b""

"""How the tokenizers of two checkpoints differ, told from their files alone."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any

from della_bench.checkpoint.model import ModelFolder, file_state
from della_bench.checkpoint.resolve import resolve
from della_bench.errors import CheckpointError
from della_bench.spec import MergeSpec
from della_bench.spec.source import Source
from della_bench.spec.vocabulary import tokenizer_text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "check_vocabulary", "folder_template", "has_tokenizer", "have_same_vocabulary", "highest_id", "load_chat_template",
    "load_tokenizer", "loading_tokenizer", "tokenizer_difference", "tokenizer_files",
]  # fmt: skip

log = logging.getLogger(__name__)

_FILES = (
    "added_tokens.json", "chat_template.json", "merges.txt", "special_tokens_map.json", "tokenizer*.json", "vocab.*",
    "*.model", "*.tiktoken", "*.jinja", "additional_chat_templates/*.jinja",
)  # fmt: skip
_VOCABULARIES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "tekken.json")
_COMPARED = ("added_tokens.json", "tokenizer.json", "tokenizer.model", "vocab.json")


_compared: dict[tuple[object, ...], str] = {}


def tokenizer_difference(base: ModelFolder, expert: ModelFolder) -> str:
    """Return what differs, in words, or "" where nothing does that can be told.

    Compares the vocabularies (token to id, added tokens included), then merges and the rules of tokenizer.json, else
    the sentencepiece files; and the chat templates. A checkpoint without tokenizer files has nothing to compare.
    """
    if not has_tokenizer(base.tokenizer_folder) or not has_tokenizer(expert.tokenizer_folder):
        return ""
    # Reading them can take seconds, and one merge after the other has the same sources.
    files = tokenizer_files(base.tokenizer_folder), tokenizer_files(expert.tokenizer_folder)
    states = [tuple((path, file_state(path)) for path in each if path.is_file()) for each in files]
    key = (*states, str(base.config.get("vocab_size")))
    if key not in _compared:
        _compared[key] = _difference(base, expert)
    return _compared[key]


def _difference(base: ModelFolder, expert: ModelFolder) -> str:
    parts = [] if _have_same_vocabulary_files(base, expert) else _vocabulary_differences(base, expert)
    if _chat_template(base) != _chat_template(expert):
        parts.append("another chat template")
    return ", ".join(parts)


def _have_same_vocabulary_files(base: ModelFolder, expert: ModelFolder) -> bool:
    """Whether all is equal to the byte: then megabytes of JSON need not be parsed, for each expert anew."""
    return all(_bytes(base, name) == _bytes(expert, name) for name in _COMPARED)


def _vocabulary_differences(base: ModelFolder, expert: ModelFolder) -> list[str]:
    our_rules, their_rules = _read(base, "tokenizer.json"), _read(expert, "tokenizer.json")
    ours, theirs = _vocabulary(base, our_rules), _vocabulary(expert, their_rules)
    if ours and theirs:
        if ours != theirs:
            return [_vocabulary_difference(ours, theirs)]
        return ["other rules in tokenizer.json"] if _rules(our_rules) != _rules(their_rules) else []
    # One of them has only a sentencepiece file, whose vocabulary is not to be had without its library.
    parts = []
    pieces = _bytes(base, "tokenizer.model"), _bytes(expert, "tokenizer.model")
    if None not in pieces and pieces[0] != pieces[1]:
        parts.append("another tokenizer.model")
    known = {**ours, **_added(base, our_rules)}
    size = 0 if ours else (base.config.get("vocab_size") or 0)  # ids below are in the base's sentencepiece file
    listed = _read(expert, "added_tokens.json").items()
    if added := {token: i for token, i in listed if i >= size and known.get(token) != i}:
        parts.append(_vocabulary_difference({}, added))
    return parts


def load_chat_template(source: Source, *, trust_remote_code: bool = False) -> Any:
    """Return the chat template of a source's tokenizer; raises CheckpointError where it has none."""
    folder = resolve(source, weights=False, trust_remote_code=trust_remote_code)
    template = folder_template(folder, trust_remote_code=trust_remote_code)
    if template is None:
        raise CheckpointError(f"chat_template={source}: this tokenizer has no chat template")
    return template


def folder_template(folder: Path, *, trust_remote_code: bool = False) -> Any:
    """Return the chat template, or several by name, of the tokenizer in a folder; None where it has none."""
    return load_tokenizer(folder, trust_remote_code=trust_remote_code).chat_template


def load_tokenizer(folder: Path, *, label: str = "", trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """Return the tokenizer in a folder. label: whose it is, for errors; the folder itself where it is empty.

    Raises CheckpointError where there is none that transformers can load.
    """
    from transformers import AutoTokenizer

    with loading_tokenizer(folder, label):
        loaded: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
    return loaded


@contextmanager
def loading_tokenizer(folder: Path, label: str = "") -> Iterator[None]:
    """Make a CheckpointError of whatever keeps the tokenizer in a folder from being loaded."""
    try:
        yield
    except CheckpointError:
        raise
    except Exception as error:  # transformers and tokenizers raise what they come across
        lacking = "" if has_tokenizer(folder) else "; the folder holds no tokenizer: name one by tokenizer=SOURCE"
        reason = " ".join(str(error).split())
        raise CheckpointError(
            f"{label or folder}: its tokenizer cannot be loaded: {shorten(reason, 300)}{lacking}"
        ) from error


def has_tokenizer(folder: Path) -> bool:
    """Whether a folder holds the files of a tokenizer, and not only settings of one."""
    return any((folder / name).is_file() for name in _VOCABULARIES) or any(folder.glob("*.tiktoken"))


def tokenizer_files(folder: Path, *, code: bool = False) -> list[Path]:
    """Return the files in a folder that decide what its tokenizer does. code: whether the folder's own code runs."""
    patterns = (*_FILES, "*.py") if code else _FILES
    return sorted({path for pattern in patterns for path in folder.glob(pattern)})


def have_same_vocabulary(one: ModelFolder, other: ModelFolder) -> bool:
    """Whether the tokenizers of two models give a text the same ids, as far as their files tell."""
    return _have_same_vocabulary_files(one, other) or not _vocabulary_differences(one, other)


def highest_id(folder: Path) -> int:
    """Return the highest id that a tokenizer's JSON files name; -1 where there is only a sentencepiece file."""
    tokenizer, config = _json(folder / "tokenizer.json"), _json(folder / "tokenizer_config.json")
    vocab = (tokenizer.get("model") or {}).get("vocab") or _json(folder / "vocab.json")
    ids: list[int] = [len(vocab) - 1, *(() if isinstance(vocab, list) else vocab.values())]
    ids += [token["id"] for token in tokenizer.get("added_tokens") or []]
    ids += map(int, config.get("added_tokens_decoder") or {})
    ids += _json(folder / "added_tokens.json").values()
    return max((i for i in ids if isinstance(i, int)), default=-1)  # a broken file is the tokenizer loader's to report


def check_vocabulary(spec: MergeSpec, tokenizer: Any, rows: int | None) -> None:
    """Raise CheckpointError where a text may have an id beyond the merged vocabulary of `rows` rows; warn of others.

    Texts have the vocabulary that was learnt, the tokens that a tokenizer adds of itself (beginning, end, padding,
    unknown) and those of the chat template. Any other added token is never met unless somebody writes it.
    """
    vocabulary = tokenizer.get_vocab()
    beyond = {token: i for token, i in vocabulary.items() if rows is not None and i >= rows}
    if not beyond:
        return
    label = str(spec.base if spec.tokenizer is None else tokenizer_text(spec.tokenizer))
    added, template = tokenizer.get_added_vocab(), json.dumps(tokenizer.chat_template, ensure_ascii=False)
    own = {tokenizer.bos_token, tokenizer.eos_token, tokenizer.unk_token, tokenizer.pad_token}
    used = [token for token in beyond if token not in added or token in own or token in template]
    highest = max(beyond.values())
    if used:
        shown = ", ".join(f"{token!r}={beyond[token]}" for token in used[:3]) + (", ..." if used[3:] else "")
        raise CheckpointError(
            f"{label}: its tokenizer has ids up to {highest}, but the merged vocabulary has {rows} rows, and texts use "
            f"{shown}; take the base's tokenizer or one that fits"
        )
    shown = ", ".join(f"{token!r}={i}" for token, i in list(beyond.items())[:3]) + (", ..." if len(beyond) > 3 else "")
    log.warning(
        "%s: its tokenizer has ids up to %d, but the merged vocabulary has %d rows: a text with %s ends in an error",
        label,
        highest,
        rows,
        shown,
    )


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


def _read(checkpoint: ModelFolder, name: str) -> dict[str, Any]:
    return _json(checkpoint.tokenizer_folder / name)


def _json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError:
        data = None
    return data if isinstance(data, dict) else {}  # a broken tokenizer file is the tokenizer loader's to report


def _vocabulary(checkpoint: ModelFolder, rules: dict[str, Any]) -> dict[str, int]:
    """Return id by token, added tokens included. rules: what tokenizer.json says."""
    vocab = (rules.get("model") or {}).get("vocab") or _read(checkpoint, "vocab.json")
    if isinstance(vocab, list):  # a unigram model lists [token, score]
        vocab = {item[0]: index for index, item in enumerate(vocab)}
    return {**vocab, **_added(checkpoint, rules)} if vocab else {}


def _added(checkpoint: ModelFolder, rules: dict[str, Any]) -> dict[str, int]:
    listed = rules.get("added_tokens") or []
    return {**{item["content"]: item["id"] for item in listed}, **_read(checkpoint, "added_tokens.json")}


def _rules(rules: dict[str, Any]) -> Any:
    merges = (rules.get("model") or {}).get("merges") or []
    return {
        **{key: rules.get(key) for key in ("normalizer", "pre_tokenizer", "post_processor", "decoder")},
        "merges": [merge if isinstance(merge, str) else " ".join(merge) for merge in merges],
    }


def _chat_template(checkpoint: ModelFolder) -> Any:
    file = checkpoint.tokenizer_folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8", errors="replace")
    return checkpoint.tokenizer_config.get("chat_template") or _read(checkpoint, "chat_template.json").get(
        "chat_template"
    )


def _bytes(checkpoint: ModelFolder, name: str) -> bytes | None:
    path = checkpoint.tokenizer_folder / name
    return path.read_bytes() if path.is_file() else None

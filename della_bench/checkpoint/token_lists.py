"""Tokenizers as transformers loads them: loaded, cut to a model's rows, united. None is changed in place."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from della_bench.checkpoint.tokenizers import load_tokenizer
from della_bench.errors import CheckpointError

if TYPE_CHECKING:
    from tokenizers import AddedToken
    from transformers import PreTrainedTokenizerBase

__all__ = ["fast_tokenizer", "stripped", "united"]

log = logging.getLogger(__name__)


def fast_tokenizer(
    folder: Path, label: str, faults: list[str], *, trust_remote_code: bool = False
) -> PreTrainedTokenizerBase | None:
    """Load a tokenizer; one that cannot be loaded, or that has no fast form, becomes a fault."""
    try:
        loaded = load_tokenizer(folder, label=label, trust_remote_code=trust_remote_code)
    except CheckpointError as error:
        faults.append(str(error))
        return None
    if not getattr(loaded, "is_fast", False):
        faults.append(
            f"{label}: its tokenizer ({type(loaded).__name__}) has no fast form (tokenizer.json), which aligning rows "
            "needs; leave tokenizer= out, or save a fast one"
        )
        return None
    return loaded


def _reloaded(tokenizer: PreTrainedTokenizerBase, *, trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """Return a copy, through a folder that is removed again: what was loaded stays as it is."""
    from transformers import AutoTokenizer

    with tempfile.TemporaryDirectory(prefix="della_bench_tokenizer_") as folder:
        tokenizer.save_pretrained(folder)
        copy: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
    return copy


def stripped(
    tokenizer: PreTrainedTokenizerBase, rows: int, label: str, *, trust_remote_code: bool = False
) -> PreTrainedTokenizerBase:
    """Return a tokenizer without the tokens whose ids a model of `rows` rows has no row for.

    Raises CheckpointError where it is no BPE, whose tokens cannot be taken out one by one.
    """
    beyond = {token for token, i in tokenizer.get_vocab().items() if i >= rows}
    if not beyond:
        return tokenizer
    from transformers import AutoTokenizer

    with tempfile.TemporaryDirectory(prefix="della_bench_tokenizer_") as folder:
        tokenizer.save_pretrained(folder)
        file, settings = Path(folder) / "tokenizer.json", Path(folder) / "tokenizer_config.json"
        data = json.loads(file.read_text(encoding="utf-8"))
        _take_out(data, beyond, rows, label)
        file.write_text(json.dumps(data, ensure_ascii=False), encoding="utf-8")
        config = json.loads(settings.read_text(encoding="utf-8"))
        settings.write_text(json.dumps(_without(config, beyond), ensure_ascii=False), encoding="utf-8")
        cut: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
    return cut


def _take_out(data: dict[str, Any], beyond: set[str], rows: int, label: str) -> None:
    """Take tokens out of what a tokenizer.json holds, in place."""
    data["added_tokens"] = [token for token in data["added_tokens"] if token["id"] < rows]
    model = data["model"]
    learnt = set(model["vocab"] if isinstance(model["vocab"], dict) else (item[0] for item in model["vocab"]))
    if not (gone := beyond & learnt):
        return
    if model["type"] != "BPE":
        raise CheckpointError(
            f"{label}: its tokenizer has ids beyond the model's {rows} rows, and is a {model['type']}, from which no "
            "token can be taken; leave tokenizer= out"
        )
    model["vocab"] = {token: i for token, i in model["vocab"].items() if token not in gone}
    pairs = [merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"]]
    model["merges"] = [pair for pair in pairs if not gone & {*pair, "".join(pair)}]


def _without(config: dict[str, Any], tokens: set[str]) -> dict[str, Any]:
    """Return what a tokenizer_config.json holds without settings that name one of `tokens`: loading would add it."""

    def names_one(value: Any) -> bool:
        return (value.get("content") if isinstance(value, dict) else value) in tokens

    kept = {key: value for key, value in config.items() if not (key.endswith("_token") and names_one(value))}
    kept.pop("added_tokens_decoder", None)
    for key in ("additional_special_tokens", "extra_special_tokens"):
        if isinstance(kept.get(key), list):
            kept[key] = [value for value in kept[key] if not names_one(value)]
    return kept


def united(
    base: PreTrainedTokenizerBase,
    tokenizers: Sequence[tuple[PreTrainedTokenizerBase, int]],
    *,
    trust_remote_code: bool = False,
) -> PreTrainedTokenizerBase:
    """Return the base's tokenizer with the tokens that only others have, each behind those before it.

    tokenizers: with the number of rows of each model, beyond which its tokens do not count. First come the tokens of
    vocabularies, then those that were added to one, in the order of their ids. Where the same token was added with
    other settings (special, stripping blanks), the first one's count.
    """
    made = _reloaded(base, trust_remote_code=trust_remote_code)
    learnt: dict[str, None] = {}
    added: dict[str, AddedToken] = {}
    differing: list[str] = []
    for tokenizer, rows in tokenizers:
        own = {i: token for i, token in tokenizer.added_tokens_decoder.items() if i < rows}
        names = {token.content for token in tokenizer.added_tokens_decoder.values()}
        ordered = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
        learnt |= dict.fromkeys(token for token, i in ordered if i < rows and token not in names)
        for _, token in sorted(own.items()):
            if added.setdefault(token.content, token) != token:
                differing.append(token.content)
    if differing:
        log.warning("tokenizer=union: %s added with different settings: the first ones count", ", ".join(differing))
    there = base.get_vocab()
    for token in learnt:
        if token not in added and token not in there:
            made.add_tokens(token)
    for token in added.values():
        made.add_tokens(token)
    return made

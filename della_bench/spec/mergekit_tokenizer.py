"""The tokenizer settings of a mergekit YAML, as our keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from della_bench.spec.source import Source
from della_bench.spec.templates import AUTO, NAMED
from della_bench.spec.vocabulary import read_multiple, read_tokens, source_faults
from della_bench.suggest import nearest, with_nearest

__all__ = ["TOKENIZER_KEYS", "tokenizer_settings"]

TOKENIZER_KEYS = ("tokenizer_source", "tokenizer", "chat_template")

_POLICIES = ("base", "union")
_INNER = ("source", "tokens", "pad_to_multiple_of")
_OLD_PREFIX = "model:"  # of mergekit before 0.0.5


def tokenizer_settings(
    data: Mapping[str, object],
    models: Sequence[str],
    source: Callable[[Any, str, list[str]], str],
    ignored: list[str],
    faults: list[str],
) -> dict[str, Any]:
    """Return our keys for `tokenizer_source`, `tokenizer` and `chat_template`.

    models: the merge's, as our texts. source: makes our text of a model's name, given where it stands and the faults.
    Names that mergekit does not read are added to `ignored`, what it does not take to `faults`.
    """
    out: dict[str, Any] = {}
    old, new = data.get("tokenizer_source"), data.get("tokenizer")
    if old is not None and new is not None:
        faults.append("tokenizer_source and tokenizer: two names of one setting; give one of them")
    if old is not None:
        out["tokenizer"] = _model(old, "tokenizer_source", source, faults)
    elif isinstance(new, Mapping):
        ignored += [f"tokenizer.{with_nearest(key, _INNER)}" for key in new if key not in _INNER]
        out["tokenizer"] = _model(new.get("source", "union"), "tokenizer.source", source, faults)
        tokens = _tokens(new.get("tokens"), source, faults)
        out |= _read("tokens", read_tokens, tokens, faults)
        out |= _read("pad_to_multiple_of", read_multiple, new.get("pad_to_multiple_of"), faults)
        with suppress(ValueError):  # of a model's name: it is told where the models are read
            faults += source_faults(out.get("tokens", ()), [Source.parse(model) for model in models])
    elif new is not None:
        faults.append(f"tokenizer={new!r}: not a mapping of {', '.join(_INNER)}; tokenizer_source takes a name")
    if (template := data.get("chat_template")) not in (None, ""):
        if not isinstance(template, str) or not ("{" in template or template in (AUTO, *NAMED)):
            faults.append(f"chat_template={template!r}: no template{nearest(str(template), [AUTO, *NAMED])}")
        else:
            out["chat_template"] = template
    return out


def _model(name: object, where: str, source: Callable[[Any, str, list[str]], str], faults: list[str]) -> str:
    if isinstance(name, str) and name not in _POLICIES:
        name = name.removeprefix(_OLD_PREFIX)
    return name if isinstance(name, str) and name in _POLICIES else source(name, where, faults)


def _read(key: str, read: Callable[[object], Any], value: object, faults: list[str]) -> dict[str, Any]:
    """Return a key with its value as read; none where nothing is given, or where that is a fault."""
    if value in (None, {}):
        return {}
    try:
        return {key: read(value)}
    except ValueError as error:
        faults.append(f"tokenizer.{key}={value!r}: {error}")
        return {}


def _tokens(tokens: object, source: Callable[[Any, str, list[str]], str], faults: list[str]) -> object:
    """Return the tokens with the names of models as ours."""
    if not isinstance(tokens, Mapping):
        return tokens
    ours: dict[str, Any] = {}
    for token, setting in tokens.items():
        if isinstance(setting, Mapping):
            origin, where = setting.get("source"), f"tokenizer.tokens.{token}"
            if isinstance(origin, Mapping) and "model" in origin:
                origin = {**origin, "model": source(origin["model"], where, faults)}
            elif isinstance(origin, str):
                origin = source(origin, where, faults)
            setting = {**setting, "source": origin}
        else:
            faults.append(f"tokenizer.tokens.{token}={setting!r}: not a mapping with a source")
            continue
        ours[str(token)] = setting
    return ours

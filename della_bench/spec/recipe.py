"""What the vocabulary's and the chat template's keys add to a spec's digests, beside their values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from della_bench.spec.source import Source
from della_bench.spec.templates import Template, TemplateChoice
from della_bench.spec.vocabulary import TokenizerChoice, TokenRow

__all__ = ["SOURCE_KEYS", "algorithms", "recipe"]

SOURCE_KEYS = ("name", "base", "experts", "tokenizer", "tokens", "chat_template")
"""The keys that name models, and the merge's own name: what a recipe tells in another way."""

# Raised whenever a change in how rows are aligned and filled changes the bits of any merge that has a `tokenizer`.
_VOCABULARY_VERSION = 1


def algorithms(tokenizer: TokenizerChoice | None, template: TemplateChoice | None) -> dict[str, Any]:
    """Return what values stand for in this version of the program: how rows are aligned, a named template's text."""
    made: dict[str, Any] = {}
    if tokenizer is not None:
        made["vocabulary"] = _VOCABULARY_VERSION
    if isinstance(template, Template) and template.content:
        made["template"] = template.content
    return made


def recipe(
    tokenizer: TokenizerChoice | None,
    tokens: Sequence[TokenRow],
    template: TemplateChoice | None,
    models: Sequence[Source],
) -> dict[str, Any]:
    """Return what the keys do, whatever the models' names: a model is told by its place among `models`.

    That of a tokenizer or template which is a model's is left out: its files are told by their contents.
    """
    made: dict[str, Any] = {}
    if tokenizer is not None:
        made["tokenizer"] = tokenizer if isinstance(tokenizer, str) else "a model's"
    if tokens:
        places = [None if row.source is None else models.index(row.source) for row in tokens]
        made["tokens"] = [
            [row.token, place, row.other, row.zero, row.force] for row, place in zip(tokens, places, strict=True)
        ]
    if isinstance(template, Template):
        made["chat_template"] = str(template)
    return made

"""What a spec says of the merge's vocabulary: whose tokens it has, and where single tokens get their rows from.

`tokenizer` is `base`, `union` (the base's tokens and then those that only experts have), or a model. `tokens` sets the
rows of single tokens, in the string as `TOKEN:ROW+TOKEN:ROW...` with ROW one of

    SOURCE          the row that the token has in a model of the merge
    SOURCE:OTHER    the row of another token of that model, by its text, or as `#5` by its id
    zero            zeros

with `force:` before it where the row is for all models, and not only for those that lack the token. An empty ROW adds a
token, if need be, and leaves its row to the rule for all tokens. Everything in it is percent-encoded as in a source. In
YAML and JSON all three keys may stand together, in mergekit's form:

    tokenizer:
      source: union
      tokens:
        <|im_end|>: {source: org/chat, force: true}
        <|user|>: {source: {kind: model_token, model: org/chat, token: <s>}}
        <|pad|>: {source: {kind: zero}}
      pad_to_multiple_of: 64
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from della_bench.spec.numbers import read_decimal
from della_bench.spec.source import Source, decode, encode
from della_bench.spec.stages import read_source
from della_bench.suggest import nearest

__all__ = [
    "TokenRow", "TokenizerChoice", "expanded", "read_multiple", "read_tokenizer", "read_tokens", "source_faults",
    "tokenizer_text",
]  # fmt: skip

TokenizerChoice = Source | Literal["base", "union"]
"""Whose vocabulary a merge has: a model's, the base's, or the union of all."""

_POLICIES: tuple[Literal["base", "union"], ...] = ("base", "union")
_ZERO, _FORCE = "zero", "force"
_MOST_ROWS = 2**24  # of a vocabulary: far more than any model has
_INNER = ("source", "tokens", "pad_to_multiple_of")
# A single colon parts; two are followed by an adapter, and that of zoo:name and merge:SPEC belongs to the source.
_ROW = re.compile(
    rf"(?P<force>{_FORCE}:(?!:))?(?P<place>(?:(?:zoo|merge):[^:]+|[^:]*)(?:::[^:]+)?)(?::(?P<other>[^:]*))?"
)
_KINDS = ("model_token", "zero")


@dataclass(frozen=True)
class TokenRow:
    """Where one token gets its row of embedding and head from; without `source` and `zero` by the rule for all tokens.

    other: another token of `source` whose row it is, by its text or its id. force: whether all models get the row, or
    only those that lack the token.
    """

    token: str
    source: Source | None = None
    other: str | int | None = None
    zero: bool = False
    force: bool = False

    @property
    def is_set(self) -> bool:
        """Whether it says where the row comes from."""
        return self.zero or self.source is not None

    def __str__(self) -> str:
        """Return the short form, which reads back to itself."""
        row = _ZERO if self.zero else ""
        if self.source is not None:
            row = self.source.guarded((_ZERO, _FORCE, "zoo", "merge"))
        if self.other is not None:
            row += f":#{self.other}" if isinstance(self.other, int) else f":{encode(self.other)}"
        return f"{encode(self.token)}:{_FORCE + ':' if self.force else ''}{row}"


def read_tokenizer(value: object) -> TokenizerChoice:
    """Read `base`, `union` or a model. Raises ValueError."""
    for policy in _POLICIES:
        if isinstance(value, str) and value.strip() == policy:
            return policy
    return read_source(value)


def tokenizer_text(choice: TokenizerChoice) -> str:
    """Return the text that `read_tokenizer` takes back."""
    return choice.guarded(_POLICIES) if isinstance(choice, Source) else choice


def read_multiple(value: object) -> int:
    """Read `pad_to_multiple_of`. Raises ValueError."""
    number = read_decimal(value)
    if number != number.to_integral_value() or not 1 <= number <= _MOST_ROWS:
        raise ValueError(f"a whole number from 1 to {_MOST_ROWS:,}")
    return int(number)


def read_tokens(value: object) -> tuple[TokenRow, ...]:
    """Read the short form, a list of its items, or a mapping of tokens as in mergekit. Raises ValueError."""
    if isinstance(value, Mapping):
        rows = _rows(value)
    elif isinstance(value, str):
        rows = [_item(item) for item in value.strip().split("+")]
    elif isinstance(value, Sequence) and not isinstance(value, bytes):
        rows = [item if isinstance(item, TokenRow) else _item(str(item)) for item in value]
    else:
        raise ValueError("TOKEN:SOURCE+TOKEN:SOURCE..., or a mapping of tokens")
    if not rows:
        raise ValueError("no token is named")
    names = [row.token for row in rows]
    if doubled := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise ValueError(f"{', '.join(map(repr, doubled))}: given twice")
    if broken := [name for name in names if name != name.encode(errors="ignore").decode()]:
        raise ValueError(f"{broken[0]!r}: half a character, which no tokenizer takes")
    return tuple(rows)


def expanded(pairs: Sequence[tuple[str, object]], faults: list[str]) -> list[tuple[str, object]]:
    """Return a spec's pairs with `tokenizer: {source: ..., tokens: ...}` as three keys; its unknown keys are faults."""
    return [plain for name, value in pairs for plain in _expanded(name, value, faults)]


def _expanded(name: str, value: object, faults: list[str]) -> Iterator[tuple[str, object]]:
    if name != "tokenizer" or not isinstance(value, Mapping) or value.keys() & {"base", "base_model"}:
        yield name, value
        return
    faults += [f"tokenizer.{key}: unknown key{nearest(str(key), _INNER)}" for key in value if key not in _INNER]
    yield name, value.get("source") or "union"  # mergekit's default
    yield from ((key, value[key]) for key in _INNER[1:] if value.get(key) not in (None, {}))


def source_faults(rows: Sequence[TokenRow], models: Sequence[Source]) -> list[str]:
    """Return a fault for each token whose row is to come from what is no model of the merge."""
    known = list(dict.fromkeys(map(str, models)))
    return [
        f"tokens: the row of {row.token!r} is to come from {row.source}, which is no model of the merge"
        f"{nearest(str(row.source), known)}"
        for row in rows
        if row.source is not None and row.source not in models
    ]


def _item(text: str) -> TokenRow:
    token, colon, rest = text.strip().partition(":")
    if not token:
        raise ValueError(f"{text!r}: a token is missing before the colon")
    if not colon:
        raise ValueError(f"{text!r}: not TOKEN:SOURCE (a colon inside a token is written %3A)")
    match = _ROW.fullmatch(rest)
    if match is None:
        raise ValueError(f"{text!r}: more than TOKEN:SOURCE:OTHER (a colon inside a token is written %3A)")
    force, place, other = match["force"] is not None, match["place"], match["other"]
    if place == _ZERO and other is None:
        return TokenRow(decode(token), zero=True, force=force)
    row: str | int | None = None if other is None else decode(other)
    if other is not None and other.startswith("#") and other[1:].isdecimal():
        row = int(other[1:])
    return _checked(TokenRow(decode(token), Source.parse(place) if place else None, row, force=force))


def _rows(tokens: Mapping[str, object]) -> list[TokenRow]:
    """Read a mapping of tokens. Raises ValueError that tells what is wrong with each."""
    rows, faults = [], []
    for token, setting in tokens.items():
        try:
            rows.append(_row(str(token), setting))
        except ValueError as error:
            faults.append(str(error))
    if faults:
        raise ValueError("; ".join(faults))
    return rows


def _row(token: str, setting: object) -> TokenRow:
    """Read one entry of a mapping."""
    if isinstance(setting, TokenRow):
        return setting
    if not isinstance(setting, Mapping):
        setting = {"source": setting}
    if unknown := [str(key) for key in setting if key not in ("source", "force")]:
        raise ValueError(f"{token!r}: {', '.join(unknown)}: not a key of a token, which has source and force")
    source, force = setting.get("source"), setting.get("force", False)
    if not isinstance(force, bool):
        raise ValueError(f"{token!r}: force is true or false")
    if isinstance(source, Mapping):
        return _checked(_of_kind(token, source, force))
    return _checked(TokenRow(token, None if source is None else read_source(source), force=force))


def _of_kind(token: str, source: Mapping[str, Any], force: bool) -> TokenRow:
    kind = source.get("kind")
    if kind == "zero" and len(source) == 1:
        return TokenRow(token, zero=True, force=force)
    if kind != "model_token":
        raise ValueError(f"{token!r}: kind {kind!r}{nearest(str(kind), _KINDS)}")
    if unknown := [str(key) for key in source if key not in ("kind", "model", "token", "token_id")]:
        raise ValueError(f"{token!r}: {', '.join(unknown)}: not a key of a model_token")
    name, number = source.get("token"), source.get("token_id")
    if (name is None) == (number is None) or "model" not in source:
        raise ValueError(f"{token!r}: a model_token needs model, and one of token and token_id")
    if number is not None and (isinstance(number, bool) or not isinstance(number, int) or number < 0):
        raise ValueError(f"{token!r}: token_id {number!r}: a whole number from 0 on")
    return TokenRow(token, read_source(source["model"]), str(name) if number is None else number, force=force)


def _checked(row: TokenRow) -> TokenRow:
    if row.force and not row.is_set:
        raise ValueError(f"{row.token!r}: force needs a source")
    if row.other is not None and row.source is None:
        raise ValueError(f"{row.token!r}: another token's row needs a model")
    if not row.token:
        raise ValueError("a token is empty")
    return row

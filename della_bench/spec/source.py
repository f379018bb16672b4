"""Where a model comes from: a folder, a hub id with an optional revision, a model of the zoo, or another merge."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Literal
from urllib.parse import quote, unquote

from della_bench import zoo
from della_bench.suggest import nearest

__all__ = ["Source", "decode", "encode"]

_PLAIN = frozenset("_./~-\\ ")
_FOLDER_PREFIXES = ("/", "./", "../", "~", "\\")


def encode(text: str) -> str:
    """Percent-encode what a spec string or lm-eval's argument parser would read as syntax.

    Letters and digits of any script, `_ . / ~ -`, backslashes and inner blanks stay; so `decode(encode(s)) == s`. A
    text that would be read as a number, a bool or none gets its first character encoded.
    """
    return _guard(_quote(text))


def decode(text: str) -> str:
    """Undo `encode`; raises ValueError where the percent-encoded bytes are no UTF-8."""
    try:
        return unquote(text, errors="surrogatepass")
    except UnicodeDecodeError:
        raise ValueError("what is percent-encoded here is no UTF-8") from None


def _quote(text: str) -> str:
    return "".join(c if c.isalnum() or c in _PLAIN else quote(c, safe="", errors="surrogatepass") for c in text)


def _guard(text: str) -> str:
    """Encode a blank at either end, and the first character of what would be read as a value instead of a text."""
    if text[1:].endswith(" "):
        text = text[:-1] + "%20"
    return _escape_first(text) if text.startswith(" ") or _reads_as_value(text) else text


def _escape_first(text: str) -> str:
    return "".join(f"%{byte:02X}" for byte in text[0].encode("utf-8")) + text[1:]


def _reads_as_value(text: str) -> bool:
    """Whether float(), str.isnumeric() or a Python literal would take it; wider than that where it is simpler."""
    if text.lower() in {"true", "false", "none"} or text.isnumeric() or text == "...":
        return True
    bare = re.sub(r"[_ ]", "", text).lstrip("-")
    try:
        complex(bare)
    except ValueError:
        return bare[:2].lower() in {"0x", "0o", "0b"} and "/" not in bare
    return True


@dataclass(frozen=True)
class Source:
    """A model's source; `str` gives the text that parses back to it.

    `place` is a folder or a hub id (which of the two is decided when it is resolved: an existing folder wins), the name
    of a zoo model when `scheme` is "zoo", or the string form of a merge's spec when it is "merge": such a model is made
    on demand. `revision` is a branch, tag or commit of a hub repository. `adapter` is where a LoRA adapter comes from
    that changes the model.
    """

    place: str
    revision: str | None = None
    scheme: Literal["", "zoo", "merge"] = ""
    adapter: Source | None = None

    @classmethod
    def parse(cls, text: str) -> Source:
        """Read `folder`, `org/name[@revision]`, `zoo:name` or `merge:SPEC`; reserved characters are percent-encoded.

        `::` and a folder or hub id behind one of these is a LoRA adapter on it. A text that starts like a folder (`/`,
        `./`, `../`, `~`) has no revision, so that an `@` in it is its own. Raises ValueError with what is allowed.
        """
        text = text.strip()
        if not text:
            raise ValueError("a source is a folder, a hub id org/name[@revision], or zoo:name, and cannot be empty")
        model, colons, adapter = text.partition("::")
        if colons:
            return cls._with_adapter(model, adapter)
        if text.startswith("merge:"):
            if not text[6:]:
                raise ValueError("the spec of a merge is missing after merge:")
            return cls(decode(text[6:]), scheme="merge")
        if text.startswith("zoo:"):
            name = decode(text[4:])
            if name not in zoo.NAMES:
                raise ValueError(f"no model {name!r} in the zoo{nearest(name, zoo.NAMES)}")
            return cls(name, scheme="zoo")
        if text.startswith(_FOLDER_PREFIXES):
            return cls(decode(text))
        place, at, revision = text.rpartition("@")
        if not at:
            return cls(decode(text))
        if not place or not revision:
            raise ValueError("a revision stands between a hub id and the end: org/name@revision")
        return cls(decode(place), decode(revision))

    @classmethod
    def _with_adapter(cls, model: str, adapter: str) -> Source:
        if not model.strip() or not adapter.strip():
            raise ValueError("an adapter stands behind the model that it changes: model::adapter")
        if "::" in adapter:
            raise ValueError("one adapter at most stands behind a model")
        on_it = cls.parse(adapter)
        if on_it.scheme:
            raise ValueError(f"{adapter} is a whole model; behind :: stands the folder or hub id of a LoRA adapter")
        return replace(cls.parse(model), adapter=on_it)

    def guarded(self, words: Collection[str]) -> str:
        """Return the canonical text; where it is one of `words`, which mean something else, so that it is none."""
        text = str(self)
        return _escape_first(text) if text in words else text

    def __str__(self) -> str:
        """Return the canonical text."""
        if self.adapter is not None:
            return f"{replace(self, adapter=None)}::{self.adapter}"
        place = _quote(self.place)
        if self.scheme:
            return f"{self.scheme}:{place}"
        if self.revision is None:
            return _guard(place)
        if place.startswith(_FOLDER_PREFIXES):
            place = _escape_first(place)  # else the revision would be read as a part of a folder's name
        return _guard(f"{place}@{_quote(self.revision)}")

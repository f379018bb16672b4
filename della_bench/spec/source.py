"""Where a model comes from: a folder, a hub id with an optional revision, or a model of the zoo."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote, unquote

from della_bench import zoo
from della_bench.spec.suggest import nearest

__all__ = ["Source", "decode", "encode"]

_PLAIN = frozenset("_./~-\\ ")
_FOLDER_PREFIXES = ("/", "./", "../", "~", "\\")


def encode(text: str) -> str:
    """Percent-encode what a spec string or lm-eval's argument parser would read as syntax.

    Letters and digits of any script, `_ . / ~ -`, backslashes and inner blanks stay; so `decode(encode(s)) == s`. A
    text that would be read as a number, a bool or none gets its first character encoded.
    """
    out = [c if c.isalnum() or c in _PLAIN else quote(c, safe="", errors="surrogatepass") for c in text]
    if out and (_reads_as_value(text) or out[0] == " "):
        out[0] = "".join(f"%{byte:02X}" for byte in text[0].encode("utf-8", "surrogatepass"))
    if len(out) > 1 and out[-1] == " ":
        out[-1] = "%20"
    return "".join(out)


def decode(text: str) -> str:
    """Undo `encode`."""
    return unquote(text, errors="surrogatepass")


def _reads_as_value(text: str) -> bool:
    if text.lower() in {"true", "false", "none"} or text.isnumeric():
        return True
    try:
        complex(text.replace("_", ""))
    except ValueError:
        return text[:2].lower() in {"0x", "0o", "0b"}
    return True


@dataclass(frozen=True)
class Source:
    """A model's source; `str` gives the text that parses back to it.

    `place` is a folder or a hub id (which of the two is decided when it is resolved: an existing folder wins), or the
    name of a zoo model when `scheme` is "zoo". `revision` is a branch, tag or commit of a hub repository.
    """

    place: str
    revision: str | None = None
    scheme: Literal["", "zoo"] = ""

    @classmethod
    def parse(cls, text: str) -> Source:
        """Read `folder`, `org/name[@revision]` or `zoo:name`; reserved characters inside are percent-encoded.

        A text that starts like a folder (`/`, `./`, `../`, `~`) has no revision, so that an `@` in it is its own.
        Raises ValueError with what is allowed.
        """
        text = text.strip()
        if not text:
            raise ValueError("a source is a folder, a hub id org/name[@revision], or zoo:name, and cannot be empty")
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

    def __str__(self) -> str:
        """Return the canonical text."""
        head = f"{self.scheme}:" if self.scheme else ""
        tail = f"@{encode(self.revision)}" if self.revision is not None else ""
        return head + encode(self.place) + tail

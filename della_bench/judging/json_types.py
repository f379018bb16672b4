"""The JSON that goes to and comes from servers: its values are whatever a server sends, so each use checks them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import TypedDict

__all__ = ["ChatRequest", "Completion", "JsonObject", "Message", "as_object", "as_text", "parse_json", "writable"]

JsonObject = dict[str, object]
ChatRequest = Mapping[str, object]
"""The body of a chat completion request: model, messages, and a judge's parameters."""
Completion = JsonObject
"""The body of a chat completion, as a server sent it."""

_LONGEST_INTEGER = 1000  # digits; Python itself refuses to read one with more than 4,300
_DEEPEST = 100  # levels of nesting; a completion has about seven


class Message(TypedDict):
    """One message of a chat completion request."""

    role: str
    content: str


def as_object(value: object) -> JsonObject:
    """Return `value` where it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}


def as_text(value: object) -> str:
    """Return `value` where it is text, else an empty one."""
    return value if isinstance(value, str) else ""


def parse_json(data: bytes | str) -> object:
    """Return the JSON value of `data`, all of which can be written as JSON again and encoded as UTF-8.

    What JSON or UTF-8 cannot hold is replaced and not refused, since a reply that is paid for is of use even so: NaN,
    infinities, and integers too long to be read become None, what is no character becomes U+FFFD.

    Raises ValueError where `data` is no JSON at all, or is nested too deeply to be anything that was asked for.
    """
    text = data if isinstance(data, str) else data.decode("utf-8-sig", "replace")
    try:
        value = json.loads(text, parse_constant=lambda _: None, parse_float=_finite, parse_int=_integer)
        return writable(value)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def writable(value: object, depth: int = 0) -> object:
    """Return `value` with U+FFFD in the place of each surrogate that no other one follows or precedes.

    JSON can name half of such a pair ("\\\\ud83d"), and nothing can write it as UTF-8. Raises ValueError beyond 100
    levels of lists and objects.
    """
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if depth > _DEEPEST:
        raise ValueError("nested too deeply")
    if isinstance(value, Mapping):
        return {str(writable(key)): writable(each, depth + 1) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [writable(each, depth + 1) for each in value]
    return value


def _finite(digits: str) -> float | None:
    number = float(digits)
    return number if math.isfinite(number) else None


def _integer(digits: str) -> int | None:
    return int(digits) if len(digits) <= _LONGEST_INTEGER else None

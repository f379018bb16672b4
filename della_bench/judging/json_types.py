"""The JSON that goes to and comes from servers: its values are whatever a server sends, so each use checks them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypedDict

__all__ = ["ChatRequest", "Completion", "JsonObject", "Message", "as_object", "as_text"]

JsonObject = dict[str, object]
ChatRequest = Mapping[str, object]
"""The body of a chat completion request: model, messages, and a judge's parameters."""
Completion = JsonObject
"""The body of a chat completion, as a server sent it."""


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

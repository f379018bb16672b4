"""Reading a judge's verdict out of its reply, and making one of several votes."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence

from della_bench.judging.json_types import JsonObject
from della_bench.judging.reply import Reply

__all__ = ["majority", "read_json_verdict", "read_tag", "unreadable_because", "verdict_schema"]

_TAG = re.compile(r"\[\[\s*([A-Za-z]+)\s*\]\]")


def read_tag(text: str, labels: Collection[str]) -> str | None:
    """Return the last [[tag]] of a reply, None where there is none or it is none of `labels`.

    What the judge quotes or weighs stands before its verdict: earlier tags never count, and a last one that was not
    offered makes the whole reply unreadable.
    """
    tags = _TAG.findall(text)
    return tags[-1] if tags and tags[-1] in labels else None


def read_json_verdict(text: str, labels: Collection[str]) -> tuple[str | None, str]:
    """Return (verdict, explanation) of a reply that is one JSON object; (None, "") where it is not."""
    try:
        value = json.loads(text)
    except ValueError:
        return None, ""
    if not isinstance(value, dict):
        return None, ""
    verdict, explanation = value.get("verdict"), value.get("explanation")
    return (verdict if verdict in labels else None), (explanation if isinstance(explanation, str) else "")


def verdict_schema(labels: Sequence[str]) -> JsonObject:
    """Return the `response_format` of a reply that explains first and then names one of `labels`."""
    properties = {"explanation": {"type": "string"}, "verdict": {"type": "string", "enum": list(labels)}}
    schema = {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
    return {"type": "json_schema", "json_schema": {"name": "verdict", "strict": True, "schema": schema}}


def unreadable_because(reply: Reply) -> str | None:
    """Return why no verdict may be read out of a reply, whatever it says; None where it is whole."""
    if reply.refused:
        return "the judge refused"
    if reply.finish_reason == "length":
        return "the judge's reply was cut short"  # its last tag may be a quotation
    return None


def majority(votes: Sequence[bool | None]) -> bool | None:
    """Return what more than half of all `votes` say (None: an unreadable one); None where nothing has that many."""
    for side in (True, False):
        if 2 * sum(vote is side for vote in votes) > len(votes):
            return side
    return None

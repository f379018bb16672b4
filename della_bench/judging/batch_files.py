"""The files of the batch interface: a line a request, a line an answer."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from della_bench.judging.faults import is_policy
from della_bench.judging.json_types import ChatRequest, JsonObject, as_object, writable
from della_bench.judging.reply import Unanswered

__all__ = ["KeyedRequest", "chunks", "request_id", "request_line", "unanswered"]

_MOST_REQUESTS, _MOST_BYTES = 50_000, 100_000_000  # the interface takes 200 MB
_ID_DIGITS = 40  # of a key: as many as tell all requests apart

KeyedRequest = tuple[str, ChatRequest]  # (name of the answer, request)


def request_id(key: str) -> str:
    """Return what a batch calls a request: the beginning of its answer's name."""
    return key[:_ID_DIGITS]


def request_line(key: str, request: ChatRequest, endpoint: str) -> str:
    """Return the line of a request in the file of a batch."""
    row = {"custom_id": request_id(key), "method": "POST", "url": endpoint, "body": writable(request)}
    return json.dumps(row, ensure_ascii=False) + "\n"


def chunks(wanted: Sequence[KeyedRequest], endpoint: str) -> Iterator[list[KeyedRequest]]:
    """Cut requests into as few batches as the interface allows."""
    chunk: list[KeyedRequest] = []
    size = 0
    for key, request in wanted:
        length = len(request_line(key, request, endpoint).encode())
        if chunk and (len(chunk) == _MOST_REQUESTS or size + length > _MOST_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append((key, request))
        size += length
    if chunk:
        yield chunk


def unanswered(row: JsonObject) -> Unanswered:
    """Return why a row of a result file is no answer."""
    body = as_object(as_object(row.get("response")).get("body"))
    error = row.get("error") or body.get("error") or {}
    words = f"{error.get('code')}: {error.get('message')}" if isinstance(error, dict) else str(error)
    status = as_object(row.get("response")).get("status_code")
    if is_policy(words):
        return Unanswered("refused", words[:300], "policy")
    # What is wrong with the request would be wrong with it the next time.
    return Unanswered("rejected" if status in (400, 413, 422) else "failed", words[:300], f"status {status or 'none'}")

"""What servers send in the place of a verdict: some fifty kinds of bad replies, each seen in public reports or likely.

A kind is a function of a good completion. PAID are those that a server charges for and a client can keep: whole chat
completions, whatever they hold. The others are none: broken HTTP, other bodies, errors.
"""

from __future__ import annotations

import email.utils
import json
import random
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from . import stub

Kind = Callable[[dict[str, Any]], stub.Answer]


def _with(**choice: Any) -> Kind:
    """A completion whose choice has these keys in the place of its own."""
    return lambda good: (200, {**good, "choices": [{**good["choices"][0], **choice}]})


def _message(**message: Any) -> Kind:
    return _with(message={"role": "assistant", **message})


def _top(**keys: Any) -> Kind:
    """A completion with these keys at its top in the place of its own."""
    return lambda good: (200, {**good, **keys})


def _raw(change: Callable[[bytes], bytes]) -> Kind:
    """A completion whose bytes are changed."""
    return lambda good: (200, change(json.dumps(good).encode()))


def _http(head: str, change: Callable[[bytes], bytes] = lambda body: body) -> Kind:
    """An answer that breaks HTTP's rules: this head, then the body, then the end of the connection."""
    return lambda good: stub.Raw(head.replace("\n", "\r\n").encode() + b"\r\n\r\n" + change(json.dumps(good).encode()))


def _error(status: int, body: Any, **headers: str) -> Kind:
    return lambda _: (status, body, headers)


LOGPROBS = {"content": [{"token": "A", "logprob": float("nan"), "top_logprobs": [{"logprob": float("-inf")}]}]}
DEEP = b'{"choices": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
AN_HOUR_AGO = email.utils.formatdate(time.time() - 3600, usegmt=True)
A_MOMENT_LATER = email.utils.formatdate(time.time() - 3600, usegmt=True)


def _words(good: dict[str, Any]) -> str:
    return str(good["choices"][0]["message"]["content"])


PAID: dict[str, Kind] = {
    "NaN and infinity in logprobs": _with(logprobs=LOGPROBS),
    "a number beyond all floats": _raw(lambda body: body.replace(b'"index": 0', b'"index": 1e999')),
    "an integer of 5,000 digits": _raw(lambda body: body.replace(b'"created": 1', b'"created": ' + b"9" * 5000)),
    "half a surrogate pair": _raw(lambda body: body.replace(b"[[", b"\\ud83d [[").replace(b"]]", b"]] \\ude00")),
    "half a surrogate pair as a key": _with(logprobs={"\ud83d": 1}),
    "bytes that are no UTF-8": _raw(lambda body: body.replace(b"[[", b"\xff\xfe[[")),
    "a byte order mark": _raw(lambda body: b"\xef\xbb\xbf" + body),
    "a nought character": _message(content="\0"),
    "a message that is text": _with(message="[[A]]"),
    "a message that is a list": _with(message=["[[A]]"]),
    "no message": _with(message=None),
    "a choice that is null": _top(choices=[None]),
    "a choice that is text": _top(choices=["[[A]]"]),
    "no content": _message(content=None),
    "an empty content": _message(content=""),
    "content in parts": lambda good: _message(content=[{"type": "text", "text": _words(good)}])(good),
    "content that is a number": _message(content=1),
    "a tool called instead": _message(content=None, tool_calls=[{"function": {"name": "f", "arguments": "{}"}}]),
    "tool calls that are text": _message(content=None, tool_calls="f"),
    "a reply cut short": _with(finish_reason="length"),
    "a reply that was filtered": _with(finish_reason="content_filter", message={"role": "assistant", "content": ""}),
    "a refusal": _message(content=None, refusal="I cannot help with that."),
    "no usage": _top(usage=None),
    "usage that is text": _top(usage="12 tokens"),
    "usage in words": _top(usage={"prompt_tokens": "many", "completion_tokens": -3}),
    "usage beyond all bounds": _top(usage={"prompt_tokens": 10**400, "completion_tokens": 0}),
    "a model that is an object": _top(model={"name": "m"}),
    "no verdict": _message(content="I would rather not say."),
    "a verdict that was not offered": _message(content="[[A]], or rather [[C]]"),
    "an error beside choices": _top(error={"message": "partial"}),
    "half a million words": _message(content="word " * 100_000),
    "choices within choices": _with(nested=[[[[[[[[[["deep"]]]]]]]]]]),
}
UNPAID: dict[str, Kind] = {
    "nothing": _raw(lambda _: b""),
    "a page of HTML": _raw(lambda _: b"<html>502 Bad Gateway</html>"),
    "JSON cut short": _raw(lambda body: body[:-20]),
    "a list": _raw(lambda body: b"[" + body + b"]"),
    "null": _raw(lambda _: b"null"),
    "no choices": _top(choices=[]),
    "choices that are an object": _top(choices={"0": "[[A]]"}),
    "an error with status 200": lambda _: (200, stub.error("overloaded")),
    "100,000 levels of lists": _raw(lambda _: DEEP),
    "fewer bytes than announced": _http("HTTP/1.1 200 OK\nContent-Length: 99999"),
    "a chunk of no size": _http("HTTP/1.1 200 OK\nTransfer-Encoding: chunked", lambda body: b"ZZ\r\n" + body),
    "chunks that end early": _http("HTTP/1.1 200 OK\nTransfer-Encoding: chunked", lambda body: b"ffff\r\n" + body),
    "no status line": _http("hello"),
    "a length that is no number": _http("HTTP/1.1 200 OK\nContent-Length: many"),
    "gzip that is none": _http("HTTP/1.1 200 OK\nContent-Encoding: gzip"),
    "a head without end": _http("HTTP/1.1 200 OK\nX-Long: " + "a" * 70_000),
    "a status that is none": _http("HTTP/1.1 OK OK\nContent-Length: 0"),
    "a broken connection": lambda _: stub.DROP,
    "429 with a wait": _error(429, stub.error("slow down"), **{"Retry-After-Ms": "5"}),
    "429 with a date of another clock": _error(
        429, stub.error("slow down"), **{"Retry-After": A_MOMENT_LATER, "Date": AN_HOUR_AGO}
    ),
    "429 with a wait that is no number": _error(429, stub.error("slow down"), **{"Retry-After": "inf"}),
    "429 with a date of no calendar": _error(
        429, stub.error("slow down"), **{"Retry-After": "Fri, 99 Foo 99999 99:99:99 GMT"}
    ),
    "429 with a head beyond ASCII": _http(
        "HTTP/1.1 429 Too Many Requests\nRetry-After-Ms: 5\nX-City: M\u00fcnster\nContent-Length: 0", lambda _: b""
    ),
    "500": _error(500, stub.error("internal error")),
    "500 without JSON": _error(500, b"\xff\xfe"),
    "503 as a page of HTML": _error(503, b"<html>down</html>"),
    "529 overloaded": _error(529, {"error": "overloaded"}),
    "408": _error(408, stub.error("late")),
    "400 beyond the context": _error(400, stub.error("maximum context length is 8192 tokens", param="messages")),
    "400 by policy": _error(400, stub.error("content policy violation", "content_policy_violation")),
    "400 whose error is a list": _error(400, {"error": ["no"]}),
    "400 whose error is null": _error(400, {"error": None}),
    "413": _error(413, b"too large"),
    "422": _error(422, {"detail": [{"loc": ["body"], "msg": "no"}]}),
}
KINDS = {**PAID, **UNPAID}


class FaultServer:
    """Answers each request by `words`, or, with the chance of `share` for each kind, by a bad reply of `kinds`.

    `sent` counts the kinds that were sent ("good" too), `paid` the whole completions.
    """

    def __init__(
        self, words: Callable[[dict[str, Any]], str], kinds: dict[str, Kind], share: float, seed: int = 0
    ) -> None:
        self.words, self.kinds, self.share = words, kinds, share
        self.sent: Counter[str] = Counter()
        self._random = random.Random(seed)

    @property
    def paid(self) -> int:
        return sum(number for kind, number in self.sent.items() if kind == "good" or kind in PAID)

    def __call__(self, request: dict[str, Any], _: int) -> stub.Answer:
        good = stub.completion(self.words(request))
        place = int(self._random.random() / self.share)
        names = list(self.kinds)
        name = names[place] if place < len(names) else "good"
        self.sent[name] += 1
        return (200, good) if name == "good" else self.kinds[name](good)

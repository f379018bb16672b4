"""What a failed request means: try again, leave this one unscored, or stop the run and say what to do."""

from __future__ import annotations

import asyncio
import email.utils
import math
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from della_bench.judging.json_types import ChatRequest
from della_bench.judging.reply import StopRun, Unanswered
from della_bench.judging.server import Server, redacted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from openai import APIError, APIStatusError

__all__ = ["Retry", "fault_of", "is_policy", "passed_on"]

_NO_MONEY = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "access_terminated"})
_POLICY = ("content_policy", "content_filter", "responsibleaipolicy", "moderation", "content policy")
_TOO_LONG = ("context length", "context_length", "context window", "input tokens", "too long", "maximum model length")
_TRANSIENT = frozenset({408, 409, 425, 429})
_NO_CONNECTION_AIOHTTP = frozenset(
    {"ClientConnectorError", "ClientConnectorDNSError", "ClientConnectorSSLError", "ClientConnectorCertificateError",
     "ClientProxyConnectionError", "ConnectionTimeoutError"}
)  # fmt: skip
_NO_CONNECTION_HTTPX = frozenset({"ConnectError", "ConnectTimeout", "PoolTimeout"})
_TRANSPORTS = ("aiohttp", "httpx", "httpcore", "h11", "h2", "anyio", "ssl", "asyncio")
_LONGEST = 300  # characters of a server's words that are passed on


@dataclass(frozen=True)
class Retry:
    """A failure that another try may mend.

    `kind` names it in a few words. `wait` is what the server asks for (seconds, None where it does not say), `refused`
    that it lacks capacity (429), `charged` that it may have answered and charged, `unreachable` that no connection came
    about, and `silent` that no answer came in time.
    """

    reason: str
    kind: str = "connection broken"
    wait: float | None = None
    refused: bool = False
    charged: bool = False
    unreachable: bool = False
    silent: bool = False


def fault_of(error: Exception, server: Server, request: ChatRequest) -> Retry | Unanswered | StopRun:
    """Return what `error` means for `request`: openai's, or one that it let through."""
    import openai

    if isinstance(error, openai.APIConnectionError):  # a timeout is one, too
        unreachable = _never_sent(error)
        silent = isinstance(error, openai.APITimeoutError) and not unreachable and _is_late(error)
        kind = "not reachable" if unreachable else "no answer in time" if silent else "connection broken"
        return Retry(_why_broken(error), kind, charged=not unreachable, unreachable=unreachable, silent=silent)
    if isinstance(error, openai.APIStatusError):
        return _status(error, server, request)
    return Retry(_named(error), charged=True) if isinstance(error, openai.APIError) else _unexpected(error)


def _unexpected(error: Exception) -> Retry | Unanswered:
    """Return what an exception means that openai let through: it is this one request's, whatever it is.

    The libraries below openai raise their own where a server breaks HTTP's rules (chunks, headers, a status line): a
    lost connection by another name, which is tried again. Anything else would happen at every try.
    """
    if isinstance(error, OSError) or type(error).__module__.partition(".")[0].startswith(_TRANSPORTS):
        return Retry(f"malformed HTTP ({_named(error)})", "malformed HTTP", charged=True)
    return Unanswered("error", f"it cannot be sent: {_named(error)}", type(error).__name__)


def _status(error: APIStatusError, server: Server, request: ChatRequest) -> Retry | Unanswered | StopRun:
    status, words = error.status_code, _words(error)
    kinds = {str(error.code or ""), str(error.type or "")}
    if kinds & _NO_MONEY or status == 402:
        return StopRun(
            f"{server.display_url}: the account has no quota left ({words}); what is judged is kept: settle the "
            "account's billing and run the same command again"
        )
    if status == 401:
        return StopRun(
            f"{server.display_url} does not accept the key: check "
            f"{'AZURE_OPENAI_API_KEY' if server.azure else 'OPENAI_API_KEY'} and run the same command again",
            exit_code=2,
        )
    if status in (400, 403, 422) and is_policy(f"{error.code} {error.type} {words}"):
        return Unanswered("refused", f"refused by the server's policy: {words}", "policy")
    if status == 403:
        return StopRun(f"{server.display_url} denies access to {request.get('model')}: {words}", exit_code=2)
    if status == 404:
        what = "deployment" if server.azure else "model"
        return StopRun(
            f"{server.display_url} has no {what} {request.get('model')!r}, or is not the right address ({words}); name "
            f"another {what} as `model`, or take another judge",
            exit_code=2,
        )
    if status in _TRANSIENT or status >= 500:
        kind = f"status {status}"
        return Retry(f"{kind}: {words}", kind, wait=_retry_after(error.response.headers), refused=status == 429)
    parameter = re.split(r"[.\[]", str(error.param or ""))[0]
    if parameter in request and parameter != "messages" and not _is_too_long(f"{error.code} {words}"):
        return StopRun(
            f"{server.display_url} does not take the judge's parameter {error.param!r} ({words}); "
            "change it in its judge.yaml",
            exit_code=2,
        )
    return Unanswered("rejected", f"status {status}: {words}", f"status {status}")


def _words(error: APIStatusError) -> str:
    """Return what a server says of an error: as OpenAI does, as FastAPI does (`detail`), or in plain text."""
    body = error.body
    said = body.get("message") or body.get("detail") if isinstance(body, dict) else body
    return passed_on(str(said or error.message))


def _named(error: Exception) -> str:
    return passed_on(f"{type(error).__name__}: {error}")


def passed_on(words: str) -> str:
    """Return a server's words as a message takes them: in one line, without keys, and not too long."""
    return redacted(" ".join(words.split()))[:_LONGEST]


def _is_too_long(words: str) -> bool:
    """Return whether a server's words say that a request is longer than its model takes, which is that one's fault."""
    return any(sign in words.lower() for sign in _TOO_LONG)


def is_policy(words: str) -> bool:
    """Return whether a server's words say that a policy, not a fault, kept it from answering."""
    return any(sign in words.lower() for sign in _POLICY)


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause = error.__cause__
    while cause is not None:
        yield cause
        cause = cause.__cause__


def _never_sent(error: APIError) -> bool:
    """Return whether no connection came about, by the first fault's name."""
    causes = list(_causes(error))
    if any(type(cause).__module__.startswith("aiohttp") for cause in causes):
        return any(type(cause).__name__ in _NO_CONNECTION_AIOHTTP for cause in causes)
    return any(type(cause).__name__ in _NO_CONNECTION_HTTPX for cause in causes)


def _is_late(error: APIError) -> bool:
    """Return whether a timeout is one: openai's transport on aiohttp calls broken connections, too, a timeout."""
    of_aiohttp = [cause for cause in _causes(error) if type(cause).__module__.startswith("aiohttp")]
    return all(isinstance(cause, asyncio.TimeoutError) for cause in of_aiohttp)


def _why_broken(error: APIError) -> str:
    for cause in reversed(list(_causes(error))):
        if words := " ".join(str(cause).split()):
            return redacted(words)[:_LONGEST]
    return redacted(str(error))[:_LONGEST]


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that the server asks to wait for: Retry-After-Ms, or Retry-After as seconds or a date.

    A date is held against the server's own clock, which its answer's Date tells: ours may be hours off.
    """
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            seconds = float(headers[name]) * unit
        except (KeyError, ValueError):
            continue
        return max(0.0, seconds) if math.isfinite(seconds) else None
    until = _time_of(headers.get("retry-after", ""))
    now = _time_of(headers.get("date", ""))
    return None if until is None else max(0.0, until - (time.time() if now is None else now))


def _time_of(date: str) -> float | None:
    parts = email.utils.parsedate_tz(date)
    try:
        return None if parts is None else float(email.utils.mktime_tz(parts))
    except (ValueError, OverflowError):  # a date that no calendar has
        return None

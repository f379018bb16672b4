"""What a failed request means: try again, leave this one unscored, or stop the run and say what to do."""

from __future__ import annotations

import email.utils
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from della_bench.judging.json_types import ChatRequest
from della_bench.judging.reply import StopRun, Unanswered
from della_bench.judging.server import Server, redacted

if TYPE_CHECKING:
    from openai import APIError, APIStatusError

__all__ = ["Retry", "fault_of"]

_NO_MONEY = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "access_terminated"})
_POLICY = ("content_policy", "content_filter", "responsibleaipolicy", "moderation", "content policy")
_TRANSIENT = frozenset({408, 409, 425, 429})
_NO_CONNECTION_AIOHTTP = frozenset(
    {"ClientConnectorError", "ClientConnectorDNSError", "ClientConnectorSSLError", "ClientConnectorCertificateError",
     "ClientProxyConnectionError", "ConnectionTimeoutError"}
)  # fmt: skip
_NO_CONNECTION_HTTPX = frozenset({"ConnectError", "ConnectTimeout", "PoolTimeout"})
_LONGEST = 300  # characters of a server's words that are passed on


@dataclass(frozen=True)
class Retry:
    """A failure that another try may mend.

    `wait` is what the server asks for (seconds, None where it does not say), `refused` that it lacks capacity (429),
    `charged` that it may have answered and charged, and `unreachable` that no connection came about.
    """

    reason: str
    wait: float | None = None
    refused: bool = False
    charged: bool = False
    unreachable: bool = False


def fault_of(error: APIError, server: Server, request: ChatRequest) -> Retry | Unanswered | StopRun:
    """Return what openai's `error` means for `request`."""
    import openai

    if isinstance(error, openai.APIConnectionError):  # a timeout is one, too
        unreachable = _never_sent(error)
        return Retry(_why_broken(error), charged=not unreachable, unreachable=unreachable)
    if isinstance(error, openai.APIStatusError):
        return _status(error, server, request)
    return Retry(redacted(str(error))[:_LONGEST], charged=True)


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
    if status in (400, 403, 422) and _is_policy(error):
        return Unanswered("refused", f"refused by the server's policy: {words}")
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
        return Retry(f"status {status}: {words}", wait=_retry_after(error), refused=status == 429)
    if error.param and str(error.param).partition("[")[0] != "messages":
        return StopRun(
            f"{server.display_url} does not take the judge's parameter {error.param!r} ({words}); "
            "change it in its judge.yaml",
            exit_code=2,
        )
    return Unanswered("failed", f"status {status}: {words}")


def _words(error: APIStatusError) -> str:
    message = error.body.get("message") if isinstance(error.body, dict) else None
    return redacted(" ".join(str(message or error.message).split()))[:_LONGEST]


def _is_policy(error: APIStatusError) -> bool:
    said = f"{error.code} {error.type} {_words(error)}".lower()
    return any(sign in said for sign in _POLICY)


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause = error.__cause__
    while cause is not None:
        yield cause
        cause = cause.__cause__


def _never_sent(error: APIError) -> bool:
    """Return whether no connection came about.

    By the first fault's name: openai's transport on aiohttp calls broken connections, too, a timeout on connecting.
    """
    causes = list(_causes(error))
    if any(type(cause).__module__.startswith("aiohttp") for cause in causes):
        return any(type(cause).__name__ in _NO_CONNECTION_AIOHTTP for cause in causes)
    return any(type(cause).__name__ in _NO_CONNECTION_HTTPX for cause in causes)


def _why_broken(error: APIError) -> str:
    for cause in reversed(list(_causes(error))):
        if words := " ".join(str(cause).split()):
            return redacted(words)[:_LONGEST]
    return redacted(str(error))[:_LONGEST]


def _retry_after(error: APIStatusError) -> float | None:
    """Return the seconds that the server asks to wait for: Retry-After-Ms, or Retry-After as seconds or a date."""
    headers = error.response.headers
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            return max(0.0, float(headers[name]) * unit)
        except (KeyError, ValueError):
            continue
    date = email.utils.parsedate_tz(headers.get("retry-after", ""))
    return None if date is None else max(0.0, email.utils.mktime_tz(date) - time.time())

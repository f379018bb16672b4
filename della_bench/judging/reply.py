"""What a judge's model answered, and the ways in which it does not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from della_bench.errors import JudgeError

__all__ = ["OutOfBudget", "Reply", "StopRun", "Unanswered"]


@dataclass(frozen=True)
class Reply:
    """One chat completion, from the server or from the cache.

    `body` is the completion as the server sent it. `price_share` is what was paid of the full price (a batch costs
    half), `latency` how long the answer took (seconds), `at` when it came (seconds since 1970), `key` its name in the
    cache, and `cached` whether it was there before.
    """

    key: str
    body: dict[str, Any]
    latency: float
    at: float
    price_share: float = 1.0
    cached: bool = False

    @property
    def text(self) -> str:
        """The words of the first choice; empty where there are none."""
        message = self._choice.get("message") or {}
        content = message.get("content")
        return content if isinstance(content, str) else ""

    @property
    def finish_reason(self) -> str | None:
        """Why the model ended: `stop`, `length` (cut short), `content_filter`, ..."""
        reason = self._choice.get("finish_reason")
        return str(reason) if reason is not None else None

    @property
    def refused(self) -> bool:
        """Whether the model, or a filter in front of it, refused to answer."""
        message = self._choice.get("message") or {}
        return self.finish_reason == "content_filter" or bool(message.get("refusal"))

    @property
    def model(self) -> str:
        """The model that the server says has answered."""
        return str(self.body.get("model") or "")

    @property
    def prompt_tokens(self) -> int:
        """Tokens of the request, as the server counted them."""
        return self._usage("prompt_tokens")

    @property
    def completion_tokens(self) -> int:
        """Tokens of the answer, with those of its reasoning, as the server counted them."""
        return self._usage("completion_tokens")

    def as_row(self) -> dict[str, Any]:
        """Return what judgements.jsonl keeps of it, the whole reply included."""
        return {
            "model": self.model,
            "reply": self.body,
            "usage": self.body.get("usage"),
            "latency": self.latency,
            "at": self.at,
            "price_share": self.price_share,
            "cached": self.cached,
            "key": self.key,
        }

    @property
    def _choice(self) -> dict[str, Any]:
        choices = self.body.get("choices")
        first = choices[0] if isinstance(choices, list) and choices else None
        return first if isinstance(first, dict) else {}

    def _usage(self, name: str) -> int:
        usage = self.body.get("usage")
        value = usage.get(name) if isinstance(usage, dict) else None
        return value if isinstance(value, int) and value > 0 else 0


class Unanswered(JudgeError):  # noqa: N818  (what happened to one request, not a fault of the run)
    """One request has no answer: it was `refused`, or every try has `failed`. The run goes on."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class StopRun(JudgeError):  # noqa: N818
    """No further request can succeed (no quota, a wrong key, no such model, no server): the run stops at once."""


class OutOfBudget(StopRun):
    """The next request could cost more than --max-cost leaves."""

"""What a judge's model answered, and the ways in which it does not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

from della_bench.errors import JudgeError
from della_bench.judging.json_types import Completion, JsonObject, as_object, as_text

__all__ = ["Judgement", "OutOfBudget", "Reply", "StopRun", "Unanswered"]

_MOST_TOKENS = 10**9  # of one reply; a server that counts more has miscounted


class Judgement(TypedDict):
    """What a row of judgements.jsonl keeps of a reply: the whole of it, and what it took."""

    model: str
    reply: Completion
    usage: object
    latency: float
    at: float
    price_share: float
    cached: bool
    key: str


@dataclass(frozen=True)
class Reply:
    """One chat completion, from the server or from the cache.

    `body` is the completion as the server sent it. `price_share` is what was paid of the full price (a batch costs
    half), `latency` how long the answer took (seconds), `at` when it came (seconds since 1970), `key` its name in the
    cache, and `cached` whether it was there before.
    """

    key: str
    body: Completion
    latency: float
    at: float
    price_share: float = 1.0
    cached: bool = False

    @property
    def text(self) -> str:
        """The words of the first choice; empty where there are none."""
        content = self._message.get("content")
        if isinstance(content, list):  # in parts, as some servers send it
            return "".join(as_text(as_object(part).get("text")) for part in content)
        return as_text(content)

    @property
    def finish_reason(self) -> str | None:
        """Why the model ended: `stop`, `length` (cut short), `content_filter`, ..."""
        reason = self._choice.get("finish_reason")
        return str(reason) if reason is not None else None

    @property
    def refused(self) -> bool:
        """Whether the model, or a filter in front of it, refused to answer."""
        return self.finish_reason == "content_filter" or bool(self._message.get("refusal"))

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

    def as_row(self) -> Judgement:
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
    def _choice(self) -> JsonObject:
        choices = self.body.get("choices")
        return as_object(choices[0]) if isinstance(choices, list) and choices else {}

    @property
    def _message(self) -> JsonObject:
        return as_object(self._choice.get("message"))

    def _usage(self, name: str) -> int:
        value = as_object(self.body.get("usage")).get(name)
        return int(min(value, _MOST_TOKENS)) if isinstance(value, (int, float)) and value > 0 else 0


class Unanswered(JudgeError):  # noqa: N818  (what happened to one request, not a fault of the run)
    """One request has no answer, and the run goes on.

    `reason`: it was `refused` by a policy, `rejected` as one that the server does not take (too long, for instance),
    every try has `failed`, or an `error` of this program got in its way. `kind` says in a few words what happened, the
    same for all requests to which the same thing happened: "status 500", "no JSON".
    """

    def __init__(self, reason: str, message: str, kind: str = "") -> None:
        super().__init__(message)
        self.reason, self.kind = reason, kind


class StopRun(JudgeError):  # noqa: N818
    """No further request can succeed (no quota, a wrong key, no such model, no server): the run stops at once."""


class OutOfBudget(StopRun):
    """The next request could cost more than is left of the budget."""

"""What requests cost, and a budget that cannot be overshot: the worst case is set aside before a request is sent.

Money is counted in US dollars as decimals, exactly. A request's tokens are bounded from above by the bytes of its JSON:
no token of a byte-level vocabulary is shorter than a byte. What the server then reports takes the place of the bound.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from della_bench.errors import JudgeError
from della_bench.judging.json_types import ChatRequest, as_object
from della_bench.judging.reply import OutOfBudget, Reply

__all__ = ["Budget", "Estimate", "Hold", "Price", "completion_bound", "prompt_bound", "typical_prompt_tokens"]

_MILLION = Decimal(1_000_000)
_TEMPLATE_TOKENS = 64  # what a server's own chat template may add around the messages
_BYTES_A_TOKEN = 4  # of English prose; an estimate, never a bound


@dataclass(frozen=True)
class Price:
    """US dollars per million tokens in and out, and the share of them that a batch costs."""

    input: Decimal
    output: Decimal
    batch: Decimal = Decimal("0.5")

    def of(self, prompt_tokens: int, completion_tokens: int, share: float = 1.0) -> Decimal:
        """Return the dollars for so many tokens at `share` of the full price."""
        return (self.input * prompt_tokens + self.output * completion_tokens) / _MILLION * Decimal(str(share))


def prompt_bound(request: ChatRequest) -> int:
    """Return a number of tokens that the request's messages, schema and tools cannot exceed."""
    return len(json.dumps(request, ensure_ascii=False).encode("utf-8", "surrogatepass")) + _TEMPLATE_TOKENS


def typical_prompt_tokens(request: ChatRequest) -> int:
    """Return about how many tokens the request's messages have."""
    messages = request.get("messages")
    texts = [str(as_object(message).get("content", "")) for message in messages] if isinstance(messages, list) else []
    text = "".join(texts)
    return len(text.encode("utf-8", "surrogatepass")) // _BYTES_A_TOKEN + 8


def completion_bound(request: ChatRequest) -> int | None:
    """Return the most tokens that may be answered, None where the request does not say."""
    given = (request.get("max_completion_tokens"), request.get("max_tokens"))
    limits = [limit for limit in given if isinstance(limit, int)]
    choices = request.get("n")
    return min(limits) * (choices if isinstance(choices, int) and choices else 1) if limits else None


@dataclass(frozen=True)
class Estimate:
    """What a judging would ask and cost: requests that are to be sent, and votes whose answers are `known` already.

    Tokens and `cost` are about what is to be expected (four bytes a token); `worst_cost` cannot be exceeded while every
    reply can be read. Costs are dollars, None where the price is unknown.
    """

    judge: str
    model: str | None
    answers: int
    requests: int
    known: int
    prompt_tokens: int
    completion_tokens: int
    cost: Decimal | None
    worst_cost: Decimal | None

    @classmethod
    def of(
        cls,
        judge: str,
        model: str | None,
        *,
        answers: int,
        requests: Sequence[ChatRequest],
        known: int,
        typical_completion: int,
        price: Price | None,
        batch: bool,
    ) -> Estimate:
        """Add up what `requests` would cost. typical_completion: the tokens of an ordinary reply."""
        prompt = sum(map(typical_prompt_tokens, requests))
        bounds = [completion_bound(request) for request in requests]
        completion = sum(typical_completion if bound is None else min(bound, typical_completion) for bound in bounds)
        cost = worst = None
        if price is not None:
            share = float(price.batch) if batch else 1.0
            cost = price.of(prompt, completion, share)
            if None not in bounds:
                worst = price.of(sum(map(prompt_bound, requests)), sum(bound or 0 for bound in bounds), share)
        return cls(judge, model, answers, len(requests), known, prompt, completion, cost, worst)


class Budget:
    """Dollars that may be spent, shared by all requests of a run. Not for several threads.

    `spent` is what answers have cost for certain, `lost` the worst case of requests whose answers got lost on the way,
    which a server may have charged. Both count against the limit.
    """

    def __init__(
        self,
        limit: Decimal | float | None = None,
        price: Price | None = None,
        spent: Callable[[Decimal], None] | None = None,
    ) -> None:
        """`spent` is told all that counts against the limit, as it does.

        Raises JudgeError where there is a limit but no price to hold against it.
        """
        if limit is not None and price is None:
            raise JudgeError(
                "`max_cost`: this judge has no price; give it as `price`, or in its judge.yaml (price: {input: ..., "
                "output: ...})",
                exit_code=2,
            )
        self.limit = None if limit is None else Decimal(str(limit))
        self.price = price
        self._tell_spent = spent
        self.spent = self.lost = self._held = Decimal(0)
        self._waiting: deque[asyncio.Future[None]] = deque()

    def worst_case(self, request: ChatRequest, share: float = 1.0) -> Decimal:
        """Return the most dollars that `request` can cost. Raises JudgeError where its answer has no bound."""
        if self.price is None:
            return Decimal(0)
        most = completion_bound(request)
        if most is None:
            if self.limit is None:
                most = 0  # only ever compared with a limit
            else:
                raise JudgeError(
                    "`max_cost`: the judge's parameters do not bound its answer; give max_completion_tokens or "
                    "max_tokens in its judge.yaml",
                    exit_code=2,
                )
        return self.price.of(prompt_bound(request), most, share)

    def cost_of(self, request: ChatRequest, reply: Reply) -> Decimal:
        """Return what an answer has cost; its request's worst case where the server does not count its tokens."""
        if self.price is None:
            return Decimal(0)
        if not reply.prompt_tokens + reply.completion_tokens and request:
            return self.worst_case(request, reply.price_share)
        return self.price.of(reply.prompt_tokens, reply.completion_tokens, reply.price_share)

    def left(self) -> Decimal | None:
        """Return the dollars that nothing is set aside for; None where there is no limit."""
        return None if self.limit is None else self.limit - self.spent - self.lost - self._held

    async def hold(self, request: ChatRequest, share: float = 1.0) -> Hold:
        """Set the worst case of `request` aside, once it fits beside what others may still cost.

        Raises OutOfBudget where it does not fit even when all others have been settled.
        """
        worst = self.worst_case(request, share)
        while self.limit is not None and self.spent + self.lost + self._held + worst > self.limit:
            if not self._held:
                left = self.limit - self.spent - self.lost
                raise OutOfBudget(
                    f"`max_cost`: ${left:.4f} is left to spend and the next request could cost ${worst:.4f}; what is "
                    "judged is kept, and the same command with a higher limit goes on there",
                    exit_code=1,
                )
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            await turn
        self._held += worst
        return Hold(self, worst)

    def _settle(self, worst: Decimal, spent: Decimal, lost: Decimal) -> None:
        self._held -= worst
        self.spent += spent
        self.lost += lost
        if self._tell_spent is not None and spent + lost:
            self._tell_spent(spent + lost)
        waiting, self._waiting = self._waiting, deque()
        for turn in waiting:
            if not turn.done():
                turn.set_result(None)


class Hold:
    """Money set aside for one request; settled exactly once."""

    def __init__(self, budget: Budget, worst: Decimal) -> None:
        self._budget, self._worst, self._open = budget, worst, True

    def spend(self, cost: Decimal) -> None:
        """The request was answered and has cost so much."""
        self._close(spent=cost)

    def lose(self) -> None:
        """The request may have been answered and charged, but no answer came: its worst case counts."""
        self._close(lost=self._worst)

    def release(self) -> None:
        """The request has cost nothing; nothing happens where it is settled already."""
        if self._open:
            self._close()

    def _close(self, spent: Decimal = Decimal(0), lost: Decimal = Decimal(0)) -> None:
        self._open = False
        self._budget._settle(self._worst, spent, lost)

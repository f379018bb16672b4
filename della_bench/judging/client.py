"""Asking a model: each request once, its answer kept, its cost held against a budget, its failures retried."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections import Counter
from decimal import Decimal
from typing import TYPE_CHECKING

from della_bench.errors import JudgeError
from della_bench.judging.cache import Cache, request_key
from della_bench.judging.chat import ChatSender
from della_bench.judging.cost import Budget, Hold, completion_bound, typical_prompt_tokens
from della_bench.judging.faults import Retry, fault_of, passed_on
from della_bench.judging.json_types import ChatRequest, as_object, as_text, parse_json, writable
from della_bench.judging.limiter import Limiter, Limits
from della_bench.judging.policy import RetryPolicy, Tally
from della_bench.judging.reply import Reply, StopRun, Unanswered
from della_bench.judging.server import Server

if TYPE_CHECKING:
    from openai import AsyncOpenAI

__all__ = ["Client"]

_log = logging.getLogger("della_bench.judging")
_SHORTEST_ASKED = 1.0  # seconds; a server that asks for less knows nothing of its load
_LOOK_AGAIN = 0.2  # seconds between two looks for an answer that another process asks for
_FAILURES_THAT_STOP = 20  # requests in a row that all failed for good


class Client:
    """openai's async client with a cache in front; an async context manager, for one event loop."""

    def __init__(
        self,
        server: Server,
        cache: Cache,
        budget: Budget | None = None,
        limits: Limits = Limits(),  # noqa: B008  (frozen)
        retry_policy: RetryPolicy = RetryPolicy(),  # noqa: B008
    ) -> None:
        self.server, self.budget = server, budget or Budget()
        self.tally = Tally(cost=Decimal(0) if self.budget.price else None)
        self._cache, self._retry_policy = cache, retry_policy
        self._limiter = Limiter(limits)
        self._pending: dict[str, asyncio.Future[Reply]] = {}
        self._failed_in_a_row: list[str] = []  # the kinds of failure
        self._stopped: JudgeError | None = None
        self._halt = asyncio.Event()
        self._openai: AsyncOpenAI | None = None
        self._sender: ChatSender | None = None
        self._silence: asyncio.TimerHandle | None = None
        self._is_heard = False

    async def __aenter__(self) -> Client:  # noqa: D105
        return self

    async def __aexit__(self, *_: object) -> None:  # noqa: D105
        if self._silence is not None:
            self._silence.cancel()
        try:
            if self._sender is not None:
                await self._sender.close()
        finally:
            if self._openai is not None:
                await self._openai.close()

    @property
    def openai(self) -> AsyncOpenAI:
        """openai's own client, connected when it is first needed: what is cached needs no key."""
        if self._openai is None:
            self._openai = self.server.connect(self._limiter.limits.concurrency, self._retry_policy.timeout)
        return self._openai

    def _chat(self) -> ChatSender:
        if self._sender is None:
            self._sender = ChatSender(self.openai, self._limiter.limits.concurrency, self._retry_policy.timeout)
        return self._sender

    def key(self, request: ChatRequest, *, vote: int = 0, attempt: int = 0) -> str:
        """Return the name of the answer to `request`."""
        return request_key(self.server.url, request, vote, attempt)

    def find(self, request: ChatRequest, *, vote: int = 0, attempt: int = 0) -> Reply | None:
        """Return the answer from the cache, None where there is none; nobody is asked."""
        return self._cache.get(self.key(request, vote=vote, attempt=attempt))

    def cached(self, key: str) -> bool:
        """Return whether the answer of that name is in the cache."""
        return self._cache.has(key)

    @property
    def cache(self) -> Cache:
        """The file of answers."""
        return self._cache

    async def ask(self, request: ChatRequest, *, vote: int = 0, attempt: int = 0, failed_before: bool = False) -> Reply:
        """Return the answer to `request`, the whole body of a chat completion request.

        Answers are kept: the same request with the same `vote` and `attempt` is sent once, however often it is asked.
        Any number of requests may be asked at once. `failed_before`: an earlier run had no answer to this one, so that
        another failure says nothing of the server. Raises Unanswered where this one has no answer, StopRun where
        none will have one (OutOfBudget: no money for it).
        """
        key = self.key(request, vote=vote, attempt=attempt)
        if (known := self._cache.get(key)) is not None:
            self.tally.cached += 1
            return known
        if (pending := self._pending.get(key)) is not None:
            return await asyncio.shield(pending)
        self._raise_if_stopped()
        task = asyncio.ensure_future(self._fetch(key, request, failed_before))
        self._pending[key] = task
        try:
            return await task
        finally:
            del self._pending[key]

    async def _fetch(self, key: str, request: ChatRequest, failed_before: bool) -> Reply:
        try:
            if (theirs := await self._wait_for_others(key)) is not None:
                return theirs
            reply = await self._ask_until_answered(key, request)
        except Unanswered as error:
            self._cache.give_up(key)
            # What the server refuses or rejects, it has answered: such requests say nothing about the next one.
            if error.reason in ("failed", "error") and not failed_before:
                self._failed_in_a_row.append(error.kind)
                if len(self._failed_in_a_row) >= _FAILURES_THAT_STOP:
                    raise self.stop(StopRun(self._why_all_fail(error))) from error
            raise
        except JudgeError as error:  # the disk, the key, the budget: none of them gets better by itself
            raise self.stop(error) from error
        self._failed_in_a_row.clear()
        return reply

    def _why_all_fail(self, last: Unanswered) -> str:
        kinds = ", ".join(f"{number} times {kind}" for kind, number in Counter(self._failed_in_a_row).most_common())
        return (
            f"{self.server.display_url}: {len(self._failed_in_a_row)} requests in a row had no answer ({kinds}), the "
            f"last one: {last}; what is judged is kept: run the same command again when the server does"
        )

    async def _wait_for_others(self, key: str) -> Reply | None:
        """Claim the answer of that name; or return it, once another process that asks for it has it."""
        while not self._cache.claim(key):
            if (known := self._cache.get(key)) is not None:
                self.tally.cached += 1
                return known
            if (log := self._cache.batch_of(key)) is not None:
                raise StopRun(
                    f"a batch of {log.parent} is to answer this request, which would be paid for twice: wait for it "
                    "there, by the same command with `batch`"
                )
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._halt.wait(), _LOOK_AGAIN)
            self._raise_if_stopped()
        return None

    def stop(self, error: JudgeError) -> JudgeError:
        """Send nothing any more, and wake those who wait for another try; return the first reason of all."""
        if self._stopped is None:
            self._stopped = error
            self._halt.set()
        return self._stopped

    async def _ask_until_answered(self, key: str, request: ChatRequest) -> Reply:
        """Ask until there is an answer or the retry policy gives up."""
        began, sent, tries = time.monotonic(), 0, 0
        while True:
            outcome = await self._once(key, request)
            if isinstance(outcome, Reply):
                return outcome
            sent += 1
            tries += not outcome.refused
            _log.debug("try %d failed: %s", sent, outcome.reason)
            if outcome.unreachable and not self.tally.answered and tries >= self._retry_policy.unreachable_tries:
                raise StopRun(
                    f"{self.server.display_url} cannot be reached ({outcome.reason}): "
                    "is the address right, does it run?"
                )
            if outcome.silent and not self._is_heard and tries >= self._retry_policy.unreachable_tries:
                raise StopRun(
                    f"{self.server.display_url} has not answered a single request within "
                    f"{self._retry_policy.timeout:.0f} seconds, at {tries} tries: look at its log whether it serves "
                    f"{request.get('model')}; where it is slow, take a longer `timeout` or a lower `concurrency`"
                )
            wait = self._wait(sent, outcome)
            if tries >= self._retry_policy.tries or time.monotonic() - began + wait > self._retry_policy.seconds:
                raise Unanswered("failed", f"no answer after {sent} tries, the last: {outcome.reason}", outcome.kind)
            if outcome.wait is not None and outcome.refused:
                self._limiter.pause(outcome.wait)
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._halt.wait(), wait)

    def _wait(self, sent: int, fault: Retry) -> float:
        """Return the seconds before the next try: never less than the server asks for, and not the same for all."""
        doubled = min(self._retry_policy.longest, self._retry_policy.first * 2.0 ** min(sent - 1, 16))
        if fault.wait is not None and fault.wait >= _SHORTEST_ASKED:
            return fault.wait + random.uniform(0, min(doubled, 0.25 * fault.wait))
        return max(fault.wait or 0.0, random.uniform(0.5, 1.0) * doubled)  # "at once" is no help from a busy server

    async def _once(self, key: str, request: ChatRequest) -> Reply | Retry:
        """Send the request once. Raises Unanswered and StopRun."""
        hold = await self.budget.hold(request)
        try:
            await self._limiter.acquire(typical_prompt_tokens(request) + (completion_bound(request) or 0))
            refused = False
            try:
                self._raise_if_stopped()
                chat = self._chat()
                try:
                    outcome = await self._send(chat, key, request)
                except BaseException:
                    hold.lose()  # ended under way: it may be answered and charged all the same
                    raise
                refused = isinstance(outcome, Retry) and outcome.refused
            finally:
                self._limiter.release(refused=refused)
            return self._settle(request, outcome, hold)
        finally:
            hold.release()

    def _raise_if_stopped(self) -> None:
        if self._stopped is not None:
            raise self._stopped

    async def _send(self, chat: ChatSender, key: str, request: ChatRequest) -> Reply | Retry | Unanswered | StopRun:
        self.tally.requests += 1
        self._watch_for_silence()
        began = time.perf_counter()
        try:
            answer = await chat.send(as_object(writable(request)))
        except Exception as error:  # openai's, or of the libraries below it, or of what they are given
            return fault_of(error, self.server, request)
        try:
            body = parse_json(answer)
        except ValueError:
            return Retry("the server's answer is not JSON", "no JSON", charged=True)
        if not isinstance(body, dict) or not isinstance(body.get("choices"), list) or not body["choices"]:
            said = as_text(as_object(as_object(body).get("error")).get("message"))
            what = f"an error: {passed_on(said)}" if said else "no chat completion"
            return Retry(f"the server's answer is {what}", "no chat completion", charged=True)
        return Reply(key, body, latency=time.perf_counter() - began, at=time.time())

    def _watch_for_silence(self) -> None:
        """From the first request on, warn where the server has said nothing at all for a while."""
        if self._silence is None:
            self._silence = asyncio.get_running_loop().call_later(self._retry_policy.silence, self._warn_of_silence)

    def _warn_of_silence(self) -> None:
        _log.warning(
            "%s has answered none of %d requests for %.0f seconds: it may be loading its model, or be overloaded (its "
            "log says), or the address be another program's; waiting up to %.0f seconds for each",
            self.server.display_url,
            self.tally.requests,
            self._retry_policy.silence,
            self._retry_policy.timeout,
        )

    def _heard(self) -> None:
        """Note that the server has said something, whatever it was."""
        self._is_heard = True
        if self._silence is not None:
            self._silence.cancel()

    def _settle(self, request: ChatRequest, outcome: Reply | Retry | Unanswered | StopRun, hold: Hold) -> Reply | Retry:
        """Book what a request has cost, and keep its answer. Raises Unanswered and StopRun."""
        if not (isinstance(outcome, Retry) and (outcome.silent or outcome.unreachable)):
            self._heard()
        if isinstance(outcome, (Unanswered, StopRun)):
            raise outcome
        if isinstance(outcome, Retry):
            if outcome.charged:
                hold.lose()
                self.tally.lost = self.budget.lost
            return outcome
        self.keep(request, outcome, hold)
        return outcome

    def keep(self, request: ChatRequest, reply: Reply, hold: Hold | None) -> None:
        """Put an answer that came into the cache, and book what it has cost."""
        cost = self.budget.cost_of(request, reply)
        if hold is not None:
            hold.spend(cost)
        self._cache.put(reply)
        self.tally.answered += 1
        self.tally.prompt_tokens += reply.prompt_tokens
        self.tally.completion_tokens += reply.completion_tokens
        if self.tally.cost is not None:
            self.tally.cost += cost

"""How many requests are under way, and how fast new ones start: one limiter that all requests of a run share."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass

__all__ = ["Limiter", "Limits"]

_REFUSED_TOO_OFTEN = 0.2  # share of refusals for want of capacity at which fewer requests are kept under way
_REFUSED_SELDOM = 0.05  # share below which more are tried again
_GROWTH = 0.125
_LATE = 0.05  # seconds: what a busy machine may wake up too late


@dataclass(frozen=True)
class Limits:
    """What a run may ask of a server: requests under way, and requests and tokens a minute (None: no limit)."""

    concurrency: int = 32
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None


class Limiter:
    """Slots for requests under way, handed out in turn.

    There are `limits.concurrency` of them at first: the user has chosen that number. Where a server refuses more than a
    fifth of a round of requests (429), the slots become fewer by that share, and grow again by an eighth a round once
    refusals are rare. A few refusals are tolerated: each costs a retry, and a smaller window would cost more. A pause
    that a server asks for holds for all requests.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.window = float(limits.concurrency)
        self.active = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._paused_until = self._next_request = self._next_tokens = 0.0
        self._turn = asyncio.Lock()
        self._round, self._refused = 0, 0

    async def acquire(self, tokens: int) -> None:
        """Take a slot for a request of so many tokens, its answer at most counted in, and wait until it may start."""
        if self.active >= int(self.window) or self._waiting:
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self._leave()  # the slot came together with the cancellation
                raise
        else:
            self.active += 1
        try:
            await self._pace(tokens)
        except asyncio.CancelledError:
            self._leave()
            raise

    def release(self, *, refused: bool) -> None:
        """Give the slot back; `refused`: the server had no capacity (429)."""
        self._round += 1
        self._refused += refused
        if self._round >= int(self.window):
            self._adapt(self._refused / self._round)
            self._round = self._refused = 0
        self._leave()

    def pause(self, seconds: float) -> None:
        """Start no request for so long."""
        self._paused_until = max(self._paused_until, time.monotonic() + seconds)

    def _adapt(self, refused: float) -> None:
        # The window shrinks by the very share that was refused, since that is how far demand was above capacity, and
        # grows back slowly. Between the two thresholds it stays: a few refusals cost less than a smaller window.
        if refused > _REFUSED_TOO_OFTEN:
            self.window = max(1.0, self.window * (1 - refused))
        elif refused < _REFUSED_SELDOM:
            self.window = min(float(self.limits.concurrency), self.window + max(1.0, self.window * _GROWTH))

    def _leave(self) -> None:
        self.active -= 1
        while self._waiting and self.active < int(self.window):
            turn = self._waiting.popleft()
            if not turn.done():
                self.active += 1
                turn.set_result(None)

    async def _pace(self, tokens: int) -> None:
        """Wait for the request's place in time: one after the other, evenly spaced, and none during a pause."""
        async with self._turn:
            while (left := max(self._next_request, self._next_tokens, self._paused_until) - time.monotonic()) > 0:
                await asyncio.sleep(left)
            if self.limits.requests_per_minute is not None:
                self._next_request = _after(self._next_request, 60 / self.limits.requests_per_minute)
            if self.limits.tokens_per_minute is not None:
                self._next_tokens = _after(self._next_tokens, 60 * tokens / self.limits.tokens_per_minute)


def _after(planned: float, seconds: float) -> float:
    """Return when the next may start: counted from the planned start, so that waking up late does not add up.

    What was not used for longer (a pause, nothing to ask) is not caught up with.
    """
    now = time.monotonic()
    return (planned if now - planned < _LATE else now) + seconds

from __future__ import annotations

import asyncio

import pytest

from della_bench import asynchronous
from della_bench.judging.limiter import Limiter, Limits


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr("della_bench.judging.limiter.time.monotonic", lambda: self.now)
        monkeypatch.setattr("della_bench.judging.limiter.asyncio.sleep", self.sleep)

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_never_more_than_the_window_are_under_way_and_all_get_their_turn() -> None:
    async def run() -> tuple[int, int]:
        limiter, most, done = Limiter(Limits(5)), 0, 0

        async def one() -> None:
            nonlocal most, done
            await limiter.acquire(1)
            most = max(most, limiter.active)
            await asyncio.sleep(0)
            limiter.release(refused=False)
            done += 1

        await asyncio.gather(*(one() for _ in range(100)))
        assert limiter.active == 0
        return most, done

    assert asynchronous.run(run()) == (5, 100)


def test_a_cancelled_waiter_keeps_no_slot() -> None:
    async def run() -> None:
        limiter = Limiter(Limits(1))
        await limiter.acquire(1)
        waiting = [asyncio.ensure_future(limiter.acquire(1)) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        limiter.release(refused=False)  # hands its slot to the second
        waiting[1].cancel()  # at the moment at which it gets it
        await asyncio.gather(*waiting[:2], return_exceptions=True)
        await asyncio.wait_for(waiting[2], 5)
        limiter.release(refused=False)
        assert limiter.active == 0

    asynchronous.run(run())


async def _rounds(limiter: Limiter, refused: float, requests: int) -> float:
    for number in range(requests):
        await limiter.acquire(1)
        limiter.release(refused=(number * refused) % 1 + refused >= 1)
    return limiter.window


def test_a_server_that_refuses_much_is_asked_by_fewer_and_by_more_again_when_it_recovers() -> None:
    async def run() -> None:
        limiter = Limiter(Limits(64))
        assert await _rounds(limiter, 0.0, 200) == 64
        assert await _rounds(limiter, 0.5, 500) < 10
        assert await _rounds(limiter, 1.0, 200) == 1  # and never none
        assert await _rounds(limiter, 0.0, 2000) == 64

    asynchronous.run(run())


def test_a_few_refusals_are_tolerated() -> None:
    async def run() -> None:
        assert await _rounds(Limiter(Limits(64)), 0.1, 2000) == 64

    asynchronous.run(run())


@pytest.mark.parametrize(
    ("limits", "least"), [(Limits(8, requests_per_minute=60), 99), (Limits(8, tokens_per_minute=6000), 99)]
)
def test_no_minute_holds_more_requests_or_tokens_than_it_may(
    limits: Limits, least: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)

    async def run() -> None:
        limiter = Limiter(limits)
        for _ in range(100):
            await limiter.acquire(100)
            limiter.release(refused=False)

    began = clock.now
    asynchronous.run(run())
    assert clock.now - began == pytest.approx(least)


def test_a_pause_that_the_server_asks_for_holds_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)

    async def run() -> list[float]:
        limiter = Limiter(Limits(8))
        limiter.pause(20)
        starts = []
        for _ in range(3):
            await limiter.acquire(1)
            starts.append(clock.now)
        return starts

    began = clock.now
    assert all(start - began >= 20 for start in asynchronous.run(run()))


def test_what_waited_for_the_end_of_a_pause_does_not_start_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)

    async def run() -> list[float]:
        limiter, starts = Limiter(Limits(8, requests_per_minute=60)), []

        async def one(number: int) -> None:
            await limiter.acquire(1)
            starts.append(clock.now)
            if number == 0:
                limiter.pause(20)

        await asyncio.gather(*map(one, range(8)))
        return starts

    began = clock.now
    assert [round(start - began) for start in asynchronous.run(run())] == [0, 20, 21, 22, 23, 24, 25, 26]

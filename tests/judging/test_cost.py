from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from della_bench import asynchronous
from della_bench.errors import JudgeError
from della_bench.judging.cost import Budget, Price, prompt_bound
from della_bench.judging.reply import OutOfBudget, Reply

from . import stub

PRICE = Price(Decimal("2.00"), Decimal("8.00"))


def request(text: str = "hello", most: int = 100) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": text}], "max_tokens": most}


def test_money_is_counted_exactly() -> None:
    assert PRICE.of(1_000_000, 500_000) == Decimal("6.00")
    assert PRICE.of(1, 0) * 3 == PRICE.of(3, 0)
    assert PRICE.of(1000, 1000, 0.5) == PRICE.of(1000, 1000) / 2


@given(st.text(max_size=200))
def test_the_bound_is_at_least_a_token_for_each_byte_of_every_text(text: str) -> None:
    # No token of a byte-level vocabulary is shorter than a byte, whatever its merges.
    messages = [{"role": "system", "content": text}, {"role": "user", "content": text}]
    assert prompt_bound({"model": "m", "messages": messages}) > 2 * len(text.encode("utf-8", "surrogatepass"))


def test_a_limit_without_a_price_and_an_answer_without_a_bound_are_errors() -> None:
    with pytest.raises(JudgeError, match="has no price"):
        Budget(Decimal(1))
    unbounded = {"model": "m", "messages": []}
    with pytest.raises(JudgeError, match="max_completion_tokens"):
        Budget(Decimal(1), PRICE).worst_case(unbounded)
    Budget(None, PRICE).worst_case(unbounded)  # nothing is held against it


def test_an_answer_without_usage_counts_at_its_worst_case() -> None:
    budget = Budget(None, PRICE)
    body = stub.completion("x")
    del body["usage"]
    assert budget.cost_of(request(), Reply("k", body, 0, 0)) == budget.worst_case(request())
    assert budget.cost_of(request(), Reply("k", stub.completion("x", tokens=(100, 10)), 0, 0)) == PRICE.of(100, 10)


def test_what_does_not_fit_waits_for_others_to_settle_and_is_refused_when_none_is_left() -> None:
    async def run() -> None:
        worst = Budget(None, PRICE).worst_case(request())
        budget = Budget(worst * Decimal("1.5"), PRICE)
        first = await budget.hold(request())
        second = asyncio.ensure_future(budget.hold(request()))
        await asyncio.sleep(0)
        assert not second.done()  # it could be too much
        first.spend(worst / 10)
        (await second).lose()
        with pytest.raises(OutOfBudget, match="higher limit"):
            await budget.hold(request())

    asynchronous.run(run())


@given(st.lists(st.tuples(st.integers(1, 400), st.floats(0, 1), st.booleans()), min_size=1, max_size=40),
       st.integers(0, 3000))  # fmt: skip
def test_no_order_of_answers_spends_more_than_the_limit(work: list[tuple[int, float, bool]], cents: int) -> None:
    limit = Decimal(cents) / 1_000_000

    async def one(budget: Budget, most: int, share: float, lost: bool) -> None:
        try:
            hold = await budget.hold(request(most=most))
        except OutOfBudget:
            return
        await asyncio.sleep(0)
        worst = budget.worst_case(request(most=most))
        if lost:
            hold.lose()
        else:
            hold.spend(worst * Decimal(str(round(share, 3))))

    async def run() -> Budget:
        budget = Budget(limit, PRICE)
        await asyncio.gather(*(one(budget, *each) for each in work))
        return budget

    budget = asynchronous.run(run())
    assert budget.spent + budget.lost <= limit
    assert budget.left() == limit - budget.spent - budget.lost  # nothing is held for good

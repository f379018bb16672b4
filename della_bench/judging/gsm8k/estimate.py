"""What a judging would ask and cost, before it does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from della_bench.judging.asking import Asking
from della_bench.judging.client import Client
from della_bench.judging.cost import Price, completion_bound, prompt_bound, typical_prompt_tokens
from della_bench.judging.gsm8k.by_number import EXACT
from della_bench.judging.gsm8k.judge import load_asked, open_tries
from della_bench.judging.gsm8k.read import read_answers
from della_bench.judging.gsm8k.votes import Question, questions

__all__ = ["Estimate", "estimate_gsm8k"]


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


def estimate_gsm8k(
    samples: Path,
    judge: str | Path = EXACT,
    *,
    asking: Asking | None = None,
    votes: int = 1,
    limit: int | None = None,
    wanted_filter: str | None = None,
) -> Estimate:
    """Return what `judge_gsm8k` with the same arguments would ask and cost. Nothing is asked, no key is needed."""
    asking = Asking() if asking is None else asking
    answers = read_answers(samples, wanted_filter=wanted_filter, limit=limit).answers
    if judge == EXACT:
        return Estimate(EXACT, None, len(answers), 0, 0, 0, 0, Decimal(0), Decimal(0))
    asked = load_asked(judge, asking)
    every = [each for answer in answers for each in questions(asked, answer, votes)]
    wanted = every
    if asking.cache_path.is_file():
        with asking.open_cache() as cache:
            client = Client(asking.server, cache)
            wanted = [each for each in every if open_tries(asked, client, each, asking)[1]]
    prompt = sum(typical_prompt_tokens(each.request) for each in wanted)
    completion = asked.config.typical_completion_tokens * len(wanted)
    price = asked.price
    share = float(price.batch) if asking.batch and price is not None else 1.0
    return Estimate(
        judge=asked.name,
        model=asked.config.model,
        answers=len(answers),
        requests=len(wanted),
        known=len(every) - len(wanted),
        prompt_tokens=prompt,
        completion_tokens=completion,
        cost=None if price is None else price.of(prompt, completion, share),
        worst_cost=_worst(price, wanted, share),
    )


def _worst(price: Price | None, wanted: Sequence[Question], share: float) -> Decimal | None:
    bounds = [completion_bound(each.request) for each in wanted]
    if price is None or None in bounds:
        return None
    return price.of(sum(prompt_bound(each.request) for each in wanted), sum(each or 0 for each in bounds), share)

"""What a judging would ask and cost, before it does."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

from della_bench.judging.asking import Asking
from della_bench.judging.client import Client
from della_bench.judging.cost import Estimate
from della_bench.judging.gsm8k.by_number import EXACT
from della_bench.judging.gsm8k.judge import load_asked, open_tries
from della_bench.judging.gsm8k.read import read_answers
from della_bench.judging.gsm8k.votes import questions

__all__ = ["estimate_gsm8k"]


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
    return Estimate.of(
        asked.name,
        asked.config.model,
        answers=len(answers),
        requests=[each.request for each in wanted],
        known=len(every) - len(wanted),
        typical_completion=asked.config.typical_completion_tokens,
        price=asked.price,
        batch=asking.batch,
    )

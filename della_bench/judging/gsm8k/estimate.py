"""What a judging would ask and cost, before it does."""

from __future__ import annotations

import os
from decimal import Decimal
from pathlib import Path

from della_bench.judging.client import Client
from della_bench.judging.cost import Estimate, Price
from della_bench.judging.gsm8k.asking import attempts_left, load_judge_as_set
from della_bench.judging.gsm8k.by_number import EXACT
from della_bench.judging.gsm8k.read import read_answers
from della_bench.judging.gsm8k.votes import questions
from della_bench.judging.settings import JudgeSettings

__all__ = ["estimate_gsm8k"]


def estimate_gsm8k(
    samples: str | os.PathLike[str],
    judge: str | Path = EXACT,
    *,
    settings: JudgeSettings | None = None,
    votes: int = 1,
    limit: int | None = None,
    wanted_filter: str | None = None,
    price: Price | None = None,
) -> Estimate:
    """Return what `judge_gsm8k` with the same arguments would ask and cost. Nothing is asked, no key is needed."""
    settings = JudgeSettings() if settings is None else settings
    answers = read_answers(Path(samples), wanted_filter=wanted_filter, limit=limit).answers
    if judge == EXACT:
        return Estimate(EXACT, None, len(answers), 0, 0, 0, 0, Decimal(0), Decimal(0))
    asked = load_judge_as_set(judge, settings, price)
    every = [each for answer in answers for each in questions(asked, answer, votes)]
    wanted = every
    if settings.cache_path.is_file():
        with settings.open_cache() as cache:
            client = Client(settings.server, cache)
            wanted = [each for each in every if attempts_left(asked, client, each, settings)[1]]
    return Estimate.of(
        asked.name,
        asked.config.model,
        answers=len(answers),
        requests=[each.request for each in wanted],
        known=len(every) - len(wanted),
        typical_completion=asked.config.typical_completion_tokens,
        price=asked.price,
        batch=settings.batch,
    )

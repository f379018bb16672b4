"""Which judge is asked, as the settings have it, and how often it may still be."""

from __future__ import annotations

from pathlib import Path

from della_bench.judging.client import Client
from della_bench.judging.cost import Price
from della_bench.judging.gsm8k.config import Judge, load_judge
from della_bench.judging.gsm8k.votes import Question, count_attempts
from della_bench.judging.reply import Reply
from della_bench.judging.settings import JudgeSettings

__all__ = ["attempts_left", "load_judge_as_set"]


def load_judge_as_set(judge: str | Path, settings: JudgeSettings, price: Price | None = None) -> Judge:
    """Return the judge, asking for another model where `settings` name one, at `price`, if given. Raises JudgeError."""
    loaded = load_judge(judge)
    if settings.model is not None:
        loaded = loaded.with_model(settings.model, alias=settings.server.azure)
    return loaded if price is None else loaded.with_price(price)


def attempts_left(judge: Judge, client: Client, question: Question, settings: JudgeSettings) -> tuple[int, int]:
    """Return how many attempts at a vote the cache knows, and how many more may be made: 0 where it settles it."""

    def find(question: Question, attempt: int) -> Reply | None:
        return client.find(question.request, vote=question.vote, attempt=attempt)

    return count_attempts(judge, question, find, retry=settings.retry_unscored)

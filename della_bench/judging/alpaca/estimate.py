"""What judging by AlpacaEval would ask and cost, before it does."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from della_bench.judging.alpaca.annotator import WIN_RATE
from della_bench.judging.alpaca.comparison import Choices, compare, prepare
from della_bench.judging.cache import request_key
from della_bench.judging.cost import Estimate, Price
from della_bench.judging.json_types import ChatRequest, Completion
from della_bench.judging.prices import price_of
from della_bench.judging.settings import JudgeSettings

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["estimate_alpaca_eval"]

_TYPICAL_TOKENS = 40  # of a reply of alpaca_eval_gpt4; those of AlpacaEval 2 have one


def estimate_alpaca_eval(
    samples: Path,
    annotator: str = "alpaca_eval_gpt4",
    *,
    settings: JudgeSettings | None = None,
    price: Price | None = None,
    **choices: Unpack[Choices],
) -> Estimate:
    """Return what `judge_alpaca_eval` with the same arguments would ask and cost. Nothing is asked or written.

    alpaca_eval makes its prompts for it, so that they are the ones that would be sent.
    """

    def only_count(requests: Sequence[ChatRequest], _attempt: int) -> list[Completion | None]:
        wanted.extend(requests)
        return [None] * len(requests)

    wanted: list[ChatRequest] = []
    settings = JudgeSettings() if settings is None else settings
    comparison = prepare(samples, None, annotator, settings=settings, **choices)
    with tempfile.TemporaryDirectory(prefix="della-bench-") as folder:
        compare(comparison, Path(folder), only_count, metric=WIN_RATE, attempts=1)
    fresh = wanted
    if settings.cache_path.is_file():
        with settings.open_cache() as cache:
            fresh = [each for each in wanted if cache.get(request_key(settings.server.url, each)) is None]
    return Estimate.of(
        comparison.annotator.name,
        comparison.annotator.model,
        answers=len(comparison.answers.rows),
        requests=fresh,
        known=len(wanted) - len(fresh),
        typical_completion=_TYPICAL_TOKENS,
        price=price_of(comparison.annotator.model, price),
        batch=settings.batch,
    )

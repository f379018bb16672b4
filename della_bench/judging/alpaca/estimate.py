"""What judging by AlpacaEval would ask and cost, before it does."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from della_bench.judging.alpaca.annotator import WIN_RATE
from della_bench.judging.alpaca.comparison import compare, prepare
from della_bench.judging.alpaca.models import price_of
from della_bench.judging.asking import Asking
from della_bench.judging.cache import request_key
from della_bench.judging.cost import Price, completion_bound, prompt_bound, typical_prompt_tokens
from della_bench.judging.gsm8k.estimate import Estimate

__all__ = ["estimate_alpaca_eval"]

_TYPICAL_TOKENS = 40  # of a reply of alpaca_eval_gpt4; those of AlpacaEval 2 have one


def estimate_alpaca_eval(
    samples: Path,
    annotator: str = "alpaca_eval_gpt4",
    *,
    asking: Asking | None = None,
    price: Price | None = None,
    **choices: Any,
) -> Estimate:
    """Return what `judge_alpaca_eval` with the same arguments would ask and cost. Nothing is asked or written.

    alpaca_eval makes its prompts for it, so that they are the ones that would be sent.
    """

    def only_count(requests: Sequence[dict[str, Any]], _attempt: int) -> list[dict[str, Any] | None]:
        wanted.extend(requests)
        return [None] * len(requests)

    wanted: list[dict[str, Any]] = []
    asking = Asking() if asking is None else asking
    comparison = prepare(samples, None, annotator, asking=asking, **choices)
    with tempfile.TemporaryDirectory(prefix="della-bench-") as folder:
        compare(comparison, Path(folder), only_count, metric=WIN_RATE, attempts=1)
    fresh = wanted
    if asking.cache_path.is_file():
        with asking.open_cache() as cache:
            fresh = [each for each in wanted if cache.get(request_key(asking.server.url, each)) is None]
    price, share = price_of(comparison.annotator.model, price), 1.0
    if price is not None and asking.batch:
        share = float(price.batch)
    bounds = [completion_bound(each) for each in fresh]
    prompt = sum(map(typical_prompt_tokens, fresh))
    completion = sum(_TYPICAL_TOKENS if each is None else min(each, _TYPICAL_TOKENS) for each in bounds)
    worst = None
    if price is not None and None not in bounds:
        worst = price.of(sum(map(prompt_bound, fresh)), sum(each or 0 for each in bounds), share)
    return Estimate(
        judge=comparison.annotator.name,
        model=comparison.annotator.model,
        answers=len(comparison.answers.rows),
        requests=len(fresh),
        known=len(wanted) - len(fresh),
        prompt_tokens=prompt,
        completion_tokens=completion,
        cost=None if price is None else price.of(prompt, completion, share),
        worst_cost=worst,
    )

"""What a judge of two answers said, in words: alpaca_eval's verdict, and which answer the judge saw in which place.

alpaca_eval shows the two answers in an order that it draws. Its files hold the judge's reply, which names places, and
the preference, which names models: together they tell the order.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from della_bench.results.schema import Item

__all__ = ["preference_words"]

# The place that a reply prefers: alpaca_eval_gpt4 ranks `model_1` and `model_2`, the weighted judges say m or M.
_RANKED_FIRST = re.compile(r"""['"]model['"]\s*:\s*['"]model_([12])['"]\s*,\s*['"]rank['"]\s*:\s*1\b""")
_PLACES = {"m": 1, "M": 2}
_NAMES = {1: "the first", 2: "the second"}


def preference_words(item: Item, row: Mapping[str, object]) -> str:
    """Return the verdict on one answer against the baseline's, and the places they had; empty where there is none.

    row: the sample as lm-eval logged it, whose document names the baseline.
    """
    value = item["value"]
    if value is None:
        return ""
    doc = row.get("doc")
    generator = doc.get("generator") if isinstance(doc, dict) else None
    baseline = f"the baseline's ({generator})" if isinstance(generator, str) and generator else "the baseline's"
    if value == 0.5:
        return f"The judge found this answer and {baseline} equally good."
    won = value > 0.5
    words = (
        f"The judge preferred this answer to {baseline}" if won else f"The judge preferred {baseline} to this answer"
    )
    if value not in (0.0, 1.0):
        words += f", with a probability of {value if won else 1 - value:.2f}"
    preferred = _preferred_place(item["explanation"])
    if preferred is None:
        return f"{words}."
    own = preferred if won else 3 - preferred
    return f"{words}. It saw this answer as {_NAMES[own]} and the baseline's as {_NAMES[3 - own]}."


def _preferred_place(reply: str) -> int | None:
    """Return the place, 1 or 2, that a reply prefers; None where it does not say so in one of the known ways."""
    ranked = set(_RANKED_FIRST.findall(reply))
    if len(ranked) == 1:
        return int(ranked.pop())
    return _PLACES.get(reply.strip())

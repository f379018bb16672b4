"""What is known of the models that judges ask: OpenAI's list prices, and when each was announced to end.

alpaca_eval's annotators have neither, and a judge of GSM8K that asks another model than its own has that model's. A
model that is not here has no price until one is given.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from della_bench.judging.cost import Price

__all__ = ["ModelFacts", "end_warning", "known", "price_of"]


@dataclass(frozen=True)
class ModelFacts:
    """A model's price, and the day from which OpenAI no longer serves it (None where none was announced)."""

    price: Price
    ends: date | None = None


def _known(prompt: str, completion: str, ends: str | None = None) -> ModelFacts:
    return ModelFacts(Price(Decimal(prompt), Decimal(completion)), None if ends is None else date.fromisoformat(ends))


# Prices: litellm 1.110.2's table of 2026-11 (gpt-4-0314, which it no longer has: tokencost 0.1.26's), looked up on
# 2026-11-26. Ends: https://developers.openai.com/api/docs/deprecations as of 2026-11, which litellm's dates agree with.
_MODELS = {
    "gpt-4": _known("30", "60", "2026-10-23"),
    "gpt-4-0613": _known("30", "60", "2026-10-23"),
    "gpt-4-0314": _known("30", "60", "2026-03-26"),
    "gpt-4-1106-preview": _known("10", "30", "2026-10-23"),
    "gpt-4-turbo": _known("10", "30", "2026-10-23"),
    "gpt-4o": _known("2.5", "10", "2027-01-14"),
    "gpt-4o-2024-08-06": _known("2.5", "10", "2027-01-14"),
    "gpt-4o-mini": _known("0.15", "0.60", "2027-01-14"),
    "gpt-4o-mini-2024-07-18": _known("0.15", "0.60", "2027-01-14"),
    "gpt-4.1-2025-04-14": _known("2", "8", "2027-01-14"),
    "gpt-4.1": _known("2", "8", "2027-01-14"),
    "gpt-4.1-mini": _known("0.4", "1.6", "2027-01-14"),
    "gpt-5": _known("1.25", "10", "2026-12-11"),
    "gpt-5-mini": _known("0.25", "2", "2026-12-11"),
    "gpt-5.4-mini": _known("0.75", "4.5"),
    "gpt-5.4-mini-2026-03-17": _known("0.75", "4.5"),
}


def known(model: str) -> ModelFacts | None:
    """Return what is known of `model`, None for nothing."""
    return _MODELS.get(model)


def price_of(model: str, given: Price | None = None) -> Price | None:
    """Return the price that was given, or else the known one of `model`; None where there is neither."""
    facts = known(model)
    return given if given is not None or facts is None else facts.price


def end_warning(model: str, today: date) -> str | None:
    """Return a warning where `model` was announced to have ended by `today`, else None."""
    facts = known(model)
    if facts is None or facts.ends is None or today < facts.ends:
        return None
    return (
        f"OpenAI announced that it would end {model} on {facts.ends.isoformat()}: published win rates cannot be made "
        "anew there; another `model` can be asked, whose numbers are another judge's"
    )

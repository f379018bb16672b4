"""How a client of a judge's server goes about it: what it does when requests fail, and what it has done so far."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

__all__ = ["RetryPolicy", "Tally"]


@dataclass(frozen=True)
class RetryPolicy:
    """How long a failing request is tried again: at most so many tries (refusals for want of capacity do not count),
    and no new one after so many seconds. Waits double from `first` to `longest` seconds, with jitter.
    """

    tries: int = 8
    seconds: float = 900.0
    first: float = 0.5
    longest: float = 30.0
    unreachable_tries: int = 3  # while nothing has been answered yet: probably the wrong address
    timeout: float = 300.0  # of one request
    silence: float = 60.0  # seconds without a word from the server after which a warning says so


@dataclass
class Tally:
    """What this run has done so far: requests sent, answers from the cache, and tokens and dollars of the others.

    `cost` is None where the price is unknown; `lost` is what may have been charged for answers that got lost.
    """

    requests: int = 0
    answered: int = 0
    cached: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: Decimal | None = None
    lost: Decimal = field(default_factory=Decimal)

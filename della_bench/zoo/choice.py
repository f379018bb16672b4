"""Random draws that stay the same from one Python version to the next.

Python promises a fixed sequence only for `random.Random(seed).random()` with an integer seed; `choice`, `randrange`
and `shuffle` may change. Everything here is built on `random()` alone.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

__all__ = ["between", "pick", "sample"]

T = TypeVar("T")


def between(rng: random.Random, low: int, high: int) -> int:
    """Draw an integer from low to high, both included."""
    return low + int(rng.random() * (high - low + 1))


def pick(rng: random.Random, options: Sequence[T]) -> T:
    """Draw one of the options."""
    return options[between(rng, 0, len(options) - 1)]


def sample(rng: random.Random, options: Sequence[T], count: int) -> list[T]:
    """Draw `count` different options, in random order."""
    left = list(options)
    return [left.pop(between(rng, 0, len(left) - 1)) for _ in range(count)]

"""Keep probabilities as integers: an element is kept iff its 32-bit random word is below its threshold.

Integers make a merge reproducible: every implementation, on any device, compares the same words with the same
thresholds. Plain Python, no torch, so that a spec can be checked with it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from fractions import Fraction
from functools import lru_cache

__all__ = ["ONE", "exact", "fits_density", "keep_bounds", "kept_count", "room", "sum_up_to_0", "threshold"]

ONE = 2**32  # the threshold that always keeps


@lru_cache(maxsize=256)
def exact(number: float) -> Fraction:
    """Return a float as the exact value of its shortest decimal representation: 0.1 is one tenth."""
    return Fraction(repr(float(number)))


def sum_up_to_0(numbers: Iterable[float]) -> bool:
    """Whether numbers sum up to 0 as they are written: 0.1, 0.2 and -0.3 do, though their floats do not."""
    numbers = list(numbers)
    return all(map(math.isfinite, numbers)) and not sum(map(exact, numbers))


def threshold(probability: Fraction) -> int:
    """Return a probability in [0, 1] times 2^32, rounded half to even."""
    return round(probability * ONE)


def keep_bounds(density: float, epsilon: float) -> tuple[int, int]:
    """Return the thresholds of density - epsilon (smallest magnitude) and density + epsilon (largest)."""
    return threshold(exact(density) - exact(epsilon)), threshold(exact(density) + exact(epsilon))


def fits_density(epsilon: float, density: float) -> bool:
    """Whether density - epsilon is above 0 and density + epsilon at most 1; of density 1 nothing is dropped."""
    return density >= 1 or (exact(density) - exact(epsilon) > 0 and exact(density) + exact(epsilon) <= 1)


def room(density: float) -> tuple[float, bool]:
    """Return the largest epsilon that a density has room for, and whether it may be that itself."""
    below, above = exact(density), 1 - exact(density)
    return float(min(below, above)), above < below


@lru_cache(maxsize=4096)
def kept_count(density: float, n: int) -> int:
    """Return how many of n elements a magnitude cut keeps: max(1, floor(density * n)), exactly."""
    return max(1, int(exact(density) * n))

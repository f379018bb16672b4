"""Keep probabilities as integers: an element is kept iff its 32-bit random word is below its threshold.

Integers make a merge reproducible: every implementation, on any device, compares the same words with the same
thresholds. Plain Python, no torch, so that a spec can be checked with it.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache

__all__ = ["ONE", "exact", "keep_bounds", "kept_count", "threshold"]

ONE = 2**32  # the threshold that always keeps


@lru_cache(maxsize=256)
def exact(number: float) -> Fraction:
    """Return a float as the exact value of its shortest decimal representation: 0.1 is one tenth."""
    return Fraction(repr(float(number)))


def threshold(probability: Fraction) -> int:
    """Return a probability in [0, 1] times 2^32, rounded half to even."""
    return round(probability * ONE)


def keep_bounds(density: float, epsilon: float) -> tuple[int, int]:
    """Return the thresholds of density - epsilon (smallest magnitude) and density + epsilon (largest)."""
    return threshold(exact(density) - exact(epsilon)), threshold(exact(density) + exact(epsilon))


def kept_count(density: float, n: int) -> int:
    """Return how many of n elements a magnitude cut keeps: max(1, floor(density * n)), exactly."""
    return max(1, int(exact(density) * n))

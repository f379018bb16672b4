"""What a search wants: one number to maximise or several, and what must not be lost for it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from della_bench.suggest import nearest

__all__ = ["Goal", "Means", "read_goal", "read_keep"]

Means = Mapping[str, float]
"""By benchmark the mean over its items, in percent."""

_KEEP = re.compile(r"(?:([\w.:/-]*[A-Za-z][\w.:/-]*)\s*)?([+-]\s*\d+(?:\.\d+)?)?")


@dataclass(frozen=True)
class Goal:
    """A weighted mean of benchmarks, or several benchmarks at once.

    weights: by benchmark, they add up to 1; one such mapping for each number that is maximised.
    """

    parts: tuple[Mapping[str, float], ...]

    @property
    def several(self) -> bool:
        """Whether there is no one best: a front of candidates that none other betters in all numbers."""
        return len(self.parts) > 1

    @property
    def names(self) -> list[str]:
        """What the numbers are called."""
        return ["value"] if not self.several else [next(iter(part)) for part in self.parts]

    def values(self, means: Means) -> list[float]:
        """Return the numbers that are maximised, in percent."""
        return [sum(weight * means[name] for name, weight in part.items()) for part in self.parts]

    def as_plain(self) -> list[dict[str, float]]:
        """Return the goal in plain values."""
        return [dict(part) for part in self.parts]


def read_goal(value: object, benchmarks: Sequence[str]) -> Goal:
    """Read `mean`, weights by benchmark, or a list of benchmarks. Raises ValueError."""
    if value == "mean":
        return Goal(({name: 1 / len(benchmarks) for name in benchmarks},))
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",")]
    if isinstance(value, Mapping):
        weights = {_benchmark(name, benchmarks): weight for name, weight in value.items()}
        numbers = [each for each in weights.values() if isinstance(each, (int, float)) and not isinstance(each, bool)]
        usable = bool(numbers) and len(numbers) == len(weights) and math.isfinite(sum(numbers))
        if not usable or min(numbers) < 0 or not sum(numbers):
            raise ValueError("weights are finite numbers of at least 0, not all of them 0")
        return Goal(({name: weight / sum(numbers) for name, weight in weights.items() if weight},))
    if isinstance(value, Sequence) and value:
        names = [_benchmark(name, benchmarks) for name in value]
        if len(set(names)) < len(names):
            raise ValueError("one stands there twice")
        return Goal(tuple({name: 1.0} for name in names))
    raise ValueError("mean, weights by benchmark, or a list of benchmarks")


def _benchmark(name: object, benchmarks: Sequence[str]) -> str:
    if name not in benchmarks:
        raise ValueError(f"unknown objective {name!r}: none of the search's benchmarks{nearest(str(name), benchmarks)}")
    return str(name)


def read_keep(value: object, benchmarks: Sequence[str]) -> tuple[tuple[str, str, float], ...]:
    """Read constraints, by benchmark `-2`, `base - 2` or `math`: (benchmark, the named row, points beside it).

    A candidate keeps a benchmark where it is at least the named row's score plus the points. Raises ValueError.
    """
    if not isinstance(value, Mapping):
        raise ValueError("by benchmark what a candidate may lose against the base or a named row, such as -2")
    found = []
    for name, wanted in value.items():
        match = _KEEP.fullmatch(f"{wanted:+g}" if isinstance(wanted, (int, float)) else str(wanted).strip())
        if isinstance(wanted, bool) or match is None or not match[0]:
            raise ValueError(f"{name}: {wanted!r}: write -2, or the name of a row and points, such as base - 2")
        found.append((_benchmark(name, benchmarks), match[1] or "base", float((match[2] or "0").replace(" ", ""))))
    return tuple(found)

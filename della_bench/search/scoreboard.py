"""Who has taken part so far, who is the best of them, and whether somebody can still be it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from della_bench.search.candidate import Candidate, means_of
from della_bench.search.evaluating import looks_of
from della_bench.search.plan import Plan
from della_bench.search.race import cannot_win, is_stopped

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["Scoreboard"]


class Scoreboard:
    """The candidates of a search in the order in which they ended.

    best: the one with the highest value among those that may win and keep what is to be kept; the first of equals.
    since_best: how many proposals have ended since it did.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan, self._goal = plan, plan.settings.goal
        self.candidates: list[Candidate] = []
        self.by_digest: dict[str, Candidate] = {}
        self.best: Candidate | None = None
        self.since_best = 0
        self._references = [spec.digest for _, spec in plan.references()]

    @property
    def in_order(self) -> list[Candidate]:
        """The candidates in an order that does not depend on who ended first: the sources alone, then by number."""
        references = [self.by_digest[digest] for digest in self._references if digest in self.by_digest]
        sources = [each for each in references if each.number is None]
        numbered = [each for each in self.candidates if each.number is not None]
        return sources + sorted(numbered, key=lambda each: each.number or 0)

    def enter(self, candidate: Candidate) -> None:
        """Take in a candidate that has ended."""
        self.candidates.append(candidate)
        self.by_digest[candidate.spec.digest] = candidate
        if candidate.number is not None:
            self.since_best += 1
        if self._is_better(candidate):
            self.best, self.since_best = candidate, 0

    def _is_better(self, candidate: Candidate) -> bool:
        """Return whether a candidate is better than the best one so far."""
        value = self.value(candidate)
        if not candidate.may_win or value is None or any(short > 0 for short in self.lacks(candidate).values()):
            return False
        return self.best is None or value > (self.value(self.best) or 0.0)

    def replace(self, candidate: Candidate) -> None:
        """Take a candidate that has got further in the place of itself."""
        place = [each.spec.digest for each in self.candidates].index(candidate.spec.digest)
        self.candidates[place] = self.by_digest[candidate.spec.digest] = candidate
        if self.best is None or self.best.spec.digest != candidate.spec.digest:
            return
        self.best = candidate
        if candidate.state == "failed":  # its files could not be written
            self.best = None
            for each in self.candidates:
                self.best = each if self._is_better(each) else self.best

    def value(self, candidate: Candidate, which: str = "search") -> float | None:
        """Return what is maximised, in percent; the mean of several numbers, None where there is no value."""
        values = candidate.values.get(which)
        return self.value_of(values) if values and all(values.values()) else None

    def value_of(self, values: Mapping[str, Sequence[float]]) -> float:
        """Return what is maximised of values by benchmark, in percent; the mean of several numbers."""
        numbers = self._goal.values(means_of(values))
        return sum(numbers) / len(numbers)

    def lacks(self, candidate: Candidate) -> dict[str, float]:
        """Return by constraint how many points a candidate lacks, at most 0 where it is kept.

        A candidate that was stopped is held against what the named row has on the items that it has seen.
        """
        found = {}
        rows = {each.spec.display_name: each for each in self.candidates if each.number is None}
        values = candidate.values.get("search", {})
        for name, row, points in self._plan.settings.keep:
            if row in rows and values.get(name) and rows[row].values.get("search"):
                theirs = rows[row].values["search"][name][: len(values[name])]
                found[f"{name} of {row}"] = 100 * sum(theirs) / len(theirs) + points - means_of(values)[name]
        return found

    def is_beaten(self, number: int, values: Mapping[str, Sequence[float]]) -> bool:
        """Return whether our race stops a candidate that has these values at a look, against the best one so far."""
        race = self._plan.settings.race
        looks = looks_of(self._plan, "search")
        if race is None or race.pruner != "spending" or self._goal.several or self.best is None or number >= len(looks):
            return False
        import numpy as np

        sets, theirs = self._plan.sets["search"], self.best.values["search"]
        shares = [self._goal.parts[0].get(each.benchmark, 0.0) for each in sets]
        counts = [len(each.items) for each in sets]
        differences: list[Array] = []
        starts = [0] * len(sets)
        for ends in looks[:number]:
            added = [
                (np.array(values[each.benchmark][start:end]) - np.array(theirs[each.benchmark][start:end])) * share / n
                for each, start, end, share, n in zip(sets, starts, ends, shares, counts, strict=True)
            ]
            differences.append(np.concatenate(added))
            starts = ends
        seen = [np.array(values[each.benchmark]) for each in sets]
        best = (self.value(self.best) or 0.0) / 100
        hopeless = cannot_win(seen, counts, shares, best)
        return hopeless or is_stopped(differences, sum(counts), len(looks) - 1, race.alpha)

"""Who is selected and who is tested: the best by search items, chosen among on others, fixed before any test item."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from della_bench.results.bootstrap import bootstrap
from della_bench.search.candidate import Candidate, means_of
from della_bench.search.objective import Goal
from della_bench.search.plan import Plan

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["Compared", "choose", "finalists_of", "front_of", "interval_of", "intervals_of", "standing"]

Compared = dict[tuple[str, str], bool]
"""By the digests of two candidates whether the first is better in some number by more than chance explains."""

_SIGNIFICANT = 0.05


class Standings(Protocol):
    """What tells a candidate's value, and what it lacks of what is to be kept."""

    def value(self, candidate: Candidate, which: str = ...) -> float | None:
        """Return what is maximised, in percent."""

    def lacks(self, candidate: Candidate) -> dict[str, float]:
        """Return by constraint how many points a candidate lacks."""


def finalists_of(plan: Plan, standings: Standings, candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return who goes on to the items of selection: the best that keep what is to be kept, the best first.

    Where none keeps it, those that lack least. Of several numbers those of the front.
    """
    complete = [each for each in candidates if each.may_win]
    lacking = {id(each): sum(max(0.0, short) for short in standings.lacks(each).values()) for each in complete}
    least = min(lacking.values())
    keeping = [each for each in complete if lacking[id(each)] <= least]
    if plan.settings.goal.several:
        keeping = front_of(plan.settings.goal, keeping)
    return sorted(keeping, key=lambda each: -(standings.value(each) or 0.0))[: plan.settings.finalists]


def choose(
    plan: Plan, standings: Standings, finalists: Sequence[Candidate], candidates: Sequence[Candidate]
) -> list[tuple[str, Candidate]]:
    """Return who is tested, by role.

    The winner has the best value over search and selection items together: on the first alone it was picked for its
    luck, too, and the second alone are few.
    """
    order = sorted(finalists, key=lambda each: -_pooled(plan, each))
    roles = [("winner", order[0])]
    if plan.settings.goal.several:
        roles += [("front", each) for each in order[1:]]
    else:
        roles += [("runner-up", each) for each in order[1:2]]
    method = order[0].spec.merge_method
    defaults = [each for each in candidates if each.origin == "default" and each.state != "failed"]
    roles += [("default", each) for each in defaults if each.spec.merge_method == method]
    experts = [each for each in candidates if each.origin == "expert" and each.state == "complete"]
    if experts:
        roles.append(("expert", max(experts, key=lambda each: standings.value(each) or 0.0)))
    return roles


def _pooled(plan: Plan, candidate: Candidate) -> float:
    found, chosen = candidate.values["search"], candidate.values["select"]
    values = plan.settings.goal.values(means_of({name: [*found[name], *chosen[name]] for name in found}))
    return sum(values) / len(values)


def front_of(goal: Goal, candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return the candidates that no other betters in one number without losing in another, by search items."""
    numbers = [goal.values(means_of(each.values["search"])) for each in candidates]

    def beaten(mine: Sequence[float]) -> bool:
        return any(
            all(a >= b for a, b in zip(other, mine, strict=True)) and list(other) != list(mine) for other in numbers
        )

    return [each for each, mine in zip(candidates, numbers, strict=True) if not beaten(mine)]


def standing(goal: Goal, candidates: Sequence[Candidate], compared: Compared | None = None) -> dict[int, str]:
    """Return by place whether a complete candidate is on the front, dominated, or dominated within the noise.

    It is dominated where one of the front is at least as good in every number, and better in one by more than chance
    explains at 5 % (paired bootstrap). compared: keeps what the bootstrap has said of two candidates, for a later call.
    """
    compared = {} if compared is None else compared
    places = [place for place, each in enumerate(candidates) if each.state == "complete"]
    numbers = {place: goal.values(means_of(candidates[place].values["search"])) for place in places}
    on_front = {id(each) for each in front_of(goal, [candidates[place] for place in places])}
    front = [place for place in places if id(candidates[place]) in on_front]
    found = dict.fromkeys(front, "front")
    for place in places:
        if place in found:
            continue
        mine = numbers[place]
        better = [other for other in front if all(a >= b for a, b in zip(numbers[other], mine, strict=True))]
        better.sort(key=lambda other: -sum(numbers[other]))  # the clearest first: one that is enough ends the look
        is_dominated = any(_is_better(goal, candidates[other], candidates[place], compared) for other in better)
        found[place] = "dominated" if is_dominated else "within the noise"
    return found


def _is_better(goal: Goal, better: Candidate, worse: Candidate, compared: Compared) -> bool:
    pair = better.spec.digest, worse.spec.digest
    if pair not in compared:
        compared[pair] = _significantly(goal, better, worse)
    return compared[pair]


def _significantly(goal: Goal, better: Candidate, worse: Candidate) -> bool:
    import numpy as np

    names = [name for part in goal.parts for name in part]
    differences = {
        name: np.array(better.values["search"][name]) - np.array(worse.values["search"][name]) for name in names
    }
    resampled, _ = next(iter(bootstrap([differences], [])))
    return any(each.p < _SIGNIFICANT and differences[name].mean() > 0 for name, each in resampled.items())


def interval_of(
    part: Mapping[str, float], values: Mapping[str, Sequence[float]], other: Mapping[str, Sequence[float]] | None = None
) -> tuple[float, float]:
    """Return the 95 % interval of a weighted mean of benchmarks, in percent: the bootstrap over their items.

    other: of another candidate on the same items; the interval is then that of the difference.
    """
    import numpy as np

    def of(name: str) -> Array:
        found = np.array(values[name], dtype=float)
        return found if other is None else found - np.array(other[name], dtype=float)

    scaled = {name: of(name) * weight * len(part) for name, weight in part.items()}
    _, found = next(iter(bootstrap([scaled], list(part), average_only=True)))
    assert found is not None
    return 100 * found.low, 100 * found.high


def intervals_of(values: Mapping[str, Sequence[float]]) -> dict[str, tuple[float, float]]:
    """Return by benchmark the 95 % interval of its mean, in percent."""
    return {name: interval_of({name: 1.0}, values) for name in values}

"""What the page's script works on: the search as plain JSON values."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TypedDict

from della_bench.search.candidate import Candidate, means_of
from della_bench.search.evaluating import looks_of
from della_bench.search.plan import Plan
from della_bench.search.report import ROLES, Outcome, score_of
from della_bench.search.samplers import quiet
from della_bench.search.selection import intervals_of, standing
from della_bench.search.space import METHOD

__all__ = ["PageContent", "content"]

log = logging.getLogger(__name__)

_FEWEST = 8  # candidates that an importance is told of


class CandidateContent(TypedDict):
    """A candidate: `value` and `means` are None and empty where it has not seen all search items.

    intervals: of `means`, of those on the front of several numbers.
    """

    name: str
    number: int | None
    origin: str
    state: str
    reason: str
    value: float | None
    means: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    front: str | None
    items: int
    seconds: float
    keys: dict[str, float | str]
    spec: str


class ScoreContent(TypedDict):
    """A score on one set of items, with its 95 % interval."""

    value: float
    low: float
    high: float


class TestedContent(TypedDict):
    """Who was tested, as what, with the scores on the search items and on the test items."""

    role: str
    name: str
    search: ScoreContent | None
    test: ScoreContent | None


class PageContent(TypedDict):
    """All that the page's script knows. `importances` by method, "" for all: by key its share."""

    candidates: list[CandidateContent]
    benchmarks: list[str]
    numbers: list[str]
    dimensions: list[str]
    items: int
    looks: int
    tested: list[TestedContent]
    importances: dict[str, dict[str, float]]


def content(plan: Plan, outcome: Outcome) -> PageContent:
    """Return what the page shows of a search that has ended."""
    goal = plan.settings.goal
    stands = standing(goal, outcome.candidates) if goal.several else {}
    return {
        "candidates": [_candidate(plan, each, stands.get(place)) for place, each in enumerate(outcome.candidates)],
        "benchmarks": list(plan.settings.benchmarks),
        "numbers": goal.names,
        "dimensions": [each.name for each in plan.space.all_dimensions],
        "items": sum(len(each.items) for each in plan.sets["search"]),
        "looks": len(looks_of(plan, "search")),
        "tested": [
            {
                "role": ROLES[role],
                "name": each.name,
                "search": _score(plan, each, "search"),
                "test": _score(plan, each, "test"),
            }
            for role, each in outcome.roles
        ],
        "importances": _importances(plan, outcome.candidates),
    }


def _candidate(plan: Plan, candidate: Candidate, front: str | None) -> CandidateContent:
    complete = candidate.state == "complete"
    means = means_of(candidate.values.get("search", {})) if complete else {}
    numbers = plan.settings.goal.values(means) if complete else []
    return {
        "name": candidate.name,
        "number": candidate.number,
        "origin": candidate.origin,
        "state": candidate.state,
        "reason": candidate.reason,
        "value": sum(numbers) / len(numbers) if numbers else None,
        "means": means,
        "intervals": intervals_of(candidate.values["search"]) if front == "front" else {},
        "front": front,
        "items": candidate.seen("search"),
        "seconds": sum(candidate.seconds.values()),
        "keys": _keys(plan, candidate),
        "spec": str(candidate.spec),
    }


def _keys(plan: Plan, candidate: Candidate) -> dict[str, float | str]:
    shown = plan.space.shown(candidate.proposal) if candidate.proposal else {}
    return {name: value if isinstance(value, (int, float)) else str(value) for name, value in shown.items()}


def _score(plan: Plan, candidate: Candidate, which: str) -> ScoreContent | None:
    score = score_of(plan, candidate, which)
    if score is None or "value" not in score:
        return None
    return {"value": score["value"], "low": score["interval"][0], "high": score["interval"][1]}


def _importances(plan: Plan, candidates: Sequence[Candidate]) -> dict[str, dict[str, float]]:
    """Return how much each key has to do with the score, by Optuna's PED-ANOVA.

    "" is over all candidates, for the keys that all of them have; by method over those of one method.
    """
    if plan.settings.goal.several:
        return {}
    found = {"": _importance(plan, [each for each in candidates if each.number is not None], methods=True)}
    for method in plan.space.methods if len(plan.space.methods) > 1 else []:
        own = [each for each in candidates if each.number is not None and each.spec.merge_method == method]
        found[method] = _importance(plan, own, methods=False)
    return {method: each for method, each in found.items() if each}


def _importance(plan: Plan, candidates: Sequence[Candidate], *, methods: bool) -> dict[str, float]:
    import optuna
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    complete = [each for each in candidates if each.state == "complete" and each.proposal]
    if len(complete) < _FEWEST:
        return {}
    with quiet():
        study = optuna.create_study(direction="maximize", storage=optuna.storages.InMemoryStorage())
    by_name = {each.name: each for each in plan.space.all_dimensions if methods or each.name != METHOD}
    for each in complete:
        params = {name: value for name, value in each.proposal.items() if name in by_name}
        distributions = {name: by_name[name].distribution for name in params}
        value = plan.settings.goal.values(means_of(each.values["search"]))[0]
        study.add_trial(optuna.create_trial(params=params, distributions=distributions, value=value))
    try:
        with quiet():
            return dict(get_param_importances(study, evaluator=PedAnovaImportanceEvaluator()))
    except (ValueError, RuntimeError) as error:  # too few different scores to tell anything
        log.info("no importances: %s", error)
        return {}

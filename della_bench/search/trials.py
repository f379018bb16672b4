"""Optuna's trials and the candidates that they are: what is asked first, what is told, and when no more is asked."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from della_bench.search.candidate import Candidate, Origin, means_of, read_candidate
from della_bench.search.definition import kept_definition
from della_bench.search.plan import Plan
from della_bench.search.proposals import Proposals, trial_number
from della_bench.search.scoreboard import Scoreboard
from della_bench.search.storage import study_name
from della_bench.search.warm_start import earlier_proposals

if TYPE_CHECKING:
    from optuna.trial import Trial

__all__ = ["Trials"]

_REPEATS = 200  # proposals in a row that are known merges: the space has no others


class Trials:
    """The trials of a search, of this start and of earlier ones."""

    def __init__(self, plan: Plan, board: Scoreboard) -> None:
        """Open the storage. Raises UsageError where it cannot be had."""
        self._plan, self._board = plan, board
        begun = kept_definition(plan.out) is not None
        name = study_name(plan.out, plan.storage, plan.digest, begun=begun)
        self._proposals = Proposals(plan.space, plan.settings, plan.out, plan.storage, name)
        self._first: list[tuple[Origin, Mapping[str, Any]]] = []
        self._begun: set[int] = set()
        self._repeats = 0

    def begin(self) -> list[Candidate]:
        """Take up what earlier starts have left; return the candidates that have ended, in the order of their numbers.

        Where one that has ended has lost its folder the storage is emptied: the truth is in the folders.
        """
        plan, proposals = self._plan, self._proposals
        paths = sorted(plan.runs.glob("*/candidate.json"))
        found = {path.parent.name: each for path in paths if (each := read_candidate(path.parent)) is not None}
        if any(trial.user_attrs.get("folder") not in found for trial in proposals.kept):
            proposals.forget()
        known = {each.number: each for each in found.values() if each.number is not None and each.proposal}
        kept = {trial_number(trial) for trial in proposals.kept}
        self._begun = {number for number, each in known.items() if number not in kept and each.state == "new"}
        self._first = self._proposed_first()
        earlier = {number: each.proposal for number, each in known.items()}
        ended = proposals.begin([proposal for _, proposal in self._first], earlier)
        own = [trial for trial in ended if "same_as" not in trial.user_attrs]
        return [replace(found[trial.user_attrs["folder"]], number=trial_number(trial)) for trial in own]

    def _proposed_first(self) -> list[tuple[Origin, Mapping[str, Any]]]:
        """Return what is proposed first: the grid, or the untuned defaults and what earlier runs have tried."""
        space, settings = self._plan.space, self._plan.settings
        if settings.sampler == "grid":
            points = space.grid or []
            random.Random(settings.seed).shuffle(points)
            return [("proposed", point) for point in points]
        found: list[tuple[Origin, Mapping[str, Any]]] = []
        if settings.defaults:
            found += [("default", space.middle(method)) for method in space.methods]
        return found + [("earlier", proposal) for proposal in earlier_proposals(self._plan)]

    def spent(self, under_way: int) -> str:
        """Return why no other candidate is proposed, "" where one is; so many are `under_way`.

        One that an earlier start has begun is gone on with, whatever was spent since.
        """
        settings, candidates = self._plan.settings, self._board.candidates
        tried = sum(each.number is not None for each in candidates) + under_way
        took = sum(each.took for each in candidates)
        if self._begun:
            return ""
        if settings.sampler == "grid" and not self._proposals.waiting:
            return "every merge of the grid was tried"
        if settings.trials is not None and tried >= settings.trials:
            return "1 candidate was tried" if settings.trials == 1 else f"{settings.trials} candidates were tried"
        if settings.seconds is not None and tried and took >= settings.seconds:
            return f"{settings.seconds:g} seconds were used"
        if settings.patience is not None and self._board.since_best >= settings.patience:
            return f"{settings.patience} candidates in a row brought nothing better"
        if self._repeats >= _REPEATS:
            return f"the last {self._repeats} proposals were merges that were tried already"
        return ""

    def ask(self) -> tuple[Trial, Candidate]:
        """Return the next trial, and the candidate that it proposes."""
        trial, proposal = self._proposals.ask()
        self._begun.discard(trial.number)
        spec = self._plan.space.spec(proposal)
        origin: Origin = self._first[trial.number][0] if trial.number < len(self._first) else "proposed"
        return trial, Candidate(spec, self._plan.runs / spec.file_name, origin, trial.number, proposal)

    def note(self, *, repeats: bool) -> None:
        """Take note whether what was asked last is a merge that takes part already."""
        self._repeats = self._repeats + 1 if repeats else 0

    def report(self, trial: Trial, look: int, values: Mapping[str, Sequence[float]]) -> bool:
        """Report what a candidate has after a look; return whether Optuna's pruner stops it."""
        return self._proposals.report(trial, look, self._value(values), _items(values))

    def report_again(self, trial: Trial, candidate: Candidate, looks: Sequence[Sequence[int]]) -> None:
        """Tell Optuna after each look what it was told when the candidate was evaluated."""
        values = candidate.values["search"]
        for number, ends in enumerate(looks[: candidate.stopped_at], start=1):
            pairs = zip(self._plan.sets["search"], ends, strict=True)
            self.report(trial, number, {each.benchmark: values[each.benchmark][:end] for each, end in pairs})

    def tell(self, trial: Trial, candidate: Candidate) -> None:
        """Tell Optuna how a candidate has ended: state, values, and what it lacks."""
        facts: dict[str, Any] = {"folder": candidate.folder.name}
        if candidate.number == trial.number:
            facts |= {"origin": candidate.origin, "reason": candidate.reason, "spec": str(candidate.spec)}
        else:
            facts |= {"same_as": candidate.number}
        if candidate.state == "failed":
            self._proposals.tell(trial, "failed", None, {}, facts)
            return
        values = self._plan.settings.goal.values(means_of(candidate.values["search"]))
        self._proposals.tell(trial, candidate.state, values, self._board.lacks(candidate), facts)

    def keep(self, trial: Trial) -> None:
        """Put a trial that has been told into the storage."""
        self._proposals.keep(trial)

    def _value(self, values: Mapping[str, Sequence[float]]) -> float:
        return self._plan.settings.goal.values(means_of(values))[0]


def _items(values: Mapping[str, Sequence[float]]) -> dict[int, float]:
    """Return the values in percent, each under a number that stands for its item with every candidate."""
    return {
        place * len(values) + column: 100 * value
        for column, each in enumerate(values.values())
        for place, value in enumerate(each)
    }

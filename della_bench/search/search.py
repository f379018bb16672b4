"""The search itself: propose, evaluate and race, tell; then select among the best, and test what was fixed before."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from della_bench.errors import DellaBenchError, JudgeError, UsageError
from della_bench.lock import folder_lock
from della_bench.run.preflight import check_engine, check_scorers
from della_bench.search.answering import Worker
from della_bench.search.candidate import Candidate, Origin, items_digest, means_of, read_candidate, write_candidate
from della_bench.search.evaluating import Evaluating, looks_of
from della_bench.search.money import KeptMoney
from della_bench.search.plan import Plan, check_folder, keep_definition
from della_bench.search.proposals import Proposals
from della_bench.search.report import Outcome, write_candidates, write_report
from della_bench.search.scoreboard import Scoreboard
from della_bench.search.selection import choose, finalists_of
from della_bench.search.warm_start import earlier_proposals
from della_bench.search.watching import SearchWatcher

if TYPE_CHECKING:
    from optuna.trial import Trial

__all__ = ["Search"]

log = logging.getLogger(__name__)

_REPEATS = 200  # proposals in a row that are known merges: the space has no others


class Search:
    """A search of a plan, in its folder. `run` goes on from whatever an earlier start has left."""

    def __init__(self, plan: Plan, watcher: SearchWatcher | None = None) -> None:
        self._plan, self._watcher = plan, watcher or SearchWatcher()
        self._board = Scoreboard(plan)
        self._looks = looks_of(plan, "search")

    def run(self) -> Outcome:
        """Search, select and test; every file is in place when it ends.

        Raises UsageError where the folder holds another search or somebody else works in it, SpecError and UsageError
        where the engine or a judge cannot be had, JudgeError where the money ends, DellaBenchError where no candidate
        could be evaluated.
        """
        plan = self._plan
        check_engine(plan.example(), plan.options)
        check_scorers([plan.rows[each.task] for sets in plan.sets.values() for each in sets], plan.options)
        check_folder(plan)
        with folder_lock(plan.out, wait=False) as locked:
            if not locked:
                raise UsageError(f"{plan.out}: another process searches in this folder")
            proposals = self._open()
            money = KeptMoney.open(plan.out / "money.json")
            keep_definition(plan)
            options = replace(plan.options, money=money, watch=self._watcher.working)
            worker = Worker(plan.tasks, options, self._watcher.working)
            self._evaluating = Evaluating(plan, worker, options)
            try:
                return self._searched(proposals)
            finally:
                worker.close()

    def _open(self) -> Proposals:
        """Return the study, emptied where it holds a candidate whose folder is gone: the truth is in the folders."""
        plan = self._plan
        proposals = Proposals(plan.space, plan.settings, plan.out, plan.storage, f"della-bench-{plan.digest[:16]}")
        folders = [trial.user_attrs.get("folder") for trial in proposals.ended]
        if any(name is None or read_candidate(plan.runs / name) is None for name in folders):
            proposals.forget()
        return proposals

    def _searched(self, proposals: Proposals) -> Outcome:
        for origin, spec in self._plan.references():
            self._take_part(Candidate(spec, self._plan.runs / spec.file_name, origin))
        ended = self._propose(proposals)
        roles = self._finish()
        outcome = Outcome(tuple(self._board.candidates), roles, ended)
        write_report(self._plan, outcome)
        return outcome

    def _propose(self, proposals: Proposals) -> str:
        """Go on until a budget is spent; return which."""
        plan, board = self._plan, self._board
        first = self._first()
        proposals.enqueue([proposal for _, proposal in first])
        for known_trial in proposals.ended:
            ended = read_candidate(plan.runs / known_trial.user_attrs["folder"])
            if ended is not None and "same_as" not in known_trial.user_attrs:
                board.enter(replace(ended, number=known_trial.number))
        self._watcher.planned(plan.settings.trials, board.candidates)
        repeats = 0
        while not (reason := self._spent(proposals, repeats)):
            started = time.perf_counter()
            trial, proposal = proposals.ask()
            spec = plan.space.spec(proposal)
            seconds = {"propose": time.perf_counter() - started}
            known = board.by_digest.get(spec.digest)
            repeats = 0 if known is None else repeats + 1
            facts: dict[str, Any] = {}
            if known is None:
                origin: Origin = first[trial.number][0] if trial.number < len(first) else "proposed"
                folder = plan.runs / spec.file_name
                new = Candidate(spec, folder, origin, trial.number, proposal, seconds=seconds)
                candidate = self._take_part(new, proposals, trial)
                facts = {"origin": origin, "reason": candidate.reason, "spec": str(spec)}
            else:
                candidate, facts = known, {"same_as": known.number}
            proposals.tell(trial, *self._told(candidate), {"folder": candidate.folder.name, **facts})
            write_candidates(plan, board.candidates)
        return reason

    def _spent(self, proposals: Proposals, repeats: int) -> str:
        """Return why no other candidate is proposed, "" where one is."""
        settings, board = self._plan.settings, self._board
        tried = sum(each.number is not None for each in board.candidates)
        took = sum(sum(each.seconds.values()) for each in board.candidates)
        if settings.sampler == "grid" and not proposals.waiting:
            return "every merge of the grid was tried"
        if settings.trials is not None and tried >= settings.trials:
            return f"{settings.trials} candidates were tried"
        if settings.seconds is not None and took >= settings.seconds:
            return f"{settings.seconds:g} seconds were used"
        if settings.patience is not None and board.since_best >= settings.patience:
            return f"{settings.patience} candidates in a row brought nothing better"
        if repeats >= _REPEATS:
            return f"the last {repeats} proposals were merges that were tried already"
        return ""

    def _first(self) -> list[tuple[Origin, Mapping[str, Any]]]:
        """Return what is proposed first: the grid, or the untuned defaults and what earlier runs have tried."""
        space, settings = self._plan.space, self._plan.settings
        if settings.sampler == "grid":
            points = space.grid() or []
            random.Random(settings.seed).shuffle(points)
            return [("proposed", point) for point in points]
        found: list[tuple[Origin, Mapping[str, Any]]] = []
        if settings.defaults:
            found += [("default", space.middle(method)) for method in space.methods]
        return found + [("earlier", proposal) for proposal in earlier_proposals(self._plan)]

    def _take_part(
        self, candidate: Candidate, proposals: Proposals | None = None, trial: Trial | None = None
    ) -> Candidate:
        """Evaluate a candidate on the search items, unless its folder says how it ended; enter it."""
        known = read_candidate(candidate.folder)
        if known is not None and self._has_ended(known):
            candidate = replace(known, number=candidate.number, origin=candidate.origin, proposal=candidate.proposal)
            if candidate != known:
                write_candidate(candidate)
            if proposals is not None and trial is not None and candidate.state != "failed":
                self._report_again(proposals, trial, candidate)
        else:
            self._watcher.began(candidate, "search")
            candidate = self._evaluated(candidate, proposals, trial)
            write_candidate(candidate)
            if candidate.state == "complete":
                self._evaluating.forget(candidate, "search")
        self._board.enter(candidate)
        self._watcher.ended(candidate, "search", self._board.value(candidate), self._board.best)
        return candidate

    def _has_ended(self, candidate: Candidate) -> bool:
        digests = {each.benchmark: items_digest(each) for each in self._plan.sets["search"]}
        if candidate.state == "stopped":
            return self._plan.settings.race is not None and candidate.items.get("search") == digests
        return candidate.state == "failed" or candidate.has("search", self._plan.sets["search"])

    def _evaluated(self, candidate: Candidate, proposals: Proposals | None, trial: Trial | None) -> Candidate:
        """Return the candidate as it has ended: complete, stopped, or failed with the reason."""

        def look(number: int, values: Mapping[str, Sequence[float]]) -> bool:
            value = self._plan.settings.goal.values(means_of(values))[0]
            self._watcher.looked(candidate, number, len(self._looks), value)
            if proposals is None or trial is None:
                return False
            pruned = proposals.report(trial, number, value, _items(values))
            return pruned or self._board.is_beaten(number, values)

        try:
            return self._evaluating.evaluate(candidate, "search", look)
        except (JudgeError, UsageError):  # no fault of the candidate's: it would come again with the next one
            raise
        except DellaBenchError as error:
            log.info("%s failed: %s", candidate.name, error)
            return replace(candidate, state="failed", reason=" ".join(str(error).split()))

    def _report_again(self, proposals: Proposals, trial: Trial, candidate: Candidate) -> None:
        """Tell Optuna after each look what it was told when the candidate was evaluated."""
        values = candidate.values["search"]
        for number, ends in enumerate(self._looks[: candidate.stopped_at], start=1):
            pairs = zip(self._plan.sets["search"], ends, strict=True)
            seen = {each.benchmark: values[each.benchmark][:end] for each, end in pairs}
            proposals.report(trial, number, self._plan.settings.goal.values(means_of(seen))[0], _items(seen))

    def _told(self, candidate: Candidate) -> tuple[str, list[float] | None, dict[str, float]]:
        """Return what Optuna is told of a candidate: state, values, and what it lacks."""
        if candidate.state == "failed":
            return "failed", None, {}
        values = self._plan.settings.goal.values(means_of(candidate.values["search"]))
        return candidate.state, values, self._board.lacks(candidate)

    def _finish(self) -> tuple[tuple[str, Candidate], ...]:
        """Select among the best on other items, fix who is tested, and test these; returns them by role."""
        plan, board = self._plan, self._board
        if not any(each.state == "complete" for each in board.candidates):
            reasons = dict.fromkeys(each.reason for each in board.candidates if each.reason)
            raise DellaBenchError("no candidate could be evaluated:\n" + "\n".join(reasons))
        finalists = self._all_on(finalists_of(plan, board, board.candidates), "select")
        roles = choose(plan, board, finalists, board.candidates)
        unique = {each.spec.digest: each for _, each in roles}
        self._all_on(list(unique.values()), "test")
        return tuple((role, board.by_digest[each.spec.digest]) for role, each in roles)

    def _all_on(self, candidates: Sequence[Candidate], which: str) -> list[Candidate]:
        """Ask candidates all items of a set; return them with their values."""
        plan, board = self._plan, self._board
        items = sum(len(each.items) for each in plan.sets[which])
        what = {"select": "selecting among", "test": "testing"}[which]
        self._watcher.said(f"{what} {len(candidates)} on {items} items that no candidate has seen")
        for candidate in candidates:
            if not candidate.has(which, plan.sets[which]):
                self._watcher.began(candidate, which)
                state = candidate.state  # a default that was stopped early stays so, whatever it is tested on
                candidate = replace(self._evaluating.evaluate(candidate, which), state=state)
                write_candidate(candidate)
                self._evaluating.forget(candidate, which)
                board.replace(candidate)
            self._watcher.ended(candidate, which, board.value(candidate, which), board.best)
        return [board.by_digest[each.spec.digest] for each in candidates]


def _items(values: Mapping[str, Sequence[float]]) -> dict[int, float]:
    """Return the values in percent, each under a number that stands for its item with every candidate."""
    return {
        place * len(values) + column: 100 * value
        for column, each in enumerate(values.values())
        for place, value in enumerate(each)
    }

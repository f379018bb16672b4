"""The search itself: propose, evaluate and race, tell; then select among the best, and test what was fixed before.

What is to be done comes in pieces, each a candidate that is asked the items of a set, from a generator that is the
course of the search. This process does them one after the other, or workers do (`spread`), whichever is free: then
proposals know of the candidates that are under way, and nobody waits for the others but at the end of the search items
and of the selection items. Everything that is decided is decided here, under one lock.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING

from della_bench.errors import DellaBenchError, JudgeError, UsageError
from della_bench.lock import folder_lock
from della_bench.run.options import Options
from della_bench.run.preflight import check_engine, check_scorers
from della_bench.search.answering import Answerer
from della_bench.search.candidate import Candidate, items_digest, read_candidate, write_candidate
from della_bench.search.definition import check_folder, keep_definition, kept_definition
from della_bench.search.evaluating import Answered, Ask, Evaluating, Main, R, looks_of
from della_bench.search.money import KeptMoney
from della_bench.search.plan import Plan, check_sources
from della_bench.search.report import Outcome, write_candidates, write_report
from della_bench.search.scoreboard import Scoreboard
from della_bench.search.selection import Compared, choose, finalists_of
from della_bench.search.spread import spread
from della_bench.search.trials import Trials
from della_bench.search.watching import SearchWatcher
from della_bench.workers.session import check_address
from della_bench.workers.wanted import Wanted
from della_bench.workers.worker import HostRefusedError, NotOnThisHostError, WorkerLostError

if TYPE_CHECKING:
    from optuna.trial import Trial

__all__ = ["Piece", "Search"]

log = logging.getLogger(__name__)


@dataclass(eq=False)
class Piece:
    """A candidate that is asked the items of a set; `same` are trials that proposed it again while it was asked."""

    candidate: Candidate
    which: str
    trial: Trial | None = None
    same: list[Trial] = field(default_factory=list)
    kept: float = 0.0  # seconds of the blocks that were answered before a worker was lost


class Alone:
    """Does things where there is one thread: at once."""

    size = 1

    def in_turn(self, act: Callable[[], R]) -> R:
        return act()

    def in_main(self, call: Callable[[], None]) -> None:
        call()


class Search:
    """A search of a plan, in its folder. `run` goes on from whatever an earlier start has left."""

    def __init__(self, plan: Plan, watcher: SearchWatcher | None = None, workers: Wanted | None = None) -> None:
        """workers: who is asked, beside each other; None is this process alone."""
        self._plan, self._watcher, self._workers = plan, watcher or SearchWatcher(), workers
        self._board = Scoreboard(plan)
        self._looks = looks_of(plan, "search")
        self._lock = threading.RLock()
        self._asked: dict[str, Piece] = {}  # by digest, those that are asked
        self._unwritten = 0  # how many have ended, and are not written down yet
        self._held_against = {row for _, row, _ in plan.settings.keep}
        self._outcome = Outcome(())
        self._compared: Compared = {}

    def run(self) -> Outcome:
        """Search, select and test; every file is in place when it ends.

        Raises UsageError where the folder holds another search or somebody else works in it, SpecError and UsageError
        where the engine, a judge or workers cannot be had, JudgeError where the money ends, DellaBenchError where no
        candidate could be evaluated.
        """
        plan = self._plan
        if self._workers is None or self._workers.address is None:  # of a cluster only the hosts know their devices
            check_engine(plan.example(), plan.options)
        check_scorers([plan.rows[each.task] for sets in plan.sets.values() for each in sets], plan.options)
        check_sources(plan)
        check_folder(plan)
        if self._workers is not None and self._workers.address is not None and kept_definition(plan.out) is None:
            check_address(self._workers.address)  # it is needed in any case: without it, nothing is begun
        with folder_lock(plan.out, wait=False) as locked:
            if not locked:
                raise UsageError(f"{plan.out}: another process searches in this folder")
            self._trials = Trials(plan, self._board)
            options = replace(plan.options, money=KeptMoney.open(plan.out / "money.json"), watch=self._watcher.working)
            self._evaluating = Evaluating(plan, options)
            pieces = self._pieces()
            if self._workers is None:
                keep_definition(plan)
                self._do_alone(pieces, options)
            elif (first := next(pieces, None)) is not None:  # else there is nothing that workers are needed for
                spread(chain([first], pieces), plan, self._workers, self._watcher, self._do, self._failed)
            write_report(plan, self._outcome, self._compared)
        return self._outcome

    def _do_alone(self, pieces: Iterator[Piece | None], options: Options) -> None:
        answerer = Answerer(self._plan.tasks, options, self._watcher.working)
        try:
            for piece in pieces:
                assert piece is not None  # nothing is under way that could be waited for
                self._do(piece, lambda spec, places, inputs: answerer.answer(spec, places), Alone())
        finally:
            answerer.close()

    def _pieces(self) -> Iterator[Piece | None]:
        """Yield what is to be done next; None where that depends on what is under way. No lock is held in between."""
        plan, board = self._plan, self._board
        for origin, spec in plan.references():
            if piece := self._begin(Candidate(spec, plan.runs / spec.file_name, origin)):
                yield piece
        while any(self._is_held_against(each.candidate) for each in tuple(self._asked.values())):
            yield None
        for each in tuple(board.candidates):
            if each.state == "failed" and self._is_held_against(each):
                raise DellaBenchError(f"{each.name}: `keep` holds the others against it, and it failed: {each.reason}")
        with self._lock:
            for known in self._trials.begin():
                board.enter(known)
            self._watcher.planned(plan.settings.trials, board.in_order)
        while True:
            with self._lock:
                reason = self._trials.spent(sum(each.trial is not None for each in self._asked.values()))
                if reason and not self._under_way:
                    break
                piece = None if reason else self._propose()
            if reason or piece is not None:
                yield piece
        if not any(each.may_win for each in board.candidates):
            reasons = dict.fromkeys(each.reason for each in board.in_order if each.reason)
            raise DellaBenchError("no candidate could be evaluated:\n" + "\n".join(reasons))
        finalists = finalists_of(plan, board, board.in_order)
        yield from self._all_on(finalists, "select")
        finalists = [board.by_digest[each.spec.digest] for each in finalists]
        roles = choose(plan, board, finalists, board.in_order)
        yield from self._all_on(list({each.spec.digest: each for _, each in roles}.values()), "test")
        tested = tuple((role, board.by_digest[each.spec.digest]) for role, each in roles)
        self._outcome = Outcome(tuple(board.in_order), tested, reason)

    @property
    def _under_way(self) -> bool:
        with self._lock:
            return bool(self._asked or self._unwritten)

    def _all_on(self, candidates: Sequence[Candidate], which: str) -> Iterator[Piece | None]:
        """Yield the candidates that are to be asked the items of a set; ends when all have been."""
        plan, board = self._plan, self._board
        items = sum(len(each.items) for each in plan.sets[which])
        what = {"select": "selecting among", "test": "testing"}[which]
        self._watcher.said(f"{what} {len(candidates)} on {items} items that no candidate has seen")
        for candidate in candidates:
            if candidate.has(which, plan.sets[which]):
                self._watcher.ended(candidate, which, board.value(candidate, which), board.best)
                continue
            piece = Piece(candidate, which)
            with self._lock:
                self._asked[candidate.spec.digest] = piece
            yield piece
        while self._under_way:
            yield None

    def _propose(self) -> Piece | None:
        """Ask for the next candidate; None where it is known, or asked already."""
        started = time.perf_counter()
        trial, candidate = self._trials.ask()
        candidate = replace(candidate, seconds={"propose": time.perf_counter() - started})
        digest = candidate.spec.digest
        asked, known = self._asked.get(digest), self._board.by_digest.get(digest)
        self._trials.note(repeats=asked is not None or known is not None)
        if asked is not None:
            asked.same.append(trial)
        elif known is not None:
            self._trials.tell(trial, known)
            self._trials.keep(trial)
        else:
            return self._begin(candidate, trial)
        return None

    def _begin(self, candidate: Candidate, trial: Trial | None = None) -> Piece | None:
        """Return what is to be done with a candidate; where its folder says how it ended, enter it and return None."""
        piece = Piece(candidate, "search", trial)
        with self._lock:
            self._asked[candidate.spec.digest] = piece
            known = read_candidate(candidate.folder)
            if known is None or not self._has_ended(known):
                return piece
            candidate = replace(known, number=candidate.number, origin=candidate.origin, proposal=candidate.proposal)
            if candidate != known:
                write_candidate(candidate)
            if trial is not None and candidate.state != "failed":
                self._trials.report_again(trial, candidate, self._looks)
            self._tell(piece, candidate)
            self._unwritten -= 1
            if trial is not None:
                self._trials.keep(trial)
        return None

    def _is_held_against(self, candidate: Candidate) -> bool:
        """Return whether it is a source without which nobody knows what is kept."""
        return candidate.number is None and candidate.spec.display_name in self._held_against

    def _has_ended(self, candidate: Candidate) -> bool:
        digests = {each.benchmark: items_digest(each) for each in self._plan.sets["search"]}
        if candidate.state == "stopped":
            return self._plan.settings.race is not None and candidate.items.get("search") == digests
        if candidate.state == "failed":
            return not self._is_held_against(candidate)  # which is tried again
        return candidate.has("search", self._plan.sets["search"])

    def _do(self, piece: Piece, ask: Ask, main: Main, worker: str = "") -> None:
        """Ask a candidate the items of its set, and tell what came out; it is written down by the main thread.

        Meanwhile the worker is free. Raises what is no fault of the candidate's.
        """
        candidate, which = replace(piece.candidate, workers=main.size), piece.which
        with self._lock:
            self._watcher.began(candidate, which, worker)
        if piece.trial is not None:
            write_candidate(candidate)  # whoever is killed now goes on with it

        def look(number: int, values: Mapping[str, Sequence[float]]) -> bool:
            with self._lock:
                value = self._board.value_of(values)
                self._watcher.looked(candidate, number, len(self._looks), value, worker)
                if piece.trial is None:
                    return False
                pruned = self._trials.report(piece.trial, number, values)
                return pruned or self._board.is_beaten(number, values)

        evaluate = self._evaluating.evaluate
        began, kept = time.perf_counter(), piece.kept

        def keep(seconds: float) -> None:
            piece.kept += seconds

        looks = {"look": look} if which == "search" else {}
        try:
            answered = evaluate(candidate, which, ask, main, keep=keep, **looks)
        except DellaBenchError as error:
            lost = time.perf_counter() - began - (piece.kept - kept)  # the next one finds the blocks with their seconds
            piece.candidate = _with_lost(candidate, lost)
            if isinstance(error, (JudgeError, UsageError, WorkerLostError, HostRefusedError, NotOnThisHostError)):
                raise  # it would come again with the next one, or another worker may do better
            main.in_main(partial(self._failed, piece, error))
            return
        with self._lock:
            self._tell(piece, answered.candidate)
        main.in_main(partial(self._put, piece, answered))

    def _tell(self, piece: Piece, candidate: Candidate) -> None:
        """Let everybody know how a candidate has ended: before its files are written, so that nobody waits for them."""
        del self._asked[candidate.spec.digest]
        self._unwritten += 1
        if piece.which == "search":
            self._board.enter(candidate)
            for trial in (piece.trial, *piece.same):
                if trial is not None:
                    self._trials.tell(trial, candidate)
        value = self._board.value(candidate, piece.which)
        self._watcher.ended(candidate, piece.which, value, self._board.best)

    def _put(self, piece: Piece, answered: Answered) -> None:
        """Write down what a candidate has been answered."""
        try:
            candidate = self._evaluating.put(answered, piece.which)
        except (JudgeError, UsageError):
            raise
        except DellaBenchError as error:
            if piece.which != "search":
                raise
            candidate = _failed(answered.candidate, error)
        if piece.which != "search":  # a default that was stopped early stays so, whatever it is tested on
            candidate = replace(candidate, state=piece.candidate.state)
        self._write(piece, candidate)

    def _failed(self, piece: Piece, error: DellaBenchError) -> None:
        """Take note of a candidate that cannot be evaluated. Raises the error where there is no doing without it."""
        if piece.which != "search":
            raise error
        log.info("%s failed: %s", piece.candidate.name, error)
        candidate = _failed(_with_lost(piece.candidate, piece.kept), error)
        with self._lock:
            self._tell(piece, candidate)
        self._write(piece, candidate)

    def _write(self, piece: Piece, candidate: Candidate) -> None:
        """Write down how a candidate has ended; until then a kill lets it be asked again, for what is not on disk."""
        write_candidate(candidate)
        if candidate.state == "complete" or piece.which != "search":
            self._evaluating.forget(candidate, piece.which)
        with self._lock:
            self._board.replace(candidate)
            for trial in (piece.trial, *piece.same):
                if trial is not None:
                    self._trials.keep(trial)
            in_order = self._board.in_order
        if piece.which == "search":
            write_candidates(self._plan, in_order, self._compared)
        with self._lock:
            self._unwritten -= 1


def _with_lost(candidate: Candidate, seconds: float) -> Candidate:
    return replace(candidate, seconds={**candidate.seconds, "lost": candidate.seconds.get("lost", 0.0) + seconds})


def _failed(candidate: Candidate, error: DellaBenchError) -> Candidate:
    told = f" (log: {error.log})" if isinstance(error, WorkerLostError) and error.log else ""
    return replace(candidate, state="failed", reason=" ".join(str(error).split()) + told)

"""Asking candidates block by block: every answer on disk as it comes, the whole as a run's files.

Whoever asks, this process or a worker, is called in the thread of the caller. What may ask a judge or run programs is
done by the `Main`, one at a time: there money is counted, and from there Ctrl-C ends it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

from della_bench.merge.fingerprint import Inputs
from della_bench.run.folder import RunFolder
from della_bench.run.options import Options
from della_bench.search.answering import Answers, Places
from della_bench.search.candidate import SECONDS, BlockLog, Candidate, State
from della_bench.search.items import ItemSet
from della_bench.search.plan import Plan
from della_bench.search.race import looks
from della_bench.search.run_files import RunFiles
from della_bench.search.scoring import Number
from della_bench.spec import MergeSpec
from della_bench.workers.worker import HostRefusedError

__all__ = ["UNRACED_BLOCK", "Answered", "Ask", "Evaluating", "Look", "Main", "looks_of"]

R = TypeVar("R")

UNRACED_BLOCK = 50  # items of a benchmark between two rows on disk, where nobody looks
Values = Mapping[str, Sequence[float]]
Look = Callable[[int, Values], bool]
"""(which look it is, the values so far) -> whether the candidate is stopped."""
Ask = Callable[[MergeSpec, Places, Inputs], Answers]
"""Asks the merge of a spec, of these input files, documents."""


class Main(Protocol):
    """What does things one at a time, whichever thread wants them done; `size` is how many ask beside each other."""

    @property
    def size(self) -> int: ...  # noqa: D102

    def in_turn(self, act: Callable[[], R]) -> R:
        """Do something, and return what it returns or raise what it raises."""

    def in_main(self, call: Callable[[], None]) -> None:
        """Do something, now or later."""


@dataclass(frozen=True)
class Answered:
    """A candidate with its values on a set, "complete" or "stopped", and what it was answered."""

    candidate: Candidate
    run: RunFolder
    rows: Sequence[Mapping[str, Any]]


def looks_of(plan: Plan, which: str) -> list[list[int]]:
    """Return how many items of each benchmark are asked after each block of a set."""
    race = plan.settings.race
    block = race.block if race is not None and which == "search" and not plan.settings.goal.several else UNRACED_BLOCK
    return looks([len(each.items) for each in plan.sets[which]], block)


class Evaluating:
    """Asks candidates the items of a set, and leaves the files of a run."""

    def __init__(self, plan: Plan, options: Options) -> None:
        """options: of the run that the files are those of, with the money that judges may spend."""
        self._plan, self._options = plan, options
        self._files = RunFiles(plan, options)

    def evaluate(
        self,
        candidate: Candidate,
        which: str,
        ask: Ask,
        main: Main,
        look: Look = lambda number, values: False,
        keep: Callable[[float], None] = lambda seconds: None,
    ) -> Answered:
        """Return the candidate with its values on a set; what is on disk is not asked again.

        keep: is told the seconds of each block that is answered, once it is on disk.

        Raises DellaBenchError where it cannot be merged, asked or scored.
        """
        sets, folder = self._plan.sets[which], candidate.folder
        folder.mkdir(parents=True, exist_ok=True)
        run = RunFolder(candidate.spec, folder, self._options)
        log = BlockLog(folder, which, self._answers_digest(which, run.inputs.fingerprint))
        seconds = {**dict.fromkeys(SECONDS, 0.0), **candidate.seconds}
        values: dict[str, list[float]] = {each.benchmark: [] for each in sets}
        all_looks, seen = looks_of(self._plan, which), [0] * len(sets)
        state: State = "complete"
        for number, ends in enumerate(all_looks, start=1):
            if number > len(log.rows):
                blocks = {each.task: each.items[start:end] for each, start, end in zip(sets, seen, ends, strict=True)}
                log.append(_asked(ask, candidate.spec, {task: items for task, items in blocks.items() if items}, run))
                keep(sum(log.rows[-1]["seconds"].values()))
            for name, spent in log.rows[number - 1]["seconds"].items():
                seconds[name] += spent
            started = time.perf_counter()
            for each, end in zip(sets, ends, strict=True):
                found = self._values(run, which, each, log.rows[:number], main)
                values[each.benchmark] = [found[digest] for _, digest in each.items[:end]]
            seconds["score"] += time.perf_counter() - started
            seen = ends
            if look(number, values) and number < len(all_looks):
                state = "stopped"
                break
        fingerprint = run.inputs.fingerprint
        ended = replace(candidate.with_values(which, values, sets), seconds=seconds, fingerprint=fingerprint)
        stopped_at = number if state == "stopped" else candidate.stopped_at
        return Answered(replace(ended, state=state, stopped_at=stopped_at), run, log.rows)

    def put(self, answered: Answered, which: str) -> Candidate:
        """Write what a run leaves where all items were asked; return the candidate with the time that this took."""
        candidate = answered.candidate
        if candidate.state == "stopped":
            return candidate
        started = time.perf_counter()
        self._files.put(answered.run, which, answered.rows)
        score = candidate.seconds["score"] + time.perf_counter() - started
        return replace(candidate, seconds={**candidate.seconds, "score": score})

    def forget(self, candidate: Candidate, which: str) -> None:
        """Delete the blocks of a candidate that has ended completely: the run's files hold the same."""
        BlockLog.path_of(candidate.folder, which).unlink(missing_ok=True)

    def _answers_digest(self, which: str, fingerprint: str) -> str:
        """Return a digest of what the answers to a set's blocks depend on."""
        items = [[each.task, each.items] for each in self._plan.sets[which]]
        more = self._plan.answering
        facts = [fingerprint, items, looks_of(self._plan, which), more.pop("engine"), more.pop("asked", {})]
        facts += [more] if any(more.values()) else []  # which earlier releases did not know of
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def _values(
        self, run: RunFolder, which: str, items: ItemSet, rows: Sequence[Mapping[str, Any]], main: Main
    ) -> Mapping[str, float]:
        number = self._plan.numbers[items.benchmark, which]
        if number.scorer is None:
            return number.of_rows([row for block in rows for row in block["samples"].get(items.task, [])])
        return main.in_turn(lambda: self._judged(run, items, rows, number))

    def _judged(
        self, run: RunFolder, items: ItemSet, rows: Sequence[Mapping[str, Any]], number: Number
    ) -> Mapping[str, float]:
        """Ask a judge about what there is so far; what it was asked before it answers from its cache, for nothing."""
        scratch = run.folder / ".scoring"
        shutil.rmtree(scratch, ignore_errors=True)
        evaluated = self._files.put_one(run, items, rows, scratch)
        try:
            return number.of_scores(evaluated, scratch, self._files.options_of(items))
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def _asked(ask: Ask, spec: MergeSpec, items: Mapping[str, Sequence[tuple[int, str]]], run: RunFolder) -> dict[str, Any]:
    """Return the answers to documents, by task, as a row. Raises HostRefusedError where they are about others."""
    answers = ask(spec, {task: tuple(place for place, _ in pairs) for task, pairs in items.items()}, run.inputs)
    for task, pairs in items.items():
        if missing := {digest for _, digest in pairs} - {str(row["doc_hash"]) for row in answers.samples[task]}:
            name = answers.host.get("name")
            raise HostRefusedError(f"{name} is not used: {len(missing)} of its documents of {task} differ")
    return {name: getattr(answers, name) for name in ("header", "samples", "model", "seconds", "host")}

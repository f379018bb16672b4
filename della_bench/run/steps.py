"""The steps of one spec, evaluating a benchmark and scoring the answers, whoever evaluates; and what failed."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

from della_bench.benchmarks import Benchmark
from della_bench.errors import DataError, DellaBenchError
from della_bench.results.schema import Score
from della_bench.run.evaluated import Evaluated
from della_bench.run.evaluator import Evaluator
from della_bench.run.folder import Asked, RunFolder
from della_bench.run.lines import fault_text, score_text
from della_bench.run.options import Options
from della_bench.run.scorer import Scorer
from della_bench.run.scorers import scorers_of, scorers_of_group
from della_bench.run.tasks import BrokenTasksError, Tasks
from della_bench.run.watching import Ended, Seconds, Step, Watcher
from della_bench.spec import MergeSpec
from della_bench.workers.worker import HostRefusedError, NotOnThisHostError, WorkerLostError

__all__ = ["Steps"]

log = logging.getLogger(__name__)

_NO_FAULT = (BrokenTasksError, WorkerLostError, HostRefusedError, NotOnThisHostError)
"""What is no fault of one step: it would come again with every model, or another worker may do better."""


@dataclass
class _Ending:
    """What a step finds out about its own end."""

    known: bool = False
    scores: list[Score] = field(default_factory=list)


class Steps:
    """Does the steps of specs, tells of them, and keeps what failed."""

    def __init__(self, options: Options, tasks: Tasks, watcher: Watcher, tell: Callable[[str], None]) -> None:
        self._options, self._tasks, self._watcher, self._tell = options, tasks, watcher, tell
        self._faults: dict[tuple[str, str], list[str]] = {}  # (benchmark, reason): models
        self._advised: set[tuple[str, str]] = set()  # (benchmark, about what)
        self.seconds: dict[str, Seconds] = {}  # by model, of what was done now
        self._counting = threading.Lock()
        self._logs: dict[tuple[str, str], str] = {}  # where the first worker that failed so has written more

    def asked(self, row: Benchmark) -> Asked:
        """Return a benchmark with how it is asked."""
        return Asked(row, self._tasks.settings(row), self._tasks.digest(row))

    def scorers(self, row: Benchmark) -> Sequence[Scorer]:
        """Return the steps behind an evaluation; none where answers are only to be logged."""
        if self._tasks.settings(row).predict_only:
            return ()
        return scorers_of(row) if self._tasks.leaves(row) == (row.task,) else scorers_of_group()

    def of(self, spec: MergeSpec) -> Iterator[Step]:
        """Yield all steps of a spec, in order."""
        for row in self._tasks.benchmarks:
            yield Step(spec, row, "evaluate")
            for scorer in self.scorers(row):
                yield Step(spec, row, scorer.step)

    def say(self, line: str) -> None:
        """Tell people a line."""
        self._tell(line)
        self._watcher.said(line)

    def say_end(self, spec: MergeSpec, parts: Sequence[str]) -> None:
        """Tell people what came out of a spec."""
        self.say(f"{spec.display_name}: {'  '.join(parts) or 'nothing scored'}")

    def forget_faults(self) -> None:
        """Begin anew."""
        self._faults, self._logs = {}, {}

    def fault(self, row: str, spec: MergeSpec, error: DellaBenchError) -> None:
        """Note what failed; what fails for the same reason with several models is told once."""
        self._faults.setdefault((row, str(error)), []).append(spec.display_name)
        if isinstance(error, WorkerLostError) and error.log:
            self._logs.setdefault((row, str(error)), f" (log: {error.log})")

    def failed(self, spec: MergeSpec, error: DellaBenchError, rows: Collection[Benchmark] | None = None) -> None:
        """Take note that a spec could not be run at all, or no further than to these benchmarks."""
        rows = self._tasks.benchmarks if rows is None else rows
        self.fault("", spec, error)
        for step in self.of(spec):
            if step.benchmark in rows:
                self._watcher.ended(step, Ended("failed", reason=str(error)))

    def faults(self) -> list[str]:
        """Return what failed, a text for each benchmark and reason."""
        return [
            fault_text(row, reason + self._logs.get((row, reason), ""), names)
            for (row, reason), names in self._faults.items()
        ]

    def answered(self, run: RunFolder, row: Benchmark, evaluator: Evaluator) -> Evaluated | None:
        """Return the evaluation of a benchmark, made now where it is not there; None where it failed.

        Raises BrokenTasksError, and what another worker is to be tried after.
        """
        step = Step(run.spec, row, "evaluate")
        try:
            with self._watched(step) as ended:
                evaluated = None if self._options.force else run.evaluated(self.asked(row))
                ended.known = evaluated is not None
                if evaluated is None:
                    evaluated = self._evaluate(run, row, evaluator)
        except _NO_FAULT:
            raise
        except DellaBenchError as error:
            self.fault(row.name, run.spec, error)
            for scorer in self.scorers(row):
                self._watcher.ended(Step(run.spec, row, scorer.step), Ended("failed", reason="not evaluated"))
            return None
        return evaluated

    def scored(self, run: RunFolder, row: Benchmark, evaluated: Evaluated | None) -> list[str]:
        """Score an evaluation as far as that is not done; returns its scores in words, and what failed."""
        if evaluated is None:
            return [f"{row.name} failed"]
        parts: list[str] = []
        for scorer in self.scorers(row):
            try:
                with self._watched(Step(run.spec, row, scorer.step)) as ended:
                    ended.scores = self._score(run, row, scorer, evaluated, ended)
                parts += map(score_text, ended.scores)
            except DellaBenchError as error:
                self.fault(row.name, run.spec, error)
                parts.append(f"{row.name} ({scorer.judge(self._options) if scorer.judge else scorer.step}) unscored")
        return parts

    def _score(
        self, run: RunFolder, row: Benchmark, scorer: Scorer, evaluated: Evaluated, ended: _Ending
    ) -> list[Score]:
        """Return the scores of a step, made now where they are not there. Raises DataError where one has no value."""
        scores = None if self._options.force else run.scored(self.asked(row), scorer, evaluated)
        ended.known = scores is not None
        if scores is None:
            started = time.monotonic()
            scores = scorer.score(evaluated, run.folder, self._options)
            seconds = time.monotonic() - started
            self._count(run.spec, Seconds(scoring=seconds))
            if all(score["value"] is not None for score in scores):  # else it is asked for again
                run.record_scores(self.asked(row), scorer, evaluated, scores, seconds)
        for score in scores:
            if score["value"] is None:
                kinds = score["detail"].get("unscored_kinds") or score["detail"].get("failures") or {}
                why = ", ".join(f"{number} {kind}" for kind, number in kinds.items())
                name = score["scorer"]["name"]
                raise DataError(f"{name} could score nothing of {score['unscored']}" + (f" ({why})" if why else ""))
        return scores

    @contextmanager
    def _watched(self, step: Step) -> Iterator[_Ending]:
        """Tell of a step that it begins and how it ends."""
        self._watcher.began(step)
        ending, started = _Ending(), time.monotonic()
        try:
            yield ending
        except (WorkerLostError, HostRefusedError, NotOnThisHostError):
            raise  # the step begins anew elsewhere
        except DellaBenchError as error:
            self._watcher.ended(step, Ended("failed", time.monotonic() - started, reason=str(error)))
            raise
        how: Literal["known", "done"] = "known" if ending.known else "done"
        self._watcher.ended(step, Ended(how, time.monotonic() - started, tuple(ending.scores)))

    def _evaluate(self, run: RunFolder, row: Benchmark, evaluator: Evaluator) -> Evaluated:
        asked = self.asked(row)
        started, before = time.time(), time.monotonic()
        if not run.loaded:
            loaded = evaluator.load(run.spec, run.inputs)
            run.record_model(device=loaded.device, dtype=loaded.dtype, host=loaded.host, advice=loaded.advice)
            self._advise("", run.advice)
        merged = time.monotonic()
        record = run.record(asked)
        run.loaded = False  # where it fails, the engine may be another one afterwards
        evaluated = evaluator.evaluate(row, run.spec, run.folder, asked.settings, record, run.inputs.fingerprint)
        run.loaded = True
        self._advise(row.name, {about: text for about, text in evaluated.advice.items() if about not in run.advice})
        spent = Seconds(merged - before, evaluated.answering, time.monotonic() - merged - evaluated.answering)
        self._count(run.spec, spent)
        run.record_evaluation(asked, evaluated, started, spent)
        return evaluated

    def _advise(self, of: str, advice: Mapping[str, str]) -> None:
        """Say each piece of advice once, however many models it is about; that on the batch size is of no benchmark."""
        for about, text in advice.items():
            place = ("" if about == "batch" else of, about)
            if place not in self._advised:
                self._advised.add(place)
                log.warning("%s", text)

    def _count(self, spec: MergeSpec, seconds: Seconds) -> None:
        with self._counting:
            self.seconds[spec.display_name] = self.seconds.get(spec.display_name, Seconds()) + seconds

"""`della-bench run`: every spec through every benchmark, step by step, doing nothing twice."""

from __future__ import annotations

import glob
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

from della_bench.benchmarks import Benchmark
from della_bench.errors import DataError, DellaBenchError
from della_bench.lock import folder_lock
from della_bench.results.schema import Score
from della_bench.run.engine import Engine
from della_bench.run.evaluation import Evaluated, evaluate
from della_bench.run.folder import Asked, RunFolder
from della_bench.run.lines import fault_text, score_text
from della_bench.run.options import Options
from della_bench.run.preflight import check_all, unusable
from della_bench.run.prompts import first_prompt
from della_bench.run.scorers import Scorer, expected_cost, scorers_of, scorers_of_group
from della_bench.run.specs import folder_name
from della_bench.run.tasks import BrokenTasksError, Tasks
from della_bench.run.watching import Ended, Seconds, Step, Watcher
from della_bench.spec import MergeSpec

__all__ = ["Planned", "Runner"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Planned:
    """One step of the plan: `what` is "evaluate" or a scorer's name; `done` where an earlier run has done it.

    `cost` is about what it will cost in US dollars: 0 where nobody is paid, None where that is not known.
    """

    spec: MergeSpec
    folder: Path
    benchmark: Benchmark
    what: str
    done: bool
    cost: Decimal | None = Decimal(0)


@dataclass
class _Ending:
    """What a step finds out about its own end."""

    known: bool = False
    scores: list[Score] = field(default_factory=list)


class Runner:
    """Runs specs, one folder each, with one engine for all.

    `tell` is called with a line for people whenever a model is done; `watcher` is told of every step.
    """

    def __init__(
        self,
        options: Options,
        tell: Callable[[str], None],
        *,
        show_bars: bool = False,
        watcher: Watcher | None = None,
        manager: Any = None,
    ) -> None:
        """`show_bars` lets lm-eval show its progress bars; `manager` is its TaskManager, where the caller has one.

        Raises UsageError where a benchmark does not exist, or runs programs and that is not allowed.
        """
        self._watcher = watcher or Watcher()
        self._tell = tell
        self._tasks = Tasks(
            options.benchmarks,
            include_path=options.include_path,
            unsafe=options.unsafe,
            manager=manager,
            settings=options.settings,
            by_benchmark=options.by_benchmark,
        )
        asked = {row.name: vars(self._tasks.settings(row)) for row in self._tasks.benchmarks}
        self._options = replace(options, watch=self._watcher.working, by_benchmark=asked)
        self._engine = Engine(
            options.engine, options.arguments, show_bars=show_bars, watch=None if watcher is None else watcher.working
        )
        self._faults: dict[tuple[str, str], list[str]] = {}  # (benchmark, reason): models
        self._advised: set[tuple[str, str]] = set()  # (benchmark, about what)
        self.seconds: dict[str, Seconds] = {}  # by model, of what was done now

    def plan(self, specs: Sequence[MergeSpec]) -> Iterator[Planned]:
        """Yield every step in the order of the run; opens the sources, but loads no model and writes nothing."""
        for spec in specs:
            folder = self._options.out / folder_name(spec)
            run = RunFolder(spec, folder, self._options) if any(folder.glob("results_*.json")) else None
            for row in self._tasks.benchmarks:
                asked = self._asked(row)
                evaluated = run.evaluated(asked) if run else None
                yield Planned(spec, folder, row, "evaluate", evaluated is not None)
                for scorer in self._scorers(row):
                    done = bool(run and evaluated and run.scored(asked, scorer, evaluated))
                    cost = Decimal(0) if done else expected_cost(row, scorer, evaluated, self._options)
                    yield Planned(spec, folder, row, scorer.step, done, cost)

    def run(self, specs: Sequence[MergeSpec]) -> list[str]:
        """Run all specs; returns a fault for each step that failed, after all the others have been run.

        A score without a value is a step that failed. What can be known before the first merge is looked for before it:
        tasks with their data, the engine and its arguments, judges with their price, key and server, a sandbox; and
        sources, where a spec whose sources are not to be had is told at once, and the others are run. A folder in which
        another process works is left for the end, when its lock is waited for.

        Raises UsageError, SpecError and BrokenTasksError with what no model could be run with.
        """
        self._faults = {}
        specs = list(specs)
        to_evaluate = [spec for spec in specs if self._must_evaluate(spec)]
        if to_evaluate:
            templates = check_all(to_evaluate, self._tasks, self._options)
            for whose, names in templates.items():
                self._tell(f"chat template: {whose}" + (f" ({', '.join(names)})" if len(templates) > 1 else ""))
        for spec, error in unusable(to_evaluate, self._options).items():
            self._tell(f"{spec.display_name}: cannot be run: {error}")
            self._fault("", spec, error)
            specs.remove(spec)
        self._watcher.planned([step for spec in specs for step in self._steps(spec)])
        later = []
        try:
            for spec in specs:
                if not self._run_one(spec, wait=False):
                    later.append(spec)
            for spec in later:
                self._say(f"{spec.display_name}: another process works on it; waiting for it")
                self._run_one(spec, wait=True)
        finally:
            self._engine.close()
        return [fault_text(row, reason, names) for (row, reason), names in self._faults.items()]

    def _scorers(self, row: Benchmark) -> Sequence[Scorer]:
        """Return the steps behind an evaluation; none where answers are only to be logged."""
        if self._tasks.settings(row).predict_only:
            return ()
        return scorers_of(row) if self._tasks.leaves(row) == (row.task,) else scorers_of_group()

    def _asked(self, row: Benchmark) -> Asked:
        return Asked(row, self._tasks.settings(row), self._tasks.digest(row))

    def asked(self) -> list[Asked]:
        """Return the benchmarks in order, each with the settings that it is asked with."""
        return [self._asked(row) for row in self._tasks.benchmarks]

    def first_prompt(self, row: Benchmark, spec: MergeSpec) -> str:
        """Return what a model is asked first. Raises DellaBenchError where there are no data or no chat template."""
        return first_prompt(self._tasks.only(row), self._tasks.settings(row), spec, self._options.arguments)

    def _steps(self, spec: MergeSpec) -> Iterator[Step]:
        for row in self._tasks.benchmarks:
            yield Step(spec, row, "evaluate")
            for scorer in self._scorers(row):
                yield Step(spec, row, scorer.step)

    def _say(self, line: str) -> None:
        self._tell(line)
        self._watcher.said(line)

    def _fault(self, row: str, spec: MergeSpec, error: DellaBenchError) -> None:
        """Note what failed; what fails for the same reason with several models is told once."""
        self._faults.setdefault((row, str(error)), []).append(spec.display_name)

    def _must_evaluate(self, spec: MergeSpec) -> bool:
        """Return whether a look at the file names is enough to see that something has to be evaluated."""
        folder = self._options.out / folder_name(spec)
        return self._options.force or not all(
            any(folder.glob(f"samples_{glob.escape(task)}_*.jsonl"))
            for row in self._tasks.benchmarks
            for task in self._tasks.leaves(row)
        )

    def _run_one(self, spec: MergeSpec, *, wait: bool) -> bool:
        folder = self._options.out / folder_name(spec)
        with folder_lock(folder, wait=wait) as locked:
            if not locked:
                return False
            try:
                run = RunFolder(spec, folder, self._options)
            except DellaBenchError as error:
                self._fault("", spec, error)
                for step in self._steps(spec):
                    self._watcher.ended(step, Ended("failed", reason=str(error)))
                return True
            parts = [part for row in self._tasks.benchmarks for part in self._benchmark(run, row)]
        self._say(f"{spec.display_name}: {'  '.join(parts) or 'nothing scored'}")
        return True

    def _benchmark(self, run: RunFolder, row: Benchmark) -> list[str]:
        """Evaluate and score one benchmark as far as it is not done; returns its scores in words, and what failed."""
        step = Step(run.spec, row, "evaluate")
        try:
            with self._watched(step) as ended:
                evaluated = None if self._options.force else run.evaluated(self._asked(row))
                ended.known = evaluated is not None
                if evaluated is None:
                    evaluated = self._evaluate(run, row)
        except BrokenTasksError:  # it would come again with every model
            raise
        except DellaBenchError as error:
            self._fault(row.name, run.spec, error)
            for scorer in self._scorers(row):
                self._watcher.ended(Step(run.spec, row, scorer.step), Ended("failed", reason="not evaluated"))
            return [f"{row.name} failed"]
        parts: list[str] = []
        for scorer in self._scorers(row):
            try:
                with self._watched(Step(run.spec, row, scorer.step)) as ended:
                    ended.scores = self._score(run, row, scorer, evaluated, ended)
                parts += map(score_text, ended.scores)
            except DellaBenchError as error:
                self._fault(row.name, run.spec, error)
                parts.append(f"{row.name} ({scorer.judge(self._options) if scorer.judge else scorer.step}) unscored")
        return parts

    def _score(
        self, run: RunFolder, row: Benchmark, scorer: Scorer, evaluated: Evaluated, ended: _Ending
    ) -> list[Score]:
        """Return the scores of a step, made now where they are not there. Raises DataError where one has no value."""
        scores = None if self._options.force else run.scored(self._asked(row), scorer, evaluated)
        ended.known = scores is not None
        if scores is None:
            started = time.monotonic()
            scores = scorer.score(evaluated, run.folder, self._options)
            seconds = time.monotonic() - started
            self._count(run.spec, Seconds(scoring=seconds))
            if all(score["value"] is not None for score in scores):  # else it is asked for again
                run.record_scores(self._asked(row), scorer, evaluated, scores, seconds)
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
        except DellaBenchError as error:
            self._watcher.ended(step, Ended("failed", time.monotonic() - started, reason=str(error)))
            raise
        how: Literal["known", "done"] = "known" if ending.known else "done"
        self._watcher.ended(step, Ended(how, time.monotonic() - started, tuple(ending.scores)))

    def _evaluate(self, run: RunFolder, row: Benchmark) -> Evaluated:
        task, asked = self._tasks.task(row), self._asked(row)
        started, before = time.time(), time.monotonic()
        if run.model is None:
            run.record_model(self._engine.load(run.spec))
            self._advise("", run.advice)
        merged, answers = time.monotonic(), self._engine.answers
        answers.reset()
        evaluated = evaluate(
            run.model,
            run.spec,
            task,
            run.folder,
            asked.settings,
            record=run.record(asked),
            manager=self._tasks.manager,
            fingerprint=run.inputs.fingerprint,
            unsafe=self._options.unsafe,
            batch_size=self._options.arguments.get("batch_size"),
            device=self._options.arguments.get("device"),
            answers=answers,
            advice=run.advice,
        )
        self._advise(row.name, {about: text for about, text in evaluated.advice.items() if about not in run.advice})
        spent = Seconds(merged - before, answers.seconds, time.monotonic() - merged - answers.seconds)
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
        self.seconds[spec.display_name] = self.seconds.get(spec.display_name, Seconds()) + seconds

"""`della-bench run`: every spec through every benchmark, step by step, doing nothing twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from della_bench.benchmarks import Benchmark
from della_bench.errors import DellaBenchError
from della_bench.lock import folder_lock
from della_bench.run.evaluator import LocalEvaluator
from della_bench.run.folder import Asked, RunFolder, has_answers, has_scores
from della_bench.run.options import Options
from della_bench.run.preflight import cannot_be_run, check_all, check_scorers, check_settings, unusable
from della_bench.run.prompts import first_prompt
from della_bench.run.scorers import expected_cost
from della_bench.run.specs import folder_name
from della_bench.run.spread import run_spread
from della_bench.run.steps import Steps
from della_bench.run.tasks import Tasks
from della_bench.run.watching import Seconds, Watcher, Watchers
from della_bench.spec import MergeSpec
from della_bench.workers.wanted import Wanted

__all__ = ["Planned", "Runner"]


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


class Runner:
    """Runs specs, one folder each, with one engine for all, or one a worker.

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
        workers: Wanted | None = None,
    ) -> None:
        """`show_bars` lets lm-eval show its progress bars; `manager` is its TaskManager, where the caller has one.

        workers: who evaluates, beside each other; None is this process alone.

        Raises UsageError where a benchmark does not exist, or runs programs and that is not allowed.
        """
        self._watcher = Watchers([watcher] if watcher else [])
        self._tell, self._workers = tell, workers
        self._given = options
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
        self._steps = Steps(self._options, self._tasks, self._watcher, tell)
        self._evaluator = LocalEvaluator(
            options, self._tasks, show_bars=show_bars, watch=None if watcher is None else watcher.working
        )

    @property
    def seconds(self) -> Mapping[str, Seconds]:
        """By model, how long what was done now took."""
        return self._steps.seconds

    def plan(self, specs: Sequence[MergeSpec]) -> Iterator[Planned]:
        """Yield every step in the order of the run; opens the sources, but loads no model and writes nothing."""
        for spec in specs:
            folder = self._options.out / folder_name(spec)
            run = RunFolder(spec, folder, self._options) if any(folder.glob("results_*.json")) else None
            for row in self._tasks.benchmarks:
                asked = self._steps.asked(row)
                evaluated = run.evaluated(asked) if run else None
                yield Planned(spec, folder, row, "evaluate", evaluated is not None)
                for scorer in self._steps.scorers(row):
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
        self._steps.forget_faults()
        specs = list(specs)
        to_evaluate = [spec for spec in specs if self._must_evaluate(spec)]
        if not to_evaluate:
            check_scorers([row for row in self._tasks.benchmarks if self._must_score(specs, row)], self._options)
        else:
            # Of a cluster only the hosts know what devices they have.
            here = self._workers is None or self._workers.address is None
            templates = check_all(to_evaluate, self._tasks, self._options, engine_here=here)
            for note in self.notes():
                self._tell(note)
            for whose, names in templates.items():
                self._tell(f"chat template: {whose}" + (f" ({', '.join(names)})" if len(templates) > 1 else ""))
        cannot = unusable(to_evaluate, self._options)
        if cannot and len(cannot) == len(specs):
            raise cannot_be_run(cannot)
        for spec, error in cannot.items():
            self._tell(f"{spec.display_name}: cannot be run: {error}")
            self._steps.fault("", spec, error)
            specs.remove(spec)
        self._watcher.planned([step for spec in specs for step in self._steps.of(spec)])
        if self._workers is not None and any(map(self._is_undone, specs)):
            run_spread(specs, self._workers, self._given, self._options, self._tasks, self._steps, self._watcher)
        else:
            self._run_alone(specs)
        return self._steps.faults()

    def notes(self) -> list[str]:
        """Return what is asked for and does not count, in a line each."""
        return [
            f"{name} is asked without examples all the same, as its task says; a num_fewshot of its own would count "
            "(--config)"
            for name in self._tasks.without_examples()
        ]

    def _run_alone(self, specs: Sequence[MergeSpec]) -> None:
        later = []
        try:
            for spec in specs:
                if not self._run_one(spec, wait=False):
                    later.append(spec)
            for spec in later:
                self._steps.say(f"{spec.display_name}: another process works on it; waiting for it")
                self._run_one(spec, wait=True)
        finally:
            self._evaluator.close()

    def _is_undone(self, spec: MergeSpec) -> bool:
        """Return whether something of a spec has to be evaluated."""
        if self._must_evaluate(spec):
            return True
        try:
            run = RunFolder(spec, self._options.out / folder_name(spec), self._options)
        except DellaBenchError:  # told when its turn comes
            return False
        return any(run.evaluated(self._steps.asked(row)) is None for row in self._tasks.benchmarks)

    def asked(self) -> list[Asked]:
        """Return the benchmarks in order, each with the settings that it is asked with."""
        return [self._steps.asked(row) for row in self._tasks.benchmarks]

    def check_settings(self, specs: Sequence[MergeSpec]) -> None:
        """Raise one error with all that is wrong with how the benchmarks are asked of these specs."""
        check_settings(specs, self._tasks, self._options)

    def unusable(self, specs: Sequence[MergeSpec]) -> dict[MergeSpec, DellaBenchError]:
        """Return the specs whose sources are not to be had, or do not fit; no weights are fetched from the hub."""
        return unusable(specs, self._options, download=False)

    def first_prompt(self, row: Benchmark, spec: MergeSpec) -> str:
        """Return what a model is asked first. Raises DellaBenchError where there are no data or no chat template."""
        return first_prompt(self._tasks.only(row), self._tasks.settings(row), spec, self._options.arguments)

    def _must_evaluate(self, spec: MergeSpec) -> bool:
        """Return whether a look at the results is enough to see that something has to be evaluated."""
        folder = self._options.out / folder_name(spec)
        return self._options.force or not all(has_answers(folder, self._options, asked) for asked in self.asked())

    def _must_score(self, specs: Sequence[MergeSpec], row: Benchmark) -> bool:
        """Return whether a look at the scores is enough to see that a benchmark of some spec has to be scored."""
        folders = [self._options.out / folder_name(spec) for spec in specs]
        scorers = self._steps.scorers(row)
        return not all(has_scores(folder, self._options, scorer) for folder in folders for scorer in scorers)

    def _run_one(self, spec: MergeSpec, *, wait: bool) -> bool:
        folder = self._options.out / folder_name(spec)
        with folder_lock(folder, wait=wait) as locked:
            if not locked:
                return False
            try:
                run = RunFolder(spec, folder, self._options)
            except DellaBenchError as error:
                self._steps.failed(spec, error)
                return True
            parts: list[str] = []
            for row in self._tasks.benchmarks:
                parts += self._steps.scored(run, row, self._steps.answered(run, row, self._evaluator))
        self._steps.say_end(spec, parts)
        return True

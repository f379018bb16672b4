"""`della-bench run`: every spec through every benchmark, step by step, doing nothing twice."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from della_bench.benchmarks import Benchmark
from della_bench.errors import DellaBenchError
from della_bench.lock import folder_lock
from della_bench.results.schema import Score
from della_bench.run.engine import Engine
from della_bench.run.evaluation import Evaluated, evaluate
from della_bench.run.folder import RunFolder
from della_bench.run.options import Options
from della_bench.run.scorers import expected_cost, scorers_of
from della_bench.run.specs import folder_name
from della_bench.run.tasks import BrokenTasksError, Tasks
from della_bench.spec import MergeSpec

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
    """Runs specs, one folder each, with one engine for all.

    `tell` is called with a line for people whenever a model is done; `show_bars` lets lm-eval show its progress bars.
    """

    def __init__(
        self, options: Options, tell: Callable[[str], None], *, show_bars: bool = False, manager: Any = None
    ) -> None:
        """`manager` is lm-eval's TaskManager, where the caller has one already.

        Raises UsageError where a benchmark does not exist, or runs programs and that is not allowed.
        """
        self._options, self._tell = options, tell
        self._tasks = Tasks(
            options.benchmarks, include_path=options.include_path, unsafe=options.unsafe, manager=manager
        )
        self._engine = Engine(options.engine, options.arguments, show_bars=show_bars)

    def plan(self, specs: Sequence[MergeSpec]) -> Iterator[Planned]:
        """Yield every step in the order of the run; opens the sources, but loads no model and writes nothing."""
        for spec in specs:
            folder = self._options.out / folder_name(spec)
            run = RunFolder(spec, folder, self._options) if any(folder.glob("results_*.json")) else None
            for row in self._tasks.benchmarks:
                evaluated = run.evaluated(row, self._tasks.digest(row)) if run else None
                yield Planned(spec, folder, row, "evaluate", evaluated is not None)
                for scorer in scorers_of(row):
                    done = bool(run and evaluated and run.scored(row, scorer, evaluated))
                    cost = Decimal(0) if done else expected_cost(row, scorer, evaluated, self._options)
                    yield Planned(spec, folder, row, scorer.step, done, cost)

    def run(self, specs: Sequence[MergeSpec]) -> list[str]:
        """Run all specs; returns a fault for each step that failed, after all the others have been run.

        Tasks are built, with their data, before the first model is loaded. A folder in which another process works is
        left for the end, when its lock is waited for.

        Raises BrokenTasksError with the faults of all tasks that cannot be built.
        """
        if any(self._must_evaluate(spec) for spec in specs):
            self._tasks.build()  # now, while nothing is written; else when a step turns out to be undone
        faults: list[str] = []
        later = []
        try:
            for spec in specs:
                if not self._run_one(spec, faults, wait=False):
                    later.append(spec)
            for spec in later:
                self._tell(f"{spec.display_name}: another process works on it; waiting for it")
                self._run_one(spec, faults, wait=True)
        finally:
            self._engine.close()
        return faults

    def _must_evaluate(self, spec: MergeSpec) -> bool:
        """Return whether a look at the file names is enough to see that something has to be evaluated."""
        folder = self._options.out / folder_name(spec)
        return self._options.force or not all(
            any(folder.glob(f"samples_{row.task}_*.jsonl")) for row in self._tasks.benchmarks
        )

    def _run_one(self, spec: MergeSpec, faults: list[str], *, wait: bool) -> bool:
        folder = self._options.out / folder_name(spec)
        with folder_lock(folder, wait=wait) as locked:
            if not locked:
                return False
            try:
                run = RunFolder(spec, folder, self._options)
            except DellaBenchError as error:
                faults.append(f"{spec.display_name}: {error}")
                return True
            scores: list[Score] = []
            for row in self._tasks.benchmarks:
                try:
                    scores += self._benchmark(run, row)
                except BrokenTasksError:  # it would come again with every model
                    raise
                except DellaBenchError as error:
                    faults.append(f"{spec.display_name}, {row.name}: {error}")
        self._tell(f"{spec.display_name}: {'  '.join(map(_score_text, scores)) or 'nothing scored'}")
        return True

    def _benchmark(self, run: RunFolder, row: Benchmark) -> list[Score]:
        """Evaluate and score one benchmark as far as it is not done; returns its scores."""
        force = self._options.force
        evaluated = None if force else run.evaluated(row, self._tasks.digest(row))
        if evaluated is None:
            evaluated = self._evaluate(run, row)
        scores = []
        for scorer in scorers_of(row):
            known = None if force else run.scored(row, scorer, evaluated)
            if known is None:
                known = scorer.score(evaluated, run.folder, self._options)
                run.record_scores(row, scorer, evaluated, known)
            scores += known
        return scores

    def _evaluate(self, run: RunFolder, row: Benchmark) -> Evaluated:
        task = self._tasks.task(row)
        started = time.time()
        if run.model is None:
            run.record_model(self._engine.load(run.spec))
        evaluated = evaluate(
            run.model,
            run.spec,
            task,
            run.folder,
            run.settings(self._tasks.digest(row)),
            manager=self._tasks.manager,
            limit=self._options.limit,
            fingerprint=run.inputs.fingerprint,
            unsafe=self._options.unsafe,
        )
        run.record_evaluation(row, evaluated, started)
        return evaluated


def _score_text(score: Score) -> str:
    """Return a score in a line: benchmark, scorer, percent and interval, and what is unscored."""
    who = f"{score['benchmark']} ({score['scorer']['name']})"
    if score["value"] is None:
        return f"{who} nothing scored"
    interval = score["interval"]
    ends = "" if interval is None else f" [{interval[0]:.1f}, {interval[1]:.1f}]"
    unscored = f", {score['unscored']} unscored" if score["unscored"] else ""
    return f"{who} {score['value']:.1f}{ends}{unscored}"

"""`della-bench run`: every spec through every benchmark, step by step, doing nothing twice."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Any

from della_bench.errors import DataError, DellaBenchError
from della_bench.lock import folder_lock
from della_bench.results.schema import Score
from della_bench.run.benchmarks import Benchmark, benchmark, score
from della_bench.run.costs import expected_cost
from della_bench.run.engine import Engine
from della_bench.run.evaluation import Evaluated, evaluate
from della_bench.run.specs import folder_name
from della_bench.run.work import Options, Work
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

    `tell` is called with a line for people whenever a model is done; `watched` lets lm-eval show its progress bars.
    """

    def __init__(
        self, options: Options, tell: Callable[[str], None], *, watched: bool = False, manager: Any = None
    ) -> None:
        """`manager` is lm-eval's TaskManager, where the caller has one already.

        Raises DataError where a benchmark does not exist, or runs programs without leave.
        """
        self._options, self._tell, self._given_manager = options, tell, manager
        self._benchmarks = [
            benchmark(name, lambda: self.manager.all_tasks) for name in dict.fromkeys(options.benchmarks)
        ]
        unsafe = [each.name for each in self._benchmarks if each.unsafe]
        if unsafe and not options.unsafe:
            raise DataError(
                f"--benchmarks {','.join(unsafe)}: runs programs that the model wrote, in a sandbox; "
                "say --confirm-run-unsafe-code if that may be",
                exit_code=2,
            )
        self._engine = Engine(options.engine, options.arguments, watched=watched)

    @cached_property
    def manager(self) -> Any:
        """lm-eval's TaskManager, ours among its tasks; made when it is first needed, for that takes seconds."""
        if self._given_manager is not None:
            return self._given_manager
        from lm_eval.tasks import TaskManager

        from della_bench.plugin import register

        register()
        return TaskManager()

    def plan(self, specs: Sequence[MergeSpec]) -> Iterator[Planned]:
        """Yield every step in the order of the run; opens the sources, but loads no model and writes nothing."""
        for spec in specs:
            folder = self._options.out / folder_name(spec)
            work = Work(spec, folder, self._options) if any(folder.glob("results_*.json")) else None
            for each in self._benchmarks:
                evaluated = work.evaluated(each) if work else None
                yield Planned(spec, folder, each, "evaluate", evaluated is not None)
                for step in each.steps:
                    done = bool(work and evaluated and work.scored(each, step, evaluated))
                    cost = Decimal(0) if done else expected_cost(each.name, step, evaluated, self._options.scoring)
                    yield Planned(spec, folder, each, step.name, done, cost)

    def run(self, specs: Sequence[MergeSpec]) -> list[str]:
        """Run all specs; returns a fault for each step that failed, after all the others have been run.

        A folder in which another process works is left for the end, when its lock is waited for.
        """
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

    def _run_one(self, spec: MergeSpec, faults: list[str], *, wait: bool) -> bool:
        folder = self._options.out / folder_name(spec)
        with folder_lock(folder, wait=wait) as mine:
            if not mine:
                return False
            try:
                work = Work(spec, folder, self._options)
            except DellaBenchError as error:
                faults.append(f"{spec.display_name}: {error}")
                return True
            scores: list[Score] = []
            for each in self._benchmarks:
                try:
                    scores += self._benchmark(work, each)
                except DellaBenchError as error:
                    faults.append(f"{spec.display_name}, {each.name}: {error}")
        self._tell(f"{spec.display_name}: {'  '.join(map(_score_text, scores)) or 'nothing scored'}")
        return True

    def _benchmark(self, work: Work, each: Benchmark) -> list[Score]:
        """Evaluate and score one benchmark as far as it is not done; returns its scores."""
        force = self._options.force
        evaluated = None if force else work.evaluated(each)
        if evaluated is None:
            evaluated = self._evaluate(work, each)
        scores = []
        for step in each.steps:
            known = None if force else work.scored(each, step, evaluated)
            if known is None:
                known = score(step, evaluated, work.folder, self._options.scoring)
                work.note_scores(each, step, evaluated, known)
            scores += known
        return scores

    def _evaluate(self, work: Work, each: Benchmark) -> Evaluated:
        started = time.time()
        if work.model is None:
            work.loaded(self._engine.load(work.spec))
        evaluated = evaluate(
            work.model,
            work.spec,
            each.task,
            work.folder,
            work.settings,
            manager=self.manager,
            limit=self._options.limit,
            fingerprint=work.inputs.fingerprint,
            unsafe=self._options.unsafe,
        )
        work.note_evaluation(each, evaluated, started)
        return evaluated


def _score_text(found: Score) -> str:
    """Return a score in a line: benchmark, scorer, percent and interval, and what is unscored."""
    who = f"{found['benchmark']} ({found['scorer']['name']})"
    if found["value"] is None:
        return f"{who} nothing scored"
    interval = found["interval"]
    ends = "" if interval is None else f" [{interval[0]:.1f}, {interval[1]:.1f}]"
    unscored = f", {found['unscored']} unscored" if found["unscored"] else ""
    return f"{who} {found['value']:.1f}{ends}{unscored}"

"""A run spread over workers: each evaluates the next spec as soon as it is free; everything else stays here.

A worker's thread opens a spec's folder, keeps its lock, and waits for the worker's answers. Scoring, judging and what
is told to people happen in the main thread, one at a time, while workers go on: so money is counted in one place, and
Ctrl-C ends a judge as it does without workers.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial

from della_bench.benchmarks import Benchmark
from della_bench.errors import DellaBenchError
from della_bench.lock import folder_lock
from della_bench.run.evaluated import Evaluated
from della_bench.run.evaluator import RemoteEvaluator, on_host
from della_bench.run.folder import RunFolder
from della_bench.run.hosts import needs_gpu
from della_bench.run.options import Options
from della_bench.run.provenance import package_versions
from della_bench.run.specs import folder_name
from della_bench.run.steps import Steps
from della_bench.run.tasks import Tasks
from della_bench.run.watching import Watcher
from della_bench.spec import MergeSpec
from della_bench.workers.crew import Crew
from della_bench.workers.session import open_ray
from della_bench.workers.wanted import Wanted
from della_bench.workers.worker import Worker, WorkerLostError

__all__ = ["run_spread"]

_LOGS = "workers"  # folder of the workers' output, beside the run folders


class _Spread:
    """One spec under way; it stays open where a worker is lost, and another one goes on with it."""

    def __init__(self, spec: MergeSpec, rows: Sequence[Benchmark]) -> None:
        self.spec = spec
        self.run: RunFolder | None = None
        self.left = list(rows)
        self.parts: list[str] = []
        self.waited = False
        self.open = ExitStack()


def run_spread(
    specs: Sequence[MergeSpec],
    wanted: Wanted,
    given: Options,
    options: Options,
    tasks: Tasks,
    steps: Steps,
    watcher: Watcher,
) -> None:
    """Run specs with workers; what fails is kept by `steps`.

    given: the options as the run was given them, which the workers get. Raises UsageError where Ray or its hosts are
    not to be had, and DellaBenchError where no worker can begin.
    """
    with open_ray(wanted) as ray:
        crew: Crew[_Spread] = Crew(
            ray,
            wanted,
            on_host(given),
            versions=package_versions(options.engine, "ray"),
            logs=options.out / _LOGS,
            needs_gpu=needs_gpu(options),
            tell=steps.say,
        )
        watcher.shared(lambda: crew.idle)
        pieces = [_Spread(spec, tasks.benchmarks) for spec in specs]
        try:
            crew.share(pieces, _Doing(crew, options, steps, watcher), partial(_failed, steps), most=len(pieces))
        finally:
            for piece in pieces:
                piece.open.close()
        for worker in crew.workers:
            if worker.done:
                steps.say(f"{worker.name}: {worker.done} model(s), {worker.idle:.0%} of its time idle")


class _Doing:
    """What a worker's thread does with a spec."""

    def __init__(self, crew: Crew[_Spread], options: Options, steps: Steps, watcher: Watcher) -> None:
        self._crew, self._options, self._steps, self._watcher = crew, options, steps, watcher

    def __call__(self, worker: Worker, piece: _Spread) -> bool:
        """Evaluate what is left of a spec; returns False where another process works in its folder."""
        try:
            if piece.run is None and not self._opened(piece):
                return False
        except DellaBenchError as error:
            self._crew.in_main(partial(_failed, self._steps, piece, error))
            return True
        run = piece.run
        assert run is not None
        run.loaded = False  # by this worker
        label = f"{piece.spec.display_name}: "
        worker.watch = lambda what, done, total: self._watcher.working(label + what, done, total, worker.name)
        for row in tuple(piece.left):
            evaluated = self._steps.answered(run, row, RemoteEvaluator(worker))
            piece.left.remove(row)
            self._crew.in_main(partial(self._score, piece, run, row, evaluated))
        self._watcher.working("", 0, 0, worker.name)
        self._crew.in_main(partial(self._end, piece))
        return True

    def _opened(self, piece: _Spread) -> bool:
        folder = self._options.out / folder_name(piece.spec)
        if not piece.open.enter_context(folder_lock(folder, wait=False)):
            piece.open.close()
            if not piece.waited:
                piece.waited = True
                line = f"{piece.spec.display_name}: another process works on it; waiting for it"
                self._crew.in_main(partial(self._steps.say, line))
            return False
        piece.run = RunFolder(piece.spec, folder, self._options)
        return True

    def _score(self, piece: _Spread, run: RunFolder, row: Benchmark, evaluated: Evaluated | None) -> None:
        piece.parts += self._steps.scored(run, row, evaluated)

    def _end(self, piece: _Spread) -> None:
        piece.open.close()
        self._steps.say_end(piece.spec, piece.parts)


def _failed(steps: Steps, piece: _Spread, error: DellaBenchError) -> None:
    """Take note of a spec that no worker could evaluate, and of what it has got so far."""
    piece.open.close()
    steps.failed(piece.spec, error, piece.left)
    log = f" (log: {error.log})" if isinstance(error, WorkerLostError) and error.log else ""
    steps.say_end(piece.spec, [*piece.parts, f"failed: {error}{log}"])

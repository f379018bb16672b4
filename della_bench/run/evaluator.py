"""Who evaluates: one live engine, in this process or in a worker's, that takes a spec and is asked benchmarks.

What a run's folder gets is the same in both: a worker makes lm-eval's files in a folder of its own and gives them back,
and this process puts them in place. So workers need no file system in common with it.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

from della_bench.benchmarks import Benchmark
from della_bench.errors import DellaBenchError, MergeError
from della_bench.merge.fingerprint import Inputs
from della_bench.run.advice import advice_on_model
from della_bench.run.engine import Engine, forget_frames
from della_bench.run.evaluated import Evaluated
from della_bench.run.evaluation import evaluate, put_files
from della_bench.run.hosts import Host, options_for_workers
from della_bench.run.options import Options
from della_bench.run.provenance import host_facts
from della_bench.run.settings import EvalSettings
from della_bench.run.tasks import Tasks
from della_bench.spec import MergeSpec
from della_bench.workers.worker import Worker

__all__ = ["Evaluator", "HostEvaluator", "Loaded", "LocalEvaluator", "RemoteEvaluator", "on_host"]

log = logging.getLogger(__name__)

T = TypeVar("T")
Watch = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Loaded:
    """What provenance says of a loaded model beside its spec: device, dtype, the machine that it is on, and advice."""

    device: str
    dtype: str
    host: Mapping[str, Any]
    advice: Mapping[str, str]


class Evaluator(Protocol):
    """One live engine."""

    def load(self, spec: MergeSpec, inputs: Inputs) -> Loaded:
        """Put the merge of `spec` into the engine; `inputs` are its input files as this process knows them."""

    def evaluate(
        self,
        row: Benchmark,
        spec: MergeSpec,
        folder: Path,
        settings: EvalSettings,
        record: Mapping[str, Any],
        fingerprint: str,
    ) -> Evaluated:
        """Evaluate a benchmark on the model that is loaded, and put lm-eval's files into `folder`."""


class LocalEvaluator:
    """The engine of this process."""

    def __init__(self, options: Options, tasks: Tasks, *, show_bars: bool = False, watch: Watch | None = None) -> None:
        self._options, self._tasks = options, tasks
        self._engine = Engine(options.engine, options.arguments, show_bars=show_bars, watch=watch)
        self._model: Any = None
        self._advice: Mapping[str, str] = {}

    def load(self, spec: MergeSpec, inputs: Inputs) -> Loaded:  # noqa: D102
        self._model = self._or_closed("the model could not be loaded", lambda: self._engine.load(spec), MergeError)
        info = self._model.get_model_info()
        device, dtype = str(getattr(self._model, "device", "")), str(info.get("model_dtype", ""))
        self._advice = advice_on_model(self._model.merge, dtype, device)
        return Loaded(device, dtype, host_facts(), self._advice)

    def evaluate(  # noqa: D102
        self,
        row: Benchmark,
        spec: MergeSpec,
        folder: Path,
        settings: EvalSettings,
        record: Mapping[str, Any],
        fingerprint: str,
    ) -> Evaluated:
        self._engine.answers.reset()
        task = self._tasks.task(row)
        return self._or_closed(
            "lm-eval failed",
            lambda: evaluate(
                self._model,
                spec,
                task,
                folder,
                settings,
                record=record,
                manager=self._tasks.manager,
                fingerprint=fingerprint,
                unsafe=self._options.unsafe,
                batch_size=self._options.arguments.get("batch_size"),
                device=self._options.arguments.get("device"),
                answers=self._engine.answers,
                advice=self._advice,
            ),
        )

    def _or_closed(self, what: str, act: Callable[[], T], kind: type[DellaBenchError] = DellaBenchError) -> T:
        """Return what `act` does. Any error that is none of this package becomes one, and the engine is closed.

        It is one model's and not the run's: a memory that is full, an engine's process that is gone, a task's code;
        nobody can name them all.
        """
        try:
            return act()
        except DellaBenchError:
            raise
        except Exception as error:
            log.debug("%s", what, exc_info=True)
            failure = forget_frames(error)
        self.close()  # only now, as whatever handles an error holds what failed
        raise kind(f"{what}: {type(failure).__name__}: {' '.join(str(failure).split())}") from failure

    def close(self) -> None:
        """Give the engine's memory back."""
        self._model = None
        self._engine.close()


def on_host(options: Options) -> Callable[[Watch], HostEvaluator]:
    """Return what makes a `HostEvaluator` in a worker's process, without what is the driver's alone."""
    return partial(HostEvaluator, options_for_workers(options))


class HostEvaluator:
    """The engine of a worker's process; what goes in and out are plain values."""

    def __init__(self, options: Options, watch: Watch) -> None:
        """Raises what is wrong with the tasks on this host."""
        self._host = Host(options)
        self._evaluator = LocalEvaluator(options, self._host.tasks, watch=watch)

    def load(self, spec: MergeSpec, fingerprint: str, files: list[dict[str, Any]]) -> Loaded:
        """Load a spec, whose fingerprint and input files elsewhere are given.

        Raises NotOnThisHostError where a source is not here, HostRefusedError where one differs or the engine cannot be
        had, EngineStartError where no model could be loaded yet, and what the engine raises.
        """
        inputs = self._host.inputs(spec)
        with self._host.loading():
            loaded = self._evaluator.load(spec, inputs)
        self._host.compare(spec, inputs, fingerprint, files)
        return loaded

    def evaluate(
        self, benchmark: str, spec: MergeSpec, settings: EvalSettings, record: Mapping[str, Any], fingerprint: str
    ) -> dict[str, bytes]:
        """Return the files that lm-eval writes, by name. Raises HostRefusedError where the task's own file differs."""
        row = next(row for row in self._host.tasks.benchmarks if row.name == benchmark)
        self._host.compare_task(row, record.get("task"))
        with tempfile.TemporaryDirectory(prefix="della-bench-") as folder:
            self._evaluator.evaluate(row, spec, Path(folder), settings, record, fingerprint)
            return {path.name: path.read_bytes() for path in Path(folder).iterdir() if path.is_file()}


class RemoteEvaluator:
    """The engine of a worker, as this process sees it. Its methods raise what `Worker.call` does, too."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def load(self, spec: MergeSpec, inputs: Inputs) -> Loaded:  # noqa: D102
        loaded: Loaded = self._worker.call("load", spec, inputs.fingerprint, inputs.files)
        return loaded

    def evaluate(  # noqa: D102
        self,
        row: Benchmark,
        spec: MergeSpec,
        folder: Path,
        settings: EvalSettings,
        record: Mapping[str, Any],
        fingerprint: str,
    ) -> Evaluated:
        files = self._worker.call("evaluate", row.name, spec, settings, record, fingerprint)
        return put_files(folder, row.task, files)

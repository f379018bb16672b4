"""Who evaluates: one live engine, in this process or in a worker's, that takes a spec and is asked benchmarks.

What a run's folder gets is the same in both: a worker makes lm-eval's files in a folder of its own and gives them back,
and this process puts them in place. So workers need no file system in common with it.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from della_bench.benchmarks import Benchmark
from della_bench.errors import CheckpointError, DellaBenchError, MergeError
from della_bench.merge.fingerprint import Inputs
from della_bench.merge.stream import Merge
from della_bench.run.advice import advice_on_model
from della_bench.run.engine import Engine
from della_bench.run.evaluation import Evaluated, evaluate, put_files
from della_bench.run.options import Money, Options
from della_bench.run.preflight import check_engine
from della_bench.run.provenance import host_facts
from della_bench.run.settings import EvalSettings
from della_bench.run.tasks import Tasks
from della_bench.spec import MergeSpec
from della_bench.workers.worker import HostRefusedError, NotOnThisHostError, Worker

__all__ = ["EngineStartError", "Evaluator", "HostEvaluator", "Loaded", "LocalEvaluator", "RemoteEvaluator", "on_host"]

log = logging.getLogger(__name__)

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
        with self._whatever_fails("the model could not be loaded", MergeError):
            self._model = self._engine.load(spec)
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
        with self._whatever_fails("lm-eval failed"):
            return evaluate(
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
            )

    @contextmanager
    def _whatever_fails(self, what: str, kind: type[DellaBenchError] = DellaBenchError) -> Iterator[None]:
        """Make an error of this package of any other, which is one model's and not the run's; the engine starts anew.

        A memory that is full, an engine's process that is gone, a task's code: nobody can name them all.
        """
        try:
            yield
        except DellaBenchError:
            raise
        except Exception as error:
            log.debug("%s", what, exc_info=True)
            self.close()
            raise kind(f"{what}: {type(error).__name__}: {' '.join(str(error).split())}") from error

    def close(self) -> None:
        """Give the engine's memory back."""
        self._model = None
        self._engine.close()


class EngineStartError(Exception):
    """The first model of a worker could not be loaded; so the engine may be at fault as well as the spec."""


def on_host(options: Options) -> Callable[[Watch], HostEvaluator]:
    """Return what makes a `HostEvaluator` in a worker's process, without what is the driver's alone."""
    include = None if options.include_path is None else options.include_path.absolute()
    plain = replace(options, include_path=include, money=Money(), watch=_nobody)
    return partial(HostEvaluator, plain)


def _nobody(what: str, done: int, total: int) -> None:
    """Be told of progress, and do nothing."""


class HostEvaluator:
    """The engine of a worker's process; what goes in and out are plain values."""

    def __init__(self, options: Options, watch: Watch) -> None:
        """Raises what is wrong with the engine, its arguments, the device and the tasks on this host."""
        self._options = options
        self._tasks = Tasks(
            options.benchmarks,
            include_path=options.include_path,
            unsafe=options.unsafe,
            settings=options.settings,
            by_benchmark=options.by_benchmark,
        )
        self._evaluator = LocalEvaluator(options, self._tasks, watch=watch)
        self._checked = self._loaded = False
        self._tasks.build()  # with all that has to be imported for it, before the first spec comes

    def load(self, spec: MergeSpec, fingerprint: str, files: list[dict[str, Any]]) -> Loaded:
        """Load a spec, whose fingerprint and input files elsewhere are given.

        Raises NotOnThisHostError where a source is not here, HostRefusedError where one differs, EngineStartError where
        no model could be loaded yet, and what the engine raises.
        """
        if not self._checked:
            try:
                check_engine(spec, self._options)
            except DellaBenchError as error:
                raise HostRefusedError(f"{host_facts()['name']} is not used: {error}") from error
            self._checked = True
        remote = bool(self._options.arguments.get("trust_remote_code"))
        try:
            merge = Merge(spec, trust_remote_code=remote)
        except CheckpointError as error:
            raise NotOnThisHostError(str(error)) from error
        inputs = Inputs(merge)
        try:
            loaded = self._evaluator.load(spec, inputs)
        except MergeError as error:
            if not self._loaded:
                raise EngineStartError(str(error)) from error
            raise
        self._loaded = True
        if inputs.fingerprint != fingerprint:
            here = f"{loaded.host['name']} is not used: its files of {spec.display_name} differ"
            raise HostRefusedError(f"{here}: {_differing(files, inputs.files)}")
        return loaded

    def evaluate(
        self, benchmark: str, spec: MergeSpec, settings: EvalSettings, record: Mapping[str, Any], fingerprint: str
    ) -> dict[str, bytes]:
        """Return the files that lm-eval writes, by name. Raises HostRefusedError where the task's own file differs."""
        row = next(row for row in self._tasks.benchmarks if row.name == benchmark)
        if self._tasks.digest(row) != record.get("task"):
            raise HostRefusedError(f"{host_facts()['name']} is not used: its file of the task {row.task} differs")
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


def _differing(expected: list[dict[str, Any]], found: list[dict[str, Any]]) -> str:
    """Return which input files are not those that are expected."""
    wanted = {(file["role"], file["name"]): file["sha256"] for file in expected}
    there = {(file["role"], file["name"]): file["sha256"] for file in found}
    names = [f"{role} {name}" for (role, name), digest in wanted.items() if there.get((role, name)) != digest]
    names += [f"{role} {name}" for role, name in there if (role, name) not in wanted]
    return ", ".join(names)

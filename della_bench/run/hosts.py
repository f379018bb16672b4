"""What a worker's process holds of a run or a search, and what must be the same on its host as on the driver's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from della_bench.benchmarks import Benchmark
from della_bench.errors import CheckpointError, DellaBenchError, MergeError
from della_bench.merge.fingerprint import Inputs
from della_bench.merge.stream import Merge
from della_bench.run.options import Money, Options
from della_bench.run.preflight import check_engine
from della_bench.run.provenance import host_facts
from della_bench.run.tasks import Tasks
from della_bench.spec import MergeSpec
from della_bench.workers.worker import HostRefusedError, NotOnThisHostError

__all__ = ["EngineStartError", "Host", "needs_gpu", "options_for_workers"]


class EngineStartError(Exception):
    """The first model of a worker could not be loaded; so the engine may be at fault as well as the spec."""


def options_for_workers(options: Options) -> Options:
    """Return the options as workers get them: without what is the driver's alone."""
    include = None if options.include_path is None else options.include_path.absolute()
    return replace(options, include_path=include, money=Money(), watch=_nobody)


def _nobody(what: str, done: int, total: int) -> None:
    """Be told of progress, and do nothing."""


def needs_gpu(options: Options) -> bool | None:
    """Return whether workers need GPUs by what was asked for; None where they take one if there is one."""
    device = str(options.arguments.get("device") or "")
    return device.startswith("cuda") if device else None


class Host:
    """The host of this process, a worker's."""

    def __init__(self, options: Options) -> None:
        """Build the tasks, with all that has to be imported for it. Raises what is wrong with them on this host."""
        self._options = options
        self.tasks = Tasks(
            options.benchmarks,
            include_path=options.include_path,
            unsafe=options.unsafe,
            settings=options.settings,
            by_benchmark=options.by_benchmark,
        )
        self.tasks.build()
        self._checked = self._loaded = False

    def inputs(self, spec: MergeSpec) -> Inputs:
        """Return the input files of a spec as they are here.

        Raises HostRefusedError where the engine cannot be had here, NotOnThisHostError where a source is not here.
        """
        if not self._checked:
            try:
                check_engine(spec, self._options)
            except DellaBenchError as error:
                raise self.refused(str(error)) from error
            self._checked = True
        try:
            return Inputs(Merge(spec, trust_remote_code=bool(self._options.arguments.get("trust_remote_code"))))
        except CheckpointError as error:
            raise NotOnThisHostError(str(error)) from error

    @contextmanager
    def loading(self) -> Iterator[None]:
        """Take note that a model can be loaded here. Raises EngineStartError where the first one cannot."""
        try:
            yield
        except MergeError as error:
            if not self._loaded:
                raise EngineStartError(str(error)) from error
            raise
        self._loaded = True

    def compare(self, spec: MergeSpec, inputs: Inputs, fingerprint: str, files: list[dict[str, Any]]) -> None:
        """Raise HostRefusedError where the input files are not those that are given, with their fingerprint."""
        if inputs.fingerprint != fingerprint:
            names = _differing(files, inputs.files)
            raise self.refused(f"its files of {spec.display_name} differ: {names}")

    def compare_task(self, row: Benchmark, digest: str | None) -> None:
        """Raise HostRefusedError where the file of a task of the user's is another one than where this digest is of."""
        if self.tasks.digest(row) != digest:
            raise self.refused(f"its file of the task {row.task} differs")

    def refused(self, reason: str) -> HostRefusedError:
        """Return the error that this host is not used, and why."""
        return HostRefusedError(f"{host_facts()['name']} is not used: {reason}")


def _differing(expected: list[dict[str, Any]], found: list[dict[str, Any]]) -> str:
    """Return which input files are not those that are expected."""
    wanted = {(file["role"], file["name"]): file["sha256"] for file in expected}
    there: Mapping[tuple[str, str], str] = {(file["role"], file["name"]): file["sha256"] for file in found}
    names = [f"{role} {name}" for (role, name), digest in wanted.items() if there.get((role, name)) != digest]
    names += [f"{role} {name}" for role, name in there if (role, name) not in wanted]
    return ", ".join(names)

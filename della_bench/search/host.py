"""The engine of a worker's process that searches, and the same as this process sees it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from della_bench.merge.fingerprint import Inputs
from della_bench.run.hosts import Host, options_for_workers
from della_bench.run.options import Options
from della_bench.search import answering
from della_bench.search.answering import Answers, Places
from della_bench.search.plan import Plan
from della_bench.spec import MergeSpec
from della_bench.workers.worker import Worker

__all__ = ["SearchHost", "asker", "on_host"]

Watch = Callable[[str, int, int], None]


def on_host(plan: Plan) -> Callable[[Watch], SearchHost]:
    """Return what makes a `SearchHost` in a worker's process."""
    digests = {row.task: plan.tasks.digest(row) for row in plan.rows.values()}
    return partial(SearchHost, options_for_workers(plan.options), digests)


class SearchHost:
    """Asks candidates in a worker's process; what goes in and out are plain values."""

    def __init__(self, options: Options, digests: Mapping[str, str | None], watch: Watch) -> None:
        """digests: of the tasks' own files, by task. Raises HostRefusedError where one differs here."""
        self._host = Host(options)
        for row in self._host.tasks.benchmarks:
            self._host.compare_task(row, digests[row.task])
        self._answerer = answering.Answerer(self._host.tasks, options, watch)
        self._compared: MergeSpec | None = None

    def answer(self, spec: MergeSpec, places: Places, fingerprint: str, files: list[dict[str, Any]]) -> Answers:
        """Ask the merge of a spec, whose fingerprint and input files elsewhere are given, documents.

        Raises NotOnThisHostError where a source is not here, HostRefusedError where one differs or the engine cannot be
        had, EngineStartError where no model could be loaded yet, DellaBenchError where it cannot be merged or asked.
        """
        if spec == self._compared:
            return self._answerer.answer(spec, places)
        inputs = self._host.inputs(spec)
        with self._host.loading():
            answers = self._answerer.answer(spec, places)
        self._host.compare(spec, inputs, fingerprint, files)
        self._compared = spec
        return answers


def asker(worker: Worker) -> Callable[[MergeSpec, Places, Inputs], Answers]:
    """Return what asks through a worker. It raises what `Worker.call` does, too."""

    def ask(spec: MergeSpec, places: Places, inputs: Inputs) -> Answers:
        answers: Answers = worker.call("answer", spec, places, inputs.fingerprint, inputs.files)
        return answers

    return ask

"""A search spread over workers: each asks the next candidate as soon as it is free; everything else stays here.

A worker's thread asks for a candidate, asks it documents block by block, and waits for the worker's answers; whether
the candidate is stopped is decided in between. Judging and files are the main thread's, while workers go on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TypeVar

from della_bench.errors import DellaBenchError
from della_bench.run.hosts import needs_gpu
from della_bench.run.provenance import package_versions
from della_bench.search.definition import keep_definition
from della_bench.search.evaluating import Ask, Main
from della_bench.search.host import asker, on_host
from della_bench.search.plan import Plan
from della_bench.search.watching import SearchWatcher
from della_bench.workers.crew import Crew
from della_bench.workers.session import open_ray
from della_bench.workers.wanted import Wanted
from della_bench.workers.worker import Worker

__all__ = ["spread"]

T = TypeVar("T")
_LOGS = "workers"  # folder of the workers' output, beside the run folders


def spread(
    pieces: Iterator[T | None],
    plan: Plan,
    wanted: Wanted,
    watcher: SearchWatcher,
    do: Callable[[T, Ask, Main, str], None],
    failed: Callable[[T, DellaBenchError], None],
) -> None:
    """Let workers do all pieces of a search.

    pieces, failed: as `Crew.share` takes them. do: is given a piece, what asks its candidate, the main thread, and the
    worker's name. Raises UsageError where Ray or its hosts are not to be had, and DellaBenchError where no worker can
    begin.
    """
    with open_ray(wanted) as ray:
        crew: Crew[T] = Crew(
            ray,
            wanted,
            on_host(plan),
            versions=package_versions(plan.options.engine, "ray"),
            logs=plan.out / _LOGS,
            needs_gpu=needs_gpu(plan.options),
            tell=watcher.said,
        )
        keep_definition(plan)
        watcher.shared(lambda: crew.idle)

        def do_with(worker: Worker, piece: T) -> bool:
            worker.watch = partial(watcher.working, worker=worker.name)
            do(piece, asker(worker), crew, worker.name)
            return True

        crew.share(pieces, do_with, failed)
        for worker in crew.workers:
            if worker.done:
                watcher.said(f"{worker.name}: {worker.done} candidate(s) asked, {worker.idle:.0%} of its time idle")

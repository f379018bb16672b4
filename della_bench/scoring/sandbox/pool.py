"""Programs in parallel."""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from collections.abc import Callable, Sequence

from della_bench.errors import SandboxError
from della_bench.scoring.sandbox.inherited import within
from della_bench.scoring.sandbox.levels import find_level
from della_bench.scoring.sandbox.porter import Porter
from della_bench.scoring.sandbox.slot import Slot
from della_bench.scoring.sandbox.types import Level, LevelName, Limits, Outcome, Program

__all__ = ["run"]


def run(
    programs: Sequence[Program],
    limits: Limits | None = None,
    *,
    workers: int | None = None,
    isolate: bool = False,
    allow_unsafe: bool = False,
    level: Level | None = None,
    in_one_namespace: bool = False,
    progress: Callable[[int, Outcome], None] | None = None,
) -> list[Outcome]:
    """Run `programs` in the sandbox and return their outcomes in the same order.

    workers: how many run at a time; default the cores that this process may use.
    isolate: a fresh sandboxed interpreter for each program; by default each is forked from a pristine warm one.
    allow_unsafe: where no level of isolation holds, run all the same, with limits only (level `none`).
    level: what `find_level` returned; found anew where None.
    in_one_namespace: bigcode-evaluation-harness's semantics: candidate, newline and tests must be one module's source
        together, setup code is left out, and every global name of the candidate is the tests' own, builtins included.
    progress: called in the caller's thread with (index, outcome) as each program ends.
    Ctrl-C (KeyboardInterrupt) ends every program at once and waits for it.
    Raises SandboxError where no level of isolation holds, or where `level` is `none` without `allow_unsafe`.
    """
    chosen = level or find_level(allow_unsafe=allow_unsafe)
    if chosen.name == "none" and not allow_unsafe:
        raise SandboxError("without isolation (level none) programs are run only where that is allowed", exit_code=2)
    if not programs:
        return []
    return run_at(chosen.name, programs, within(limits or Limits()), workers, isolate, in_one_namespace, progress)


def run_at(
    level: LevelName,
    programs: Sequence[Program],
    limits: Limits,
    workers: int | None = None,
    isolate: bool = False,
    in_one_namespace: bool = False,
    progress: Callable[[int, Outcome], None] | None = None,
) -> list[Outcome]:
    """Do what `run` does, at a level that nobody looked into."""
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    for index in range(len(programs)):
        waiting.put(index)
    done: queue.SimpleQueue[tuple[int, Outcome | BaseException]] = queue.SimpleQueue()
    outcomes: dict[int, Outcome] = {}
    count = max(1, min(workers or len(os.sched_getaffinity(0)), len(programs)))
    threads: list[threading.Thread] = []
    try:
        with Porter(level) as porter:
            for _ in range(count):
                slot = Slot(porter, limits, isolate=isolate, in_one_namespace=in_one_namespace)
                threads.append(threading.Thread(target=_work, args=(slot, programs, waiting, done)))
                threads[-1].start()
            try:
                while len(outcomes) < len(programs):
                    index, outcome = done.get()
                    if isinstance(outcome, BaseException):
                        raise outcome
                    outcomes[index] = outcome
                    if progress is not None:
                        progress(index, outcome)
            finally:
                _empty(waiting)
    finally:
        for thread in threads:  # whatever they waited for has ended with the porter
            thread.join()
    return [outcomes[index] for index in range(len(programs))]


def _work(
    slot: Slot,
    programs: Sequence[Program],
    waiting: queue.SimpleQueue[int],
    done: queue.SimpleQueue[tuple[int, Outcome | BaseException]],
) -> None:
    with slot:
        while True:
            try:
                index = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                done.put((index, slot.run(programs[index])))
            except BaseException as error:  # the caller's thread raises it
                done.put((index, error))
                return


def _empty(waiting: queue.SimpleQueue[int]) -> None:
    while not waiting.empty():
        with contextlib.suppress(queue.Empty):  # a thread was quicker
            waiting.get_nowait()

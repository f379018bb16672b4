"""All workers of a piece of work: as many as there is room for, given what is to be done, replaced where they die."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from della_bench.errors import DellaBenchError
from della_bench.workers.hosts import TRIES, Hosts, Make
from della_bench.workers.jobs import Job, Jobs
from della_bench.workers.wanted import Wanted
from della_bench.workers.worker import HostRefusedError, NotOnThisHostError, Stopped, Worker, WorkerLostError

__all__ = ["Crew"]

T = TypeVar("T")
R = TypeVar("R")
_LOOK = 1.0  # seconds between two looks for hosts that have come or gone
_PATIENCE = 600.0  # seconds to wait for a host where none is left


@dataclass(frozen=True)
class _Work(Generic[T]):
    """What `Crew.share` was asked for."""

    jobs: Jobs[T]
    do: Callable[[Worker, T], bool]
    failed: Callable[[T, DellaBenchError], None]
    most: int | None


class Crew(Generic[T]):
    """Does pieces of work with workers of Ray, a thread of this process for each.

    The thread that calls `share` stays free for what only one may do at a time: `in_main` and `in_turn` run there.
    """

    def __init__(
        self,
        ray: Any,
        wanted: Wanted,
        make: Make,
        *,
        versions: Mapping[str, str],
        logs: Path,
        needs_gpu: bool | None = None,
        tell: Callable[[str], None] = lambda line: None,
    ) -> None:
        """make: is sent to each worker, and makes there the object that does the work; it is given what takes progress.

        versions: of Python and packages, that every host must have. logs: the folder of the workers' output, where the
        workers are on this machine; elsewhere it is a folder for temporary files. tell: is told in a line of hosts and
        workers that are lost. Raises UsageError where the hosts have no room for the workers.
        """
        self._wanted, self._tell = wanted, tell
        self._stop = threading.Event()
        self._calls: queue.Queue[Callable[[], None]] = queue.Queue()
        self._hosts = Hosts(
            ray, wanted, make, versions=versions, logs=logs, needs_gpu=needs_gpu, say=self._say, stop=self._stop
        )
        self.workers: list[Worker] = []  # all that ever worked
        self._slots: dict[int, threading.Thread] = {}
        self._losses = 0
        self._reasons: dict[str, str] = {}  # why workers were lost, with the first one's name

    @property
    def size(self) -> int:
        """How many workers are at work, at least 1."""
        return max(1, sum(worker.is_at_work for worker in tuple(self.workers)))

    @property
    def idle(self) -> dict[str, float]:
        """By the name of each worker that is at work the share of its time, 0 to 1, that it had nothing to do in."""
        return {worker.name: worker.idle for worker in tuple(self.workers) if worker.is_at_work}

    def in_main(self, call: Callable[[], None]) -> None:
        """Run something in the thread that called `share`, in the order of the calls."""
        self._calls.put(call)

    def in_turn(self, act: Callable[[], R]) -> R:
        """Run something in the thread that called `share`; return what it returns, or raise what it raises.

        Raises Stopped where the work has been stopped meanwhile.
        """
        future: Future[R] = Future()

        def call() -> None:
            try:
                future.set_result(act())
            except Exception as error:  # it is the caller's; an interrupt is not
                future.set_exception(error)

        self._calls.put(call)
        while not wait([future], timeout=0.2).done:
            if self._stop.is_set():
                raise Stopped
        return future.result()

    def share(
        self,
        items: Iterable[T | None],
        do: Callable[[Worker, T], bool],
        failed: Callable[[T, DellaBenchError], None],
        *,
        most: int | None = None,
    ) -> None:
        """Let workers do all pieces of work, whichever is free; returns when all are done.

        items: asked for the next one when a worker is free, by one thread at a time; None says that what comes next
        depends on what is under way. do: is called in a worker's thread; returns False where the piece must be tried
        later. It is called again with another worker where it raised WorkerLostError (once), HostRefusedError or
        NotOnThisHostError. failed: is called in this thread with what no worker could do. most: workers, where there is
        not more to do. Any other error that `do` or `items` raises ends it all and is raised here, as is the reason
        where no worker can be started.
        """
        work = _Work(Jobs(items), do, failed, most)
        recruiter = threading.Thread(target=self._guarded, args=(self._recruit, work), daemon=True)
        recruiter.start()
        try:
            while not (work.jobs.empty and self._calls.empty()):
                try:
                    call = self._calls.get(timeout=0.1)
                except queue.Empty:
                    continue
                call()
                work.jobs.look_again()  # what the next piece depends on may have happened just now
        finally:
            self._end(recruiter)

    def _end(self, recruiter: threading.Thread) -> None:
        self._stop.set()
        for worker in self.workers:
            worker.end()
        self._hosts.let_all_go()
        for thread in (recruiter, *self._slots.values()):
            thread.join(timeout=30)  # they look at `stop` at least once a second
        for worker in self.workers:
            worker.forget_actor()

    def _guarded(self, act: Callable[..., None], *arguments: Any) -> None:
        """Do something in a thread; what it raises is raised in the main one."""
        try:
            act(*arguments)
        except Stopped:
            return
        except BaseException as error:
            raised = error

            def again() -> None:
                raise raised

            self._calls.put(again)

    def _recruit(self, work: _Work[T]) -> None:
        """Keep as many workers as are wanted and fit, as hosts come and go."""
        number = 0
        last_room = time.monotonic()
        while not self._stop.is_set() and not work.jobs.empty:
            room = self._hosts.room()
            for job in work.jobs.impossible(room) if room else []:
                self._fail(work, job, DellaBenchError("; ".join(dict.fromkeys(job.not_on.values()))))
            if not work.jobs.some_are_particular:
                self._hosts.unpark()  # what comes next may be for anybody
            if room:
                last_room = time.monotonic()
            elif time.monotonic() - last_room > _PATIENCE:
                raise DellaBenchError(f"no host has been left for {_PATIENCE / 60:.0f} minutes")
            self._slots = {each: thread for each, thread in self._slots.items() if thread.is_alive()}
            limits = (sum(room.values()), self._wanted.count, work.most)
            for _ in range(min(limit for limit in limits if limit is not None) - len(self._slots)):
                number += 1
                slot = threading.Thread(target=self._guarded, args=(self._work, number, work), daemon=True)
                self._slots[number] = slot
                slot.start()
            self._stop.wait(_LOOK)

    def _work(self, number: int, work: _Work[T]) -> None:
        """Start a worker, and let it work until there is nothing left that it can do, or it is lost."""
        worker = self._hosts.start(number)
        if worker is None:
            if not self.workers and self._hosts.lost_starts >= 2 * TRIES:
                raise DellaBenchError(f"no worker can be started: {self._hosts.first_reason}")
            return
        self.workers.append(worker)
        while (job := work.jobs.take(worker.node, self._stop)) is not None:
            try:
                if work.do(worker, job.item):
                    worker.done += 1
                    work.jobs.done(job)
                else:
                    work.jobs.put_back(job, later=True)
            except WorkerLostError as error:
                worker.end()
                self._say_lost(worker, error)
                self._hosts.let_go(worker)
                self._note_loss(error)
                job.lost.append(str(error))
                if len(job.lost) < TRIES:
                    work.jobs.put_back(job)
                else:
                    self._fail(work, job, WorkerLostError(job.lost[0], error.log))
                return
            except HostRefusedError as error:
                self._hosts.refuse(worker, str(error))
                work.jobs.put_back(job)
                return
            except NotOnThisHostError as error:
                job.not_on[worker.node] = f"{worker.host}: {error}"
                work.jobs.put_back(job)
        worker.end()
        if not work.jobs.empty:  # what is left is not for this host
            self._hosts.park(worker)

    def _say_lost(self, worker: Worker, error: WorkerLostError) -> None:
        """Say why a worker is lost, but each reason once: where none can start, all have the same one."""
        reason = str(error)
        first = self._reasons.setdefault(reason, worker.name)
        self._say(f"{worker.name} is lost{f': {reason}' if first == worker.name else f', as {first} was'}")

    def _note_loss(self, error: WorkerLostError) -> None:
        """Take note that a worker is lost at its work; where nothing was ever done, that is no fault of the work."""
        self._hosts.note_lost(error)
        self._losses += 1
        if self._losses >= 2 * TRIES and not any(worker.done for worker in self.workers):
            raise DellaBenchError(f"no worker can do anything: {self._hosts.first_reason}")

    def _fail(self, work: _Work[T], job: Job[T], error: DellaBenchError) -> None:
        """Tell in the main thread, and only then count the piece as ended."""

        def tell() -> None:
            work.failed(job.item, error)
            work.jobs.done(job)

        work.jobs.take_out(job)
        self.in_main(tell)

    def _say(self, line: str) -> None:
        self.in_main(lambda: self._tell(line))

"""All workers of a piece of work: started where there is room, given what is to be done, replaced where they die."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from della_bench.errors import DellaBenchError, UsageError
from della_bench.workers import process
from della_bench.workers.jobs import Job, Jobs
from della_bench.workers.wanted import Share, Wanted, check_room, choose_share, room_of
from della_bench.workers.worker import HostRefusedError, NotOnThisHostError, Stopped, Worker, WorkerLostError

__all__ = ["Crew"]

T = TypeVar("T")
_LOOK = 1.0  # seconds between two looks for hosts that have come or gone
_PATIENCE = 600.0  # seconds to wait for a host where none is left
_TRIES = 2  # how often a piece of work is begun with which workers die
_PASSED_ON = ("TQDM_DISABLE", "TOKENIZERS_PARALLELISM", "HF_HUB_OFFLINE", "HF_ENDPOINT")


@dataclass(frozen=True)
class _Work(Generic[T]):
    """What `Crew.share` was asked for."""

    jobs: Jobs[T]
    do: Callable[[Worker, T], bool]
    failed: Callable[[T, DellaBenchError], None]
    most: int | None


class Crew(Generic[T]):
    """Does pieces of work with workers of Ray, a thread of this process for each.

    The thread that calls `share` stays free for what only one may do at a time: `in_main` runs there.
    """

    def __init__(
        self,
        ray: Any,
        wanted: Wanted,
        make: Callable[[Callable[[str, int, int], None]], Any],
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
        from ray import cloudpickle

        cloudpickle.register_pickle_by_value(process)
        self._ray, self._wanted, self._tell = ray, wanted, tell
        self._make = cloudpickle.dumps(make)
        self._versions = dict(versions)
        self._logs = logs.absolute() if wanted.address is None else Path()
        self.share_of_one = self._choose(needs_gpu)
        self.workers: list[Worker] = []  # all that ever worked
        self._stop = threading.Event()
        self._calls: queue.Queue[Callable[[], None]] = queue.Queue()
        self._slots: dict[int, threading.Thread] = {}
        self._held: list[tuple[Any, Any]] = []  # (placement group, actor) of living workers
        self._refused: dict[str, str] = {}  # by node, why
        self._lost_starts: Counter[str] = Counter()
        self._first_reason = ""
        self._losses = 0
        self._lock = threading.Lock()

    def _choose(self, needs_gpu: bool | None) -> Share:
        nodes = self._ray.nodes()
        hosts = [node["Resources"] for node in nodes if node["Alive"]]
        share = choose_share(self._wanted, hosts, needs_gpu=needs_gpu)
        check_room(self._wanted, share, nodes)
        return share

    def in_main(self, call: Callable[[], None]) -> None:
        """Run something in the thread that called `share`, in the order of the calls."""
        self._calls.put(call)

    def share(
        self,
        items: Iterable[T],
        do: Callable[[Worker, T], bool],
        failed: Callable[[T, DellaBenchError], None],
        *,
        most: int | None = None,
    ) -> None:
        """Let workers do all pieces of work, whichever is free; returns when all are done.

        do: is called in a worker's thread; returns False where the piece must be tried later. It is called again with
        another worker where it raised WorkerLostError (once), HostRefusedError or NotOnThisHostError. failed: is called
        in this thread with what no worker could do. most: workers, where there is not more to do. Any other
        error that `do` raises ends it all and is raised here, as is the reason where no worker can be started.
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
        finally:
            self._end(recruiter)

    def _end(self, recruiter: threading.Thread) -> None:
        self._stop.set()
        for worker in self.workers:
            worker.end()
        with self._lock:
            held, self._held = self._held, []
        for group, actor in held:
            self._release(group, actor)
        for thread in (recruiter, *self._slots.values()):
            thread.join(timeout=30)  # they look at `stop` several times a second

    def _release(self, group: Any, actor: Any) -> None:
        from ray.util.placement_group import remove_placement_group

        if actor is not None:
            self._ray.kill(actor, no_restart=True)
        remove_placement_group(group)

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
            room = room_of(self.share_of_one, self._ray.nodes())
            open_to_us = {node: count for node, count in room.items() if node not in self._refused}
            if room and not open_to_us:
                reasons = "\n".join(dict.fromkeys(self._refused.values()))
                raise UsageError(f"no host is left that can be used:\n{reasons}", argument="workers")
            for job in work.jobs.impossible(open_to_us) if open_to_us else []:
                self._fail(work, job, DellaBenchError("; ".join(dict.fromkeys(job.not_on.values()))))
            if open_to_us:
                last_room = time.monotonic()
            elif time.monotonic() - last_room > _PATIENCE:
                raise DellaBenchError(f"no host has been left for {_PATIENCE / 60:.0f} minutes")
            self._slots = {each: thread for each, thread in self._slots.items() if thread.is_alive()}
            limits = (sum(open_to_us.values()), self._wanted.count, work.most)
            for _ in range(min(limit for limit in limits if limit is not None) - len(self._slots)):
                number += 1
                slot = threading.Thread(target=self._guarded, args=(self._work, number, work), daemon=True)
                self._slots[number] = slot
                slot.start()
            self._stop.wait(_LOOK)

    def _work(self, number: int, work: _Work[T]) -> None:
        """Start a worker, and let it work until there is nothing left that it can do, or it is lost."""
        worker, group, actor = self._start(number)
        if worker is None:
            return
        while (job := work.jobs.take(worker.node, self._stop)) is not None:
            try:
                if work.do(worker, job.item):
                    worker.done += 1
                    work.jobs.done(job)
                else:
                    work.jobs.put_back(job, later=True)
            except WorkerLostError as error:
                worker.end()
                self._say(f"{worker.name} is lost: {error}")
                self._let_go(group, actor)
                self._lost_work(error)
                job.lost.append(str(error))
                if len(job.lost) < _TRIES:
                    work.jobs.put_back(job)
                else:
                    self._fail(work, job, WorkerLostError(job.lost[0], error.log))
                return
            except HostRefusedError as error:
                self._refuse(worker, str(error), group, actor)
                work.jobs.put_back(job)
                return
            except NotOnThisHostError as error:
                job.not_on[worker.node] = f"{worker.host}: {error}"
                work.jobs.put_back(job)
        worker.end()
        if not work.jobs.empty:  # what is left is not for this host
            self._park(group, actor)

    def _start(self, number: int) -> tuple[Worker | None, Any, Any]:
        """Wait for room, then start a worker; None where its host is refused or it died. Raises what ends all."""
        from ray.util.placement_group import placement_group, placement_group_table
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        group = placement_group([self.share_of_one.bundle], strategy="STRICT_PACK")
        with self._lock:
            self._held.append((group, None))
        # Its own `wait` takes whole seconds alone, and leaves a callback at the cluster's head with every call.
        while placement_group_table(group)["state"] != "CREATED":
            if self._stop.wait(_LOOK / 4):
                raise Stopped
        actor = (
            self._ray.remote(process.Process)
            .options(
                num_cpus=self.share_of_one.cpus,
                num_gpus=self.share_of_one.gpus,
                max_restarts=0,
                scheduling_strategy=PlacementGroupSchedulingStrategy(group),
            )
            .remote(f"worker {number}", str(self._logs / f"worker-{number}.log"), os.getcwd(), _environment())
        )
        with self._lock:
            if (group, None) not in self._held:
                raise Stopped
            self._held.remove((group, None))
            self._held.append((group, actor))
        worker = Worker(number, actor, self._stop)
        try:
            versions = worker.describe([name for name in self._versions if name != "python"])
            if differing := _differences(self._versions, versions):
                self._refuse(worker, f"{worker.host} is not used: it has {differing}", group, actor)
                return None, None, None
            worker.start(self._make)
        except WorkerLostError as error:
            self._let_go(group, actor)
            self._lost_start(worker, error)
            return None, None, None
        except DellaBenchError as error:
            self._refuse(worker, f"{worker.host} is not used: {error}", group, actor)
            return None, None, None
        with self._lock:
            self.workers.append(worker)
        return worker, group, actor

    def _lost_start(self, worker: Worker, error: WorkerLostError) -> None:
        """Take note that a worker could not begin; where none ever could, the first one's reason ends all."""
        self._note(error)
        self._lost_starts[worker.node] += 1
        if not self.workers and self._lost_starts.total() >= 2 * _TRIES:
            raise DellaBenchError(f"no worker can be started: {self._first_reason}")
        if self._lost_starts[worker.node] >= _TRIES:
            with self._lock:
                self._refused[worker.node] = f"{worker.name} cannot be started: {error}"

    def _note(self, error: WorkerLostError) -> None:
        self._first_reason = self._first_reason or (f"{error} (its log: {error.log})" if error.log else str(error))

    def _lost_work(self, error: WorkerLostError) -> None:
        """Take note that a worker is lost at its work; where nothing was ever done, that is no fault of the work."""
        self._note(error)
        self._losses += 1
        if self._losses >= 2 * _TRIES and not any(worker.done for worker in self.workers):
            raise DellaBenchError(f"no worker can do anything: {self._first_reason}")

    def _refuse(self, worker: Worker, reason: str, group: Any, actor: Any) -> None:
        """Use a host no more."""
        worker.end()
        self._park(group, actor)
        with self._lock:
            known = worker.node in self._refused
            self._refused.setdefault(worker.node, reason)
            left = room_of(self.share_of_one, self._ray.nodes()).keys() - self._refused.keys()
        if left and not known:  # else it is the reason for the end
            self._say(reason)

    def _park(self, group: Any, actor: Any) -> None:
        """End a worker and keep its place taken, so that the next one comes to another host."""
        with self._lock:
            if (group, actor) not in self._held:
                return
            self._held.remove((group, actor))
            self._held.append((group, None))
        self._ray.kill(actor, no_restart=True)

    def _let_go(self, group: Any, actor: Any) -> None:
        with self._lock:
            if (group, actor) not in self._held:
                return
            self._held.remove((group, actor))
        self._release(group, actor)

    def _fail(self, work: _Work[T], job: Job[T], error: DellaBenchError) -> None:
        """Tell in the main thread, and only then count the piece as ended."""

        def tell() -> None:
            work.failed(job.item, error)
            work.jobs.done(job)

        work.jobs.take_out(job)
        self.in_main(tell)

    def _say(self, line: str) -> None:
        self.in_main(lambda: self._tell(line))


def _environment() -> dict[str, str]:
    """Return the variables that a host takes over where it has none of its own."""
    return {
        name: value
        for name, value in os.environ.items()
        if name in _PASSED_ON or (name.startswith("DELLA_BENCH_") and name != "DELLA_BENCH_RAY")
    }


def _differences(expected: Mapping[str, str], found: Mapping[str, str]) -> str:
    parts = [f"{name} {found.get(name)} (here {value})" for name, value in expected.items() if found.get(name) != value]
    return ", ".join(parts)

"""The hosts that workers are placed on: what room they have, who is placed there, and which of them are not used."""

from __future__ import annotations

import os
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from della_bench.errors import DellaBenchError, UsageError
from della_bench.workers import process
from della_bench.workers.wanted import Wanted, check_room, choose_share, room_of
from della_bench.workers.worker import Stopped, Worker, WorkerLostError

__all__ = ["TRIES", "Hosts"]

TRIES = 2  # how often something is tried by which workers die
_PAUSE = 0.25  # seconds between two looks whether there is room
_PASSED_ON = ("TQDM_DISABLE", "TOKENIZERS_PARALLELISM", "HF_HUB_OFFLINE", "HF_ENDPOINT")

Make = Callable[[Callable[[str, int, int], None]], Any]
"""Makes, in a worker's process, the object that does the work; it is given what takes progress."""


class Hosts:
    """Places workers by Ray's placement groups; its methods may be called by any thread."""

    def __init__(
        self,
        ray: Any,
        wanted: Wanted,
        make: Make,
        *,
        versions: Mapping[str, str],
        logs: Path,
        needs_gpu: bool | None,
        say: Callable[[str], None],
        stop: threading.Event,
    ) -> None:
        """The arguments are those of a `Crew`. Raises UsageError where there is no room for the workers."""
        from ray import cloudpickle

        cloudpickle.register_pickle_by_value(process)
        self._ray, self._wanted, self._say, self._stop = ray, wanted, say, stop
        self._make = cloudpickle.dumps(make)
        self._versions = dict(versions)
        self._logs = logs.absolute() if wanted.address is None else Path()
        nodes = ray.nodes()
        living = [node["Resources"] for node in nodes if node["Alive"]]
        self.share_of_one = choose_share(wanted, living, needs_gpu=needs_gpu)
        check_room(wanted, self.share_of_one, nodes)
        self._held: dict[int, tuple[Any, Any]] = {}  # by worker's number: placement group, and actor where it lives
        self._parked: dict[int, str] = {}  # by worker's number the host whose place it takes
        self._name = uuid.uuid4().hex  # a cluster may work for several at once
        self._refused: dict[str, str] = {}  # by node, why
        self._lost_starts: Counter[str] = Counter()
        self.first_reason = ""  # why the first worker was lost
        self._lock = threading.Lock()

    def room(self) -> dict[str, int]:
        """Return how many workers each host that is used has room for.

        Raises UsageError where there are hosts, and none of them is used.
        """
        room = room_of(self.share_of_one, self._ray.nodes())
        used = {node: count for node, count in room.items() if node not in self._refused}
        if room and not used:
            reasons = "\n".join(dict.fromkeys(self._refused.values()))
            raise UsageError(f"no host is left that can be used:\n{reasons}", argument="workers")
        return used

    def start(self, number: int) -> Worker | None:
        """Wait for room, then start a worker; None where its host is refused or it died. Raises Stopped."""
        key = f"{self._name} {number}"
        worker = Worker(number, self._place(number, key), self._stop, key)
        try:
            versions = worker.describe([name for name in self._versions if name != "python"])
            if differing := _differences(self._versions, versions):
                self.refuse(worker, f"{worker.host} is not used: it has {differing}")
                return None
            worker.start(self._make)
        except WorkerLostError as error:
            self.let_go(worker)
            self._note_lost_start(worker, error)
            return None
        except DellaBenchError as error:
            self.refuse(worker, f"{worker.host} is not used: {error}")
            return None
        return worker

    def _place(self, number: int, key: str) -> Any:
        """Return an actor on a host that has room for it, which tells of its progress under `key`."""
        from ray.util.placement_group import placement_group, placement_group_table
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        group = placement_group([self.share_of_one.bundle], strategy="STRICT_PACK")
        with self._lock:
            self._held[number] = group, None
        # Its own `wait` takes whole seconds alone, and leaves a callback at the cluster's head with every call.
        while placement_group_table(group)["state"] != "CREATED":
            if self._stop.wait(_PAUSE):
                raise Stopped
        actor = (
            self._ray.remote(process.Process)
            .options(
                num_cpus=self.share_of_one.cpus,
                num_gpus=self.share_of_one.gpus,
                max_restarts=0,
                scheduling_strategy=PlacementGroupSchedulingStrategy(group),
            )
            .remote(key, str(self._logs / f"worker-{number}.log"), os.getcwd(), _environment())
        )
        with self._lock:
            if number not in self._held:  # all have been let go since
                raise Stopped
            self._held[number] = group, actor
        return actor

    def note_lost(self, error: WorkerLostError) -> None:
        """Remember why a worker was lost, where it is the first one."""
        self.first_reason = self.first_reason or (f"{error} (its log: {error.log})" if error.log else str(error))

    def _note_lost_start(self, worker: Worker, error: WorkerLostError) -> None:
        """Take note that a worker could not begin, and use its host no more where it is not the first one there."""
        self.note_lost(error)
        with self._lock:
            self._lost_starts[worker.node] += 1
            if self._lost_starts[worker.node] >= TRIES:
                self._refused.setdefault(worker.node, f"{worker.name} cannot be started: {error}")

    @property
    def lost_starts(self) -> int:
        """How many workers could not begin."""
        return self._lost_starts.total()

    def refuse(self, worker: Worker, reason: str) -> None:
        """Use a worker's host no more."""
        worker.end()
        with self._lock:
            known = worker.node in self._refused
            self._refused.setdefault(worker.node, reason)
        self.park(worker)
        with self._lock:
            left = room_of(self.share_of_one, self._ray.nodes()).keys() - self._refused.keys()
        if left and not known:  # else it is the reason for the end
            self._say(reason)

    def park(self, worker: Worker) -> None:
        """End a worker and keep its place taken, so that the next one comes to another host."""
        with self._lock:
            group, actor = self._held.get(worker.number, (None, None))
            if group is None:
                return
            self._held[worker.number] = group, None
        self._end(None, actor)
        with self._lock:  # only now that its actor has ended may its place be given up, too
            self._parked[worker.number] = worker.node

    def unpark(self) -> None:
        """Let others have the places of workers that were parked, but on hosts that are used no more."""
        with self._lock:
            parked = [number for number, node in self._parked.items() if node not in self._refused]
            groups = [self._held.pop(number, (None, None))[0] for number in parked]
            self._parked = {number: node for number, node in self._parked.items() if number not in parked}
        for group in groups:
            self._end(group, None)

    def let_go(self, worker: Worker) -> None:
        """End a worker, and let others have its place."""
        with self._lock:
            group, actor = self._held.pop(worker.number, (None, None))
        self._end(group, actor)

    def let_all_go(self) -> None:
        """End all workers."""
        with self._lock:
            held, self._held = self._held, {}
        for group, actor in held.values():
            self._end(group, actor)

    def _end(self, group: Any, actor: Any) -> None:
        from ray.util.placement_group import remove_placement_group

        # Ray ends the actor of a group with it. Killed at the same moment by another request, the actor's share of the
        # host was sometimes never given back, and nobody could use it any more.
        if group is not None:
            remove_placement_group(group)
        elif actor is not None:
            self._ray.kill(actor, no_restart=True)


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

"""What a run tells of its steps as they begin and end, for whoever shows it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from della_bench.benchmarks import Benchmark
from della_bench.results.schema import Score
from della_bench.spec import MergeSpec

__all__ = ["Ended", "Seconds", "Step", "Watcher", "Watchers"]


@dataclass(frozen=True)
class Step:
    """One step of a run: `what` is "evaluate" or a scorer's step."""

    spec: MergeSpec
    benchmark: Benchmark
    what: str


@dataclass(frozen=True)
class Seconds:
    """How long a model took, by what was done: merging and loading, answering, and all the rest of its evaluations."""

    merge: float = 0.0
    generation: float = 0.0
    scoring: float = 0.0

    def __add__(self, other: Seconds) -> Seconds:  # noqa: D105
        return Seconds(self.merge + other.merge, self.generation + other.generation, self.scoring + other.scoring)

    def __str__(self) -> str:  # noqa: D105
        return f"merge {self.merge:.1f} s, generation {self.generation:.1f} s, scoring {self.scoring:.1f} s"


@dataclass(frozen=True)
class Ended:
    """How a step ended: known from an earlier run, done now, or failed for a `reason`; `seconds` it took."""

    how: Literal["known", "done", "failed"]
    seconds: float = 0.0
    scores: tuple[Score, ...] = ()
    reason: str = ""


class Watcher:
    """Is told how a run goes on; each method does nothing until a class that shows it overrides it."""

    def planned(self, steps: Sequence[Step]) -> None:
        """All steps, in order, before the first one."""

    def shared(self, idle: Callable[[], Mapping[str, float]]) -> None:
        """Several workers do it; `idle` gives by a worker's name the share of its time that it had nothing to do in."""

    def began(self, step: Step) -> None:
        """A step begins."""

    def ended(self, step: Step, how: Ended) -> None:
        """A step has ended; one that failed leaves out those that need it, which end as failed, too."""

    def working(self, what: str, done: int, total: int, worker: str = "") -> None:
        """Within a step: so much of it is done; `worker` names who does it, where there are several."""

    def said(self, line: str) -> None:
        """A line for people: a model's scores when it is done, or what a run waits for."""


class Watchers(Watcher):
    """Several watchers as one, told one thing at a time whatever thread it comes from."""

    def __init__(self, watchers: Sequence[Watcher]) -> None:
        self._watchers = tuple(watchers)
        self._lock = threading.RLock()

    def planned(self, steps: Sequence[Step]) -> None:  # noqa: D102
        with self._lock:
            for each in self._watchers:
                each.planned(steps)

    def shared(self, idle: Callable[[], Mapping[str, float]]) -> None:  # noqa: D102
        with self._lock:
            for each in self._watchers:
                each.shared(idle)

    def began(self, step: Step) -> None:  # noqa: D102
        with self._lock:
            for each in self._watchers:
                each.began(step)

    def ended(self, step: Step, how: Ended) -> None:  # noqa: D102
        with self._lock:
            for each in self._watchers:
                each.ended(step, how)

    def working(self, what: str, done: int, total: int, worker: str = "") -> None:  # noqa: D102
        with self._lock:
            for each in self._watchers:
                each.working(what, done, total, worker)

    def said(self, line: str) -> None:  # noqa: D102
        with self._lock:
            for each in self._watchers:
                each.said(line)

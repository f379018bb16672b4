"""What is to be done, taken by whichever worker is free."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

__all__ = ["Job", "Jobs"]

T = TypeVar("T")
_PAUSE = 1.0  # seconds until something is tried again that another process is at


@dataclass(eq=False)
class Job(Generic[T]):
    """A piece of work; `lost` says why workers were lost with it, `not_on` by node why that host cannot do it."""

    item: T
    lost: list[str] = field(default_factory=list)
    not_on: dict[str, str] = field(default_factory=dict)
    not_before: float = 0.0


class Jobs(Generic[T]):
    """Pieces of work from an iterable, which is asked for the next one only when a worker is free.

    It may give None: then it is asked again when something has been done.
    """

    def __init__(self, items: Iterable[T | None]) -> None:
        self._items: Iterator[T | None] = iter(items)
        self._more = True
        self._waiting: list[Job[T]] = []
        self._running: set[Job[T]] = set()
        self._change = threading.Condition()

    def take(self, node: str, stop: threading.Event) -> Job[T] | None:
        """Return the next piece for a worker of `node`, waiting while there may be one; None where there is none."""
        with self._change:
            while not stop.is_set():
                now = time.monotonic()
                job = next((each for each in self._waiting if node not in each.not_on and each.not_before <= now), None)
                if job is not None:
                    self._waiting.remove(job)
                elif self._more:
                    job = self._next()
                if job is not None:
                    self._running.add(job)
                    return job
                only_for_others = self._waiting and all(node in each.not_on for each in self._waiting)
                if self._is_empty() or (only_for_others and not self._running):  # what runs may come back
                    return None
                self._change.wait(0.2)
        return None

    def done(self, job: Job[T]) -> None:
        """Take note that a piece has ended, well or badly."""
        with self._change:
            self._running.discard(job)
            self._change.notify_all()

    def look_again(self) -> None:
        """Let those who wait see whether there is a piece now."""
        with self._change:
            self._change.notify_all()

    def put_back(self, job: Job[T], *, later: bool = False) -> None:
        """Let another worker have a piece: next, or a while `later`, behind the others."""
        with self._change:
            self._running.discard(job)
            if later:
                job.not_before = time.monotonic() + _PAUSE
            self._waiting.insert(len(self._waiting) if later else 0, job)
            self._change.notify_all()

    def take_out(self, job: Job[T]) -> None:
        """Let no worker have a waiting piece any more; it has not ended until `done` says so."""
        with self._change:
            if job in self._waiting:
                self._waiting.remove(job)
            self._running.add(job)

    def impossible(self, nodes: Collection[str]) -> list[Job[T]]:
        """Return the waiting pieces that none of these hosts can do."""
        with self._change:
            return [job for job in self._waiting if job.not_on and set(nodes) <= job.not_on.keys()]

    @property
    def some_are_particular(self) -> bool:
        """Whether a piece waits that some host cannot do."""
        with self._change:
            return any(job.not_on for job in self._waiting)

    @property
    def empty(self) -> bool:
        """Whether all pieces have ended."""
        with self._change:
            return self._is_empty()

    def _is_empty(self) -> bool:
        return not (self._more or self._waiting or self._running)

    def _next(self) -> Job[T] | None:
        try:
            item = next(self._items)
        except StopIteration:
            self._more = False
            return None
        return None if item is None else Job(item)

"""A worker as the driver sees it: where it is, what it is asked, how it ended, and how long it had nothing to do."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from della_bench.errors import DellaBenchError
from della_bench.workers.process import PROGRESS

__all__ = ["HostRefusedError", "NotOnThisHostError", "Stopped", "Worker", "WorkerLostError"]

_POLL = 0.3  # seconds between two looks whether an answer is there, while progress is shown


class WorkerLostError(DellaBenchError):
    """A worker has died, or failed in a way after which it cannot be used on; `log` is the file of its output."""

    def __init__(self, message: str, log: str = "") -> None:
        super().__init__(message)
        self.log = log


class HostRefusedError(DellaBenchError):
    """A host must not be used at all: what it has installed, or files that lie there, are not those of the others."""


class NotOnThisHostError(DellaBenchError):
    """A piece of work cannot be done on this host, and may be on another."""


class Stopped(Exception):  # noqa: N818
    """The work has been stopped from outside; nobody is to be told."""


class Worker:
    """A living worker; `number` counts from 1, `node` is Ray's name of its host, `key` that of what it reports."""

    def __init__(self, number: int, actor: Any, stop: threading.Event, key: str = "") -> None:
        self.number, self.host, self.node, self.log, self.pid, self._key = number, "", "", "", 0, key
        self.watch: Callable[[str, int, int], None] = lambda what, done, total: None
        self.done = 0
        self._actor, self._stop = actor, stop
        self._since = time.monotonic()
        self._busy = 0.0
        self._began: float | None = None  # when the call that is under way began
        self._ended: float | None = None

    @property
    def name(self) -> str:
        """What people read."""
        return f"worker {self.number} on {self.host}" if self.host else f"worker {self.number}"

    def describe(self, packages: list[str]) -> dict[str, str]:
        """Wait until the process is there, note where it is, and return its versions. Raises WorkerLostError."""
        about = self._get(self._actor.describe.remote(packages))
        self.host, self.node, self.pid = about["host"], about["node"], about["pid"]
        self.log = f"{self.host}:{about['log']}"
        versions: dict[str, str] = about["versions"]
        return versions

    def start(self, make: bytes) -> None:
        """Let it make the object that does the work. Raises what that raises for people, and WorkerLostError."""
        self._value(self._actor.start.remote(make))
        self._since = time.monotonic()

    def call(self, method: str, *arguments: Any) -> Any:
        """Return what a method of its object returns.

        Raises DellaBenchError as the method did, WorkerLostError where the process has died or the method failed in
        any other way, and Stopped.
        """
        began = self._began = time.monotonic()
        try:
            return self._value(self._actor.call.remote(method, arguments))
        finally:
            self._began = None
            self._busy += time.monotonic() - began

    def end(self) -> None:
        """Count no more time."""
        self._ended = self._ended or time.monotonic()

    @property
    def is_at_work(self) -> bool:
        """Whether it has not ended."""
        return self._ended is None

    @property
    def idle(self) -> float:
        """The share of its time, from 0 to 1, in which it had nothing to do."""
        now = self._ended or time.monotonic()
        began = self._began
        busy = self._busy + (max(0.0, now - began) if began is not None else 0.0)
        return max(0.0, 1 - busy / (now - self._since)) if now > self._since else 0.0

    def forget_actor(self) -> None:
        """Give Ray's handle of the process and its last report away, while the connection is open.

        Ray names actors by their count. A handle that lives on until another Ray is joined counts there as one of that
        Ray's actor with the same name, which ends when it goes.
        """
        if self._actor is None:
            return
        from ray.experimental.internal_kv import _internal_kv_del

        self._actor = None
        with suppress(Exception):  # the cluster is gone, and its reports with it
            _internal_kv_del(self._key.encode(), namespace=PROGRESS)

    def _value(self, reference: Any) -> Any:
        kind, value = self._get(reference)
        if kind == "value":
            return value
        if kind == "error":
            raise value
        raise WorkerLostError(str(value), self.log)

    def _get(self, reference: Any) -> Any:
        import ray
        from ray.exceptions import RayError

        try:
            while not ray.wait([reference], timeout=_POLL)[0]:
                if self._stop.is_set():
                    raise Stopped
                self._show_progress()
            return ray.get(reference)
        except RayError as error:
            if self._stop.is_set():
                raise Stopped from None
            raise WorkerLostError(f"the worker's process has died: {_reason(error)}", self.log) from None

    def _show_progress(self) -> None:
        from ray.experimental.internal_kv import _internal_kv_get

        told = _internal_kv_get(self._key.encode(), namespace=PROGRESS)
        if told:
            numbers, _, what = told.decode().partition(" ")
            done, _, total = numbers.partition("/")
            self.watch(what, int(done), int(total))


def _reason(error: Exception) -> str:
    """Return the last of Ray's sentences, which says why; the first ones name ids."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = [line for line in lines if line.startswith(("The actor is dead", "The actor died", "The node"))]
    chosen = (said or lines or [type(error).__name__])[-1]
    return chosen if len(chosen) <= 300 else f"{chosen[:297]}..."

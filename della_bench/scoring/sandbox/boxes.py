"""Sandboxes with a warm interpreter, which run one program after the other."""

from __future__ import annotations

import contextlib
import select
import socket
from typing import Any

from della_bench.scoring.sandbox.inside import frames
from della_bench.scoring.sandbox.inside.rows import CandidateJob, Report, TestsJob
from della_bench.scoring.sandbox.porter import START_SECONDS, BoxFaultError, Porter, Role

__all__ = ["Box", "readable"]


def readable(connections: list[socket.socket], seconds: float) -> int:
    """Return how many of `connections` have something to read or have ended, after `seconds` at most.

    Not by `select`, which fails in a process with more than a thousand open files.
    """
    poll = select.poll()
    for connection in connections:
        poll.register(connection, select.POLLIN)
    return len(poll.poll(1000 * seconds))


class Box:
    """A sandbox with a warm interpreter in it."""

    def __init__(self, porter: Porter, role: Role, *, fresh: bool = False) -> None:
        """Start it and wait until it is ready. Raises BoxFaultError.

        role: what it can run. fresh: whether it is for one program only.
        """
        self._porter = porter
        self._control, theirs = socket.socketpair()
        self._control.settimeout(START_SECONDS)
        with theirs:
            try:
                self._number = porter.start(theirs)
            except BaseException:
                self._control.close()
                raise
        try:
            for message in porter.messages(role, fresh=fresh):
                frames.send(self._control, message)
            self._receive()
        except (OSError, BoxFaultError) as error:
            reason = porter.complaint() or str(error)
            self.close()
            raise BoxFaultError(f"a sandbox did not start: {reason}") from error

    def begin(self, job: CandidateJob | TestsJob, descriptors: tuple[int, ...]) -> None:
        """Have it start a job. Raises BoxFaultError."""
        try:
            frames.send(self._control, job, descriptors)
        except OSError as error:
            raise BoxFaultError(f"a sandbox is gone ({error.strerror})") from error

    def wait(self, seconds: float) -> None:
        """Return as soon as the job that was begun has ended, at the latest after `seconds`."""
        readable([self._control], seconds)

    def report(self, seconds: float) -> Report:
        """Return the report of the job that was begun, once it ended. Raises BoxFaultError after `seconds`."""
        self._control.settimeout(seconds)
        report = self._receive()
        if "fault" in report:
            raise BoxFaultError(str(report["fault"]))
        return report  # type: ignore[return-value]

    def close(self) -> None:
        """End it with everything in it."""
        self._control.close()
        with contextlib.suppress(BoxFaultError):  # the porter is gone, and so is this
            self._porter.kill(self._number)

    def _receive(self) -> dict[str, Any]:
        try:
            message = frames.receive(self._control)
        except TimeoutError as error:
            raise BoxFaultError("a sandbox said nothing in time") from error
        except (EOFError, OSError, frames.BrokenFrameError) as error:
            raise BoxFaultError("a sandbox ended") from error
        assert isinstance(message, dict)
        return message

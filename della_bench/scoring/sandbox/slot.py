"""One program at a time: a sandbox for the candidate, another for its tests, and the verdict from what both say."""

from __future__ import annotations

import contextlib
import socket
from dataclasses import asdict
from typing import Any

from della_bench.scoring.sandbox.boxes import Box, BoxFaultError, Porter
from della_bench.scoring.sandbox.inside import frames
from della_bench.scoring.sandbox.types import Limits, Outcome, Program

__all__ = ["Slot"]

GRACE = 30.0  # seconds that a sandbox may take beyond the wall time until it counts as broken
LAST_WORDS = 1.0  # seconds from the end of a candidate's connection until its own end is no longer waited for


class Slot:
    """Runs programs one after the other; a context manager. Not for use by two threads at a time."""

    def __init__(self, porter: Porter, limits: Limits, *, isolate: bool, in_one_namespace: bool) -> None:
        """Nothing is started before the first program."""
        self._porter = porter
        self._limits = limits
        self._isolate = isolate
        self._in_one_namespace = in_one_namespace
        self._candidates: Box | None = None
        self._tests: Box | None = None

    def run(self, program: Program) -> Outcome:
        """Return the outcome of `program`; where a sandbox fails, it is run once more, in a fresh one."""
        if not program.code.strip():
            return Outcome("empty", "no code", level=self._porter.level, isolated=self._isolate)
        try:
            return self._run(program, isolated=self._isolate)
        except BoxFaultError:
            self.close()
        try:
            return self._run(program, isolated=True)
        except BoxFaultError as error:
            self.close()
            return Outcome("sandbox", str(error), level=self._porter.level, isolated=True)

    def close(self) -> None:
        """End both sandboxes."""
        for box in (self._candidates, self._tests):
            if box is not None:
                box.close()
        self._candidates = self._tests = None

    def __enter__(self) -> Slot:  # noqa: D105
        return self

    def __exit__(self, *_: object) -> None:  # noqa: D105
        self.close()

    def _run(self, program: Program, *, isolated: bool) -> Outcome:
        if isolated and self._candidates is not None:
            self._candidates.close()
            self._candidates = None
        self._candidates = self._candidates or Box(self._porter, "candidate", fresh=isolated)
        self._tests = self._tests or Box(self._porter, "tests")
        try:
            return self._judge(program, self._candidates, self._tests, isolated=isolated)
        finally:
            if isolated and self._candidates is not None:
                self._candidates.close()
                self._candidates = None

    def _judge(self, program: Program, candidates: Box, tests: Box, *, isolated: bool) -> Outcome:
        limits = {**asdict(self._limits), "wall_seconds": self._limits.wall}
        candidate_job = {"role": "candidate", "code": program.code, "limits": limits}
        tests_job = {
            "role": "tests",
            "code": program.code if self._in_one_namespace else "",
            "setup": program.setup,
            "tests": program.test_source,
            "one_namespace": self._in_one_namespace,
            # It waits for the candidate, whose limit is to be met first.
            "limits": {**limits, "wall_seconds": self._limits.wall + GRACE / 2, "processes": 0},
        }
        with contextlib.ExitStack() as stack:
            channel = _pair(stack)
            leash, tests_leash, verdicts = _pair(stack), _pair(stack), _pair(stack)
            candidates.begin(candidate_job, (channel[0].fileno(), leash[1].fileno()))
            tests.begin(tests_job, (channel[1].fileno(), tests_leash[1].fileno(), verdicts[1].fileno()))
            for pair in (channel, (leash[1],), (tests_leash[1],), (verdicts[1],)):
                for end in pair:
                    end.close()
            said = _verdict(verdicts[0], self._limits.wall + GRACE)
            if said is not None and said["verdict"] == "gone":  # how it ended may come to light a moment later
                candidates.wait(LAST_WORDS)
            leash[0].close()
            report = candidates.report(GRACE)
            tests_leash[0].close()
            tests_report = tests.report(GRACE)
        verdict, explanation = _judged(said, report, tests_report, self._limits)
        return Outcome(
            verdict=verdict,
            explanation=explanation,
            cpu_seconds=report["cpu"],
            wall_seconds=report["wall"],
            output=report["output"],
            level=self._porter.level,
            isolated=isolated,
        )


def _pair(stack: contextlib.ExitStack) -> tuple[socket.socket, socket.socket]:
    one, other = socket.socketpair()
    stack.enter_context(one)
    stack.enter_context(other)
    return one, other


def _verdict(connection: socket.socket, seconds: float) -> dict[str, str] | None:
    """Return what the tests' process says, None where it ended without a word. Raises BoxFaultError after `seconds`."""
    connection.settimeout(seconds)
    try:
        message = frames.receive(connection)
    except TimeoutError as error:
        raise BoxFaultError("the tests said nothing in time") from error
    except (EOFError, OSError, frames.BrokenFrameError):
        return None
    assert isinstance(message, dict)
    return message


def _judged(
    said: dict[str, str] | None, report: dict[str, Any], tests: dict[str, Any], limits: Limits
) -> tuple[Any, str]:
    """Return verdict and explanation; a limit that the candidate met comes before what its tests say."""
    if report["ended"] == "cpu" or report["cpu"] >= limits.cpu_seconds:
        return "timeout", f"more than {limits.cpu_seconds:g} s of CPU time"
    if report["ended"] == "wall":
        return "timeout", f"no end after {limits.wall:g} s"
    if report["ended"] == "disk":
        return "error", f"more than {limits.file_bytes} bytes of files"
    if said is not None and said["verdict"] != "gone":
        return said["verdict"], said["explanation"]
    if tests["ended"] in ("cpu", "wall"):
        return "timeout", f"the tests took more than {limits.cpu_seconds:g} s of CPU time"
    if said is None:
        raise BoxFaultError(f"the tests' process ended by {tests['ended']} {tests['code']}")
    if report["ended"] == "signal" and report["code"] == 9:
        return (
            "memory",
            "the candidate's process was killed (signal 9): the machine is out of memory, or it did so itself",
        )
    how = f"exit code {report['code']}" if report["ended"] == "exit" else f"signal {report['code']}"
    if report["ended"] == "stopped":
        how = "its connection to the tests closed"
    return "error", f"the candidate's process ended before its tests did ({how})"

"""One program at a time: a sandbox for the candidate, another for its tests, and the verdict from what both say."""

from __future__ import annotations

import contextlib
import socket
import time
from dataclasses import asdict, dataclass

from della_bench.scoring.sandbox.boxes import Box, readable
from della_bench.scoring.sandbox.clock import IdleClock, ask_for_sender, sender
from della_bench.scoring.sandbox.inherited import advice
from della_bench.scoring.sandbox.inside import frames
from della_bench.scoring.sandbox.inside.rows import CandidateJob, LimitsRow, Report, Said, TestsJob
from della_bench.scoring.sandbox.porter import BoxFaultError, Porter
from della_bench.scoring.sandbox.types import VERDICTS, Limits, Outcome, Program, Verdict

__all__ = ["CANARY", "Slot"]

GRACE = 30.0  # seconds that a sandbox may take beyond the longest time of a program until it counts as broken
LAST_WORDS = 1.0  # seconds from the end of a candidate's connection until its own end is no longer waited for
LOOK = 0.1  # seconds between two looks at what a program does
CANARY = Program("canary", "def f(x):\n    return [x + 1, {str(x)}]\n", ("assert f(1) == [2, {'1'}]",))


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
        """Return the outcome of `program`.

        Where a sandbox fails, a program that is known to be right is run in the same one. If it passes, `program` is at
        fault. Else `program` is run once more, in a fresh sandbox, where it is at fault again if it fails and a fresh
        sandbox runs the right program. What is left is the sandbox's own fault.
        """
        if not program.code.strip():
            return Outcome("empty", "no code", level=self._porter.level, isolated=self._isolate)
        isolated, fault = self._isolate, ""
        for _ in range(2):
            try:
                return self._run(program, isolated=isolated)
            except BoxFaultError as error:
                fault = str(error)
            if self._canary_passes():
                return self._at_fault(fault, isolated)
            self.close()
            isolated = True
        if self._canary_passes():
            return self._at_fault(fault, isolated)
        self.close()
        return Outcome("sandbox", fault + advice(), level=self._porter.level, isolated=True)

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

    def _canary_passes(self) -> bool:
        try:
            return self._run(CANARY, isolated=False).verdict == "passed"
        except BoxFaultError:
            return False

    def _at_fault(self, fault: str, isolated: bool) -> Outcome:
        text = f"it broke its sandbox, which then ran another program well: {fault}"
        return Outcome("error", text, level=self._porter.level, isolated=isolated)

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
        limits: LimitsRow = {**asdict(self._limits), "wall_seconds": self._limits.wall}  # type: ignore[typeddict-item]
        candidate_job: CandidateJob = {"role": "candidate", "code": program.code, "limits": limits}
        tests_job: TestsJob = {
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
            for end in (leash[0], tests_leash[0]):
                ask_for_sender(end)
            candidates.begin(candidate_job, (channel[0].fileno(), leash[1].fileno()))
            tests.begin(tests_job, (channel[1].fileno(), tests_leash[1].fileno(), verdicts[1].fileno()))
            for pair in (channel, (leash[1],), (tests_leash[1],), (verdicts[1],)):
                for end in pair:
                    end.close()
            slept = not _wait(verdicts[0], [leash[0], tests_leash[0]], self._limits)
            said = None if slept else _said(verdicts[0])
            if said is not None and said["verdict"] == "gone":  # how it ended may come to light a moment later
                candidates.wait(LAST_WORDS)
            leash[0].close()
            report = candidates.report(GRACE)
            tests_leash[0].close()
            tests_report = tests.report(GRACE)
        if slept:
            report["ended"] = "idle"
        judged = _judged(said, report, tests_report, self._limits)
        return Outcome(
            verdict=judged.verdict,
            explanation=judged.explanation,
            own_word=tuple(said["own_word"]) if said and judged.verdict == said["verdict"] else (),
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


def _wait(verdict: socket.socket, leashes: list[socket.socket], limits: Limits) -> bool:
    """Wait until the tests say their verdict or end; return False where program and tests do nothing for too long.

    Raises BoxFaultError where there is no end long after the keeper should have made one.
    """
    until = time.monotonic() + limits.wall + GRACE
    clock: IdleClock | None = None
    while not readable([verdict], LOOK):
        if time.monotonic() > until:
            raise BoxFaultError("the tests said nothing in time")
        if clock is None:
            clock = _clock(leashes)
        elif limits.processes == 0 and clock.idle() > limits.idle:
            return False
    return True


def _clock(leashes: list[socket.socket]) -> IdleClock | None:
    """Return the clock of the processes at the other ends of `leashes`, once each has said a word."""
    if readable(leashes, 0) < len(leashes):
        return None
    numbers = [sender(leash) for leash in leashes]
    return IdleClock([number for number in numbers if number])


def _said(connection: socket.socket) -> Said | None:
    """Return what the tests' process says, None where it ended without a word."""
    connection.settimeout(GRACE)
    try:
        message = frames.receive(connection)
    except (TimeoutError, EOFError, OSError, frames.BrokenFrameError):
        return None
    assert isinstance(message, dict)
    return message  # type: ignore[return-value]


@dataclass(frozen=True)
class _Judged:
    verdict: Verdict
    explanation: str


def _judged(said: Said | None, report: Report, tests: Report, limits: Limits) -> _Judged:
    """Return verdict and explanation; a limit that the candidate met comes before what its tests say.

    Raises BoxFaultError where the tests' process ended before it said a verdict.
    """
    if report["ended"] == "cpu" or report["cpu"] >= limits.cpu_seconds:
        return _Judged("timeout", f"more than {limits.cpu_seconds:g} s of CPU time")
    if report["ended"] in ("idle", "wall"):
        seconds = limits.idle if report["ended"] == "idle" else limits.wall
        return _Judged("timeout", f"no end after {seconds:g} s")
    if report["ended"] == "disk":
        return _Judged("error", f"more than {limits.file_bytes} bytes of files")
    if report["ended"] == "threads":
        return _Judged("error", f"more than {limits.threads} threads")
    if said is not None and said["verdict"] != "gone":
        verdict = next(verdict for verdict in VERDICTS if verdict == said["verdict"])
        words = f"by its own word: {'; '.join(said['own_word'])}" if verdict == "passed" and said["own_word"] else ""
        return _Judged(verdict, said["explanation"] or words)
    if tests["ended"] in ("cpu", "wall"):
        return _Judged("timeout", f"the tests took more than {limits.cpu_seconds:g} s of CPU time")
    if said is None:
        raise BoxFaultError(f"the tests' process ended by {tests['ended']} {tests['code']}")
    if report["ended"] == "signal" and report["code"] == 9:
        return _Judged(
            "memory",
            "the candidate's process was killed (signal 9): the machine is out of memory, or it did so itself",
        )
    how = f"exit code {report['code']}" if report["ended"] == "exit" else f"signal {report['code']}"
    if report["ended"] == "stopped":
        how = "its connection to the tests closed"
    return _Judged("error", f"the candidate's process ended before its tests did ({how})")

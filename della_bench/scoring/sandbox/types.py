"""What goes into the sandbox and what comes out of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

__all__ = ["VERDICTS", "Level", "LevelName", "Limits", "Outcome", "Program", "Verdict"]

Verdict = Literal["passed", "failed", "error", "timeout", "memory", "syntax", "empty", "sandbox"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)

LevelName = Literal["bubblewrap", "namespaces", "landlock", "none"]

MIB = 1 << 20


@dataclass(frozen=True)
class Program:
    """A candidate and the tests that decide about it.

    key: what the caller calls it; it stands in messages only, and need not be unique.
    code: the candidate, which nobody trusts.
    tests: trusted source; several pieces are joined by newlines. It sees the candidate's global names.
    setup: trusted source that runs after the candidate and before the tests, in the tests' namespace.
    """

    key: str
    code: str
    tests: tuple[str, ...] | str
    setup: str = ""

    @property
    def test_source(self) -> str:
        """The tests as one text."""
        return self.tests if isinstance(self.tests, str) else "\n".join(self.tests)


LONGEST = 86_400  # seconds


@dataclass(frozen=True)
class Limits:
    """What one program may use up. A lower hard limit that this process has inherited (ulimit -H) counts instead.

    cpu_seconds: user and system time of the candidate's process and those it waited for.
    wall_seconds: time in which neither it nor its tests compute or wait for a core, so that a busy machine changes no
        verdict: what sleeps or waits for ever is ended after it. Default: as long as the CPU time. Where a program may
        start processes, and where the kernel does not tell who waits for a core, only `wall` ends it.
    memory_bytes: address space of one process.
    file_bytes: size of one file, and of all files together.
    open_files: file descriptors of one process.
    processes: how many processes the candidate may start; 0 also forbids the system calls that do.
    threads: how many threads (and processes) it may have at a time.
    output_bytes: how much of its standard output and error is kept; the rest is read and dropped.
    Raises ValueError where a limit is not positive (processes: is negative), and for more than a day of seconds.
    """

    cpu_seconds: float = 3.0
    wall_seconds: float | None = None
    memory_bytes: int = 1024 * MIB
    file_bytes: int = 16 * MIB
    open_files: int = 64
    processes: int = 0
    threads: int = 64
    output_bytes: int = 4096

    def __post_init__(self) -> None:  # noqa: D105
        for name, value in vars(self).items():
            lowest_allowed = name == "processes" or (name == "wall_seconds" and value is None)
            if not lowest_allowed and not value > 0:
                raise ValueError(f"{name} must be positive, got {value}")
            if name.endswith("_seconds") and value is not None and value > LONGEST:
                raise ValueError(f"{name} must be at most {LONGEST:,}, got {value}")
        if self.processes < 0:
            raise ValueError(f"processes must not be negative, got {self.processes}")

    @property
    def idle(self) -> float:
        """How long a program may do nothing, in seconds."""
        return self.cpu_seconds if self.wall_seconds is None else self.wall_seconds

    @property
    def wall(self) -> float:
        """How long a program may take at all, in seconds, with what it computes and waits for a core."""
        return 10 * max(self.cpu_seconds, self.idle)


@dataclass(frozen=True)
class Outcome:
    """What became of one program.

    verdict:
        passed: every test ran and held.
        failed: an assertion of the tests did not hold; the explanation has its line and text.
        error: the candidate or a test raised something else, or the candidate's process ended.
        timeout, memory: a limit was met.
        syntax: the candidate is no Python.
        empty: the candidate has no statement.
        sandbox: the program could not be run to a verdict through no fault of its own; never a wrong answer.
    explanation: one line for a reader; empty where the program passed and nothing is to be said.
    own_word: what the tests asked an object of the candidate's itself (its attributes, items, text, truth); where it
        passed with such, it did so by its own word.
    cpu_seconds, wall_seconds: what the candidate used.
    output: the beginning of what it printed.
    level: the name of the level of isolation that held it.
    isolated: whether it had a fresh sandboxed interpreter rather than a fork of a warm one.
    """

    verdict: Verdict
    explanation: str = ""
    own_word: tuple[str, ...] = ()
    cpu_seconds: float = 0.0
    wall_seconds: float = 0.0
    output: str = ""
    level: LevelName = "none"
    isolated: bool = False


@dataclass(frozen=True)
class Level:
    """A level of isolation that was seen to work here.

    name: `bubblewrap`, `namespaces`, `landlock` (Landlock, seccomp and rlimits), or `none`.
    refused: (level, why) for each stronger level that was tried and does not work here.
    """

    name: LevelName
    refused: tuple[tuple[LevelName, str], ...] = field(default=())

    def __str__(self) -> str:  # noqa: D105
        return self.name

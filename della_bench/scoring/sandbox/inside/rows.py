"""What host, porter, worker and programs tell each other: one type a message."""

from __future__ import annotations

from typing import Literal, TypedDict

__all__ = [
    "ABILITIES",
    "HOST_NAME",
    "MODULES",
    "CandidateJob",
    "Job",
    "LevelRow",
    "LimitsRow",
    "Report",
    "Said",
    "Setup",
    "TestsJob",
    "Tree",
]

# A module that the candidate imported and its tests use is imported anew here, if it is one of these.
_OF_LANGUAGE = ("sys", "os", "time", "typing", "numbers", "operator", "functools", "itertools", "copy", "random")
_OF_DATA = ("collections", "collections.abc", "array", "bisect", "heapq", "string", "re", "json", "datetime")
_OF_TEXT = ("base64", "calendar", "hashlib", "textwrap")
_OF_NUMBERS = ("math", "cmath", "decimal", "fractions", "statistics")
MODULES = frozenset({*_OF_LANGUAGE, *_OF_DATA, *_OF_TEXT, *_OF_NUMBERS})

# The methods of an object's class by which it can be used in ways that not every object can.
ABILITIES = (
    *("__call__", "__iter__", "__next__", "__reversed__", "__len__"),
    *("__getitem__", "__setitem__", "__delitem__"),
)

HOST_NAME = "sandbox"  # what the machine is called inside of namespaces


class LimitsRow(TypedDict):
    """`Limits` of one program; wall_seconds is the keeper's, which nothing outlives."""

    cpu_seconds: float
    wall_seconds: float
    memory_bytes: int
    file_bytes: int
    open_files: int
    processes: int
    threads: int
    output_bytes: int


class LevelRow(TypedDict):
    """What a worker must know of its level.

    namespaces: whether it has them. readable, devices: paths that Landlock lets a program read, and use. preload:
    modules that programs often import, for their forks to have. folder: where programs without namespaces work.
    """

    name: str
    namespaces: bool
    readable: list[str]
    devices: tuple[str, ...]
    preload: tuple[str, ...]
    folder: str


class Job(TypedDict):
    """One program for a worker to run: what it is, and what it may use up."""

    role: Literal["candidate", "tests"]
    limits: LimitsRow


class CandidateJob(Job):
    """The candidate's source."""

    code: str


class TestsJob(Job):
    """The tests' source; with `one_namespace` also the candidate's, which is only parsed."""

    code: str
    setup: str
    tests: str
    one_namespace: bool


class Report(TypedDict):
    """How a program's process ended.

    ended: exit, signal; or what the keeper ended it for: cpu, wall, disk, threads, stopped. code: exit code or signal.
    """

    ended: str
    code: int
    cpu: float
    wall: float
    output: str


class Said(TypedDict):
    """What the tests' process says. own_word: what it took the candidate's word for."""

    verdict: str
    explanation: str
    own_word: list[str]


class Setup(TypedDict):
    """What a porter is told first.

    files: [source, target] of what a sandbox holds. own_user: whether to become a user that nobody else is, for whom
    the files are gathered where any user reaches them. must_gather: whether it is a fault if they cannot be.
    """

    files: list[tuple[str, str]]
    own_user: bool
    must_gather: bool


class Tree(TypedDict):
    """The file tree of a sandbox: files ([source, target], read-only), folders to cover, links, the working folder."""

    files: list[tuple[str, str]]
    hidden: tuple[str, ...]
    links: tuple[tuple[str, str], ...]
    work: str

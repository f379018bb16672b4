"""What a worker's fork does to become a program: it gives up every privilege, and runs the candidate or the tests."""

from __future__ import annotations

import os
import resource
import signal
import socket

from della_bench.scoring.sandbox.inside import frames, landlock, seccomp, system
from della_bench.scoring.sandbox.inside.rows import CandidateJob, LevelRow, LimitsRow, TestsJob

__all__ = ["be_program"]

CHANNEL = 3  # the one descriptor a program has besides its standard ones
OUT_OF_THE_WAY = 24  # a descriptor above those in use, and below any limit on their number
HELLO = b"!"
# The keeper holds a program to its CPU time; RLIMIT_CPU holds were the keeper held up. The kernel counts it in ticks of
# its clock: who happens to run at a tick pays for a whole one. Among processes that sleep and wake all the time, an
# endless loop was seen to pay 1.34 s for each second that it ran.
TICKS_PER_TRUE = 3


def be_program(
    job: CandidateJob | TestsJob, descriptors: list[int], leash: int, output: int, folder: str, level: LevelRow
) -> None:
    """Give up every privilege and descriptor, and become the candidate or the tests.

    leash: a socket whose other end learns this process's number there from what is written.
    """
    os.setsid()
    system.die_with_parent()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(folder)
    os.write(leash, HELLO)
    nothing = os.open(os.devnull, os.O_RDONLY)
    # Out of the way of the numbers they are to get.
    kept = [nothing, output, *descriptors]
    sources = [os.dup2(number, OUT_OF_THE_WAY + at, inheritable=False) for at, number in enumerate(kept)]
    os.dup2(sources[0], 0)
    os.dup2(sources[1], 1)
    os.dup2(sources[1], 2)
    for at, number in enumerate(sources[2:]):
        os.dup2(number, CHANNEL + at, inheritable=False)
    os.closerange(CHANNEL + len(descriptors), 1 << 16)
    _confine(job["limits"], folder, level)
    connection = socket.socket(fileno=CHANNEL)
    # Imported here: a sandbox for one candidate is told of no module that it does not need.
    if job["role"] == "candidate":
        from della_bench.scoring.sandbox.inside import candidate

        candidate.main(connection, job["code"])
    else:
        from della_bench.scoring.sandbox.inside import checker

        said = checker.check(connection, job)  # type: ignore[arg-type]
        frames.send(socket.socket(fileno=CHANNEL + 1), said)


def _confine(limits: LimitsRow, folder: str, level: LevelRow) -> None:
    bounds = [
        (resource.RLIMIT_CPU, int(limits["cpu_seconds"]) * TICKS_PER_TRUE + 2),
        (resource.RLIMIT_AS, limits["memory_bytes"]),
        (resource.RLIMIT_FSIZE, limits["file_bytes"]),
        (resource.RLIMIT_NOFILE, limits["open_files"]),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
    ]
    tasks = limits["threads"] + limits["processes"]
    if level["namespaces"]:
        bounds.append((resource.RLIMIT_NPROC, tasks))
    elif level["name"] == "landlock":  # the count is over all processes of the user
        bounds.append((resource.RLIMIT_NPROC, tasks + system.tasks_of_user()))
    for which, bound in bounds:
        bound = _bounded(which, bound)
        resource.setrlimit(which, (bound, bound))
    if level["name"] == "landlock":
        system.prctl(system.PR_SET_NO_NEW_PRIVS, 1)
        landlock.restrict(level["readable"], level["devices"], folder)
    system.drop_capabilities()
    if os.uname().machine in seccomp.ARCHITECTURES:
        seccomp.install(namespaces=level["namespaces"], processes=limits["processes"] > 0 and level["namespaces"])


def _bounded(which: int, bound: int) -> int:
    """Return `bound`, or the hard limit that this process inherited where that is lower."""
    hard = resource.getrlimit(which)[1]
    return bound if hard == resource.RLIM_INFINITY else min(bound, hard)

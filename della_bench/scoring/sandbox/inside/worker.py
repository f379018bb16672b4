"""A warm interpreter inside the sandbox: each program is run in a fork of it, behind a keeper that outlives it.

    worker -> (a process that enters a new process namespace) -> keeper, its process 1 -> candidate or tests

The worker only waits, so it stays pristine. The keeper counts CPU and wall time, reads and drops output, and says how
the program ended; when it ends, the kernel kills whatever is left in its process namespace, and the worker has waited
for all of it. The candidate has the keeper's user but cannot harm it: process 1 of a namespace takes no signal from
inside, and its memory is hidden. Without namespaces (Landlock) the filter of system calls stands in for that.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import resource
import select
import signal
import socket
import sys
import time
from typing import Any

from della_bench.scoring.sandbox.inside import frames, landlock, seccomp, system

__all__ = ["serve"]

CHANNEL = 3  # the one descriptor a program has besides its standard ones
WORK = "/work"
LONGEST_NAP = 0.25  # seconds between two looks at the clock of a process
ENOUGH_INODES = 1024


def serve(control: socket.socket, level: dict[str, Any]) -> None:
    """Run one job after the other until `control` ends; each is answered by one report.

    level: name; namespaces (whether it has them); readable (paths that Landlock lets a program read), devices; preload
    (modules that programs often import, for their forks to have).
    """
    for name in level["preload"]:
        importlib.import_module(name)
    system.die_with_parent()
    system.hide_memory()
    frames.send(control, {"ready": True})
    while True:
        try:
            job, descriptors = frames.receive_with_descriptors(control)
        except EOFError:
            return
        frames.send(control, _run(job, descriptors, level, control.fileno()))


def _run(job: dict[str, Any], descriptors: list[int], level: dict[str, Any], control: int) -> dict[str, Any]:
    """Fork, wait, and return the keeper's report; {"fault": ...} where it left none."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        os.close(control)
        _in_child(lambda: _enter(job, descriptors, level, writing))
    os.close(writing)
    for descriptor in descriptors:
        os.close(descriptor)
    with os.fdopen(reading, "rb") as pipe:
        data = pipe.read()
    os.waitpid(child, 0)
    try:
        report = frames.decode(data.decode("ascii"))
    except ValueError:
        return {"fault": "the keeper left no report"}
    assert isinstance(report, dict)
    return report


def _in_child(work: Any) -> None:
    """Do `work` and end this process without running anything of its parent's."""
    try:
        work()
    except BaseException:
        sys.excepthook(*sys.exc_info())
        sys.stderr.flush()
        os._exit(70)
    os._exit(0)


def _enter(job: dict[str, Any], descriptors: list[int], level: dict[str, Any], report: int) -> None:
    """Enter a process namespace where there are such, and be or start the keeper."""
    system.die_with_parent()
    if not level["namespaces"]:
        return _keep(job, descriptors, level, report)
    system.unshare(system.CLONE_NEWPID)
    keeper = os.fork()
    if not keeper:
        _in_child(lambda: _keep(job, descriptors, level, report))
    for descriptor in (*descriptors, report):  # else no other end would see these close
        os.close(descriptor)
    os.waitpid(keeper, 0)
    return None


def _keep(job: dict[str, Any], descriptors: list[int], level: dict[str, Any], report: int) -> None:
    """Start the program, watch it, end everything it left, and write the report."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # of no effect on process 1 of a namespace, unlike Python's handler
    os.setsid()
    system.die_with_parent()
    system.hide_memory()
    limits = job["limits"]
    folder = _working_folder(level, limits)
    leash = descriptors.pop(1)
    output, written = os.pipe()
    started = time.monotonic()
    child = os.fork()
    if not child:
        _in_child(lambda: _be_program(job, descriptors, written, folder, level))
    for descriptor in (*descriptors, written):
        os.close(descriptor)
    result = _watch(child, leash, output, limits, started, None if level["namespaces"] else folder)
    if not level["namespaces"]:
        import shutil

        system.reap_everything()
        shutil.rmtree(folder, ignore_errors=True)
    os.write(report, frames.encode(result).encode("ascii"))


def _working_folder(level: dict[str, Any], limits: dict[str, Any]) -> str:
    """Return an empty folder that nobody else has."""
    if not level["namespaces"]:
        import tempfile

        system.subreaper()
        return tempfile.mkdtemp(prefix="program-")
    system.unshare(system.CLONE_NEWNS | system.CLONE_NEWIPC)
    size = f"size={limits['file_bytes']},nr_inodes={ENOUGH_INODES},mode=0700"
    system.mount("tmpfs", WORK, "tmpfs", system.MS_NOSUID | system.MS_NODEV, size)
    return WORK


def _watch(
    child: int, leash: int, output: int, limits: dict[str, Any], started: float, folder: str | None
) -> dict[str, Any]:
    """Wait until the program ends, meets a limit, or the host lets go of the leash; return how it ended."""
    clock = (~child << 3) | 2  # the clock of another process's CPU time: clock_getcpuclockid(3)
    ended = os.pidfd_open(child)
    kept, room, why = bytearray(), limits["output_bytes"], ""
    open_ends = [ended, leash, output]
    while True:
        left = limits["cpu_seconds"] - time.clock_gettime(clock)
        until = started + limits["wall_seconds"] - time.monotonic()
        if left <= 0 or until <= 0:
            why = "cpu" if left <= 0 else "wall"
            break
        if folder is not None and _bytes_below(folder) > limits["file_bytes"]:
            why = "disk"
            break
        nap = max(0.01, min(left, until, LONGEST_NAP))
        ready, _, _ = select.select(open_ends, [], [], nap)
        if output in ready:
            data = os.read(output, 1 << 16)
            kept += data[: max(0, room - len(kept))]
            if not data:
                open_ends.remove(output)
        if ended in ready:
            break
        if leash in ready:
            why = "stopped"
            break
    if why:
        os.kill(child, signal.SIGKILL)
    _, status, usage = os.wait4(child, 0)
    os.set_blocking(output, False)
    with contextlib.suppress(BlockingIOError):  # nothing is left
        kept += os.read(output, 1 << 16)[: max(0, room - len(kept))]
    code = os.waitstatus_to_exitcode(status)
    if not why and code == -signal.SIGXCPU:
        why = "cpu"
    return {
        "ended": why or ("signal" if code < 0 else "exit"),
        "code": abs(code),
        "cpu": usage.ru_utime + usage.ru_stime,
        "wall": time.monotonic() - started,
        "output": kept.decode("utf-8", "replace"),
    }


def _bytes_below(folder: str) -> int:
    total = 0
    for place, _, names in os.walk(folder, onerror=None):
        for name in names:
            try:
                total += os.lstat(os.path.join(place, name)).st_blocks * 512
            except OSError:  # it went meanwhile
                continue
    return total


def _be_program(job: dict[str, Any], descriptors: list[int], output: int, folder: str, level: dict[str, Any]) -> None:
    """Give up every privilege and descriptor, and become the candidate or the tests."""
    os.setsid()
    system.die_with_parent()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(folder)
    nothing = os.open(os.devnull, os.O_RDONLY)
    # Out of the way of the numbers they are to get.
    sources = [
        os.dup2(number, 100 + at, inheritable=False) for at, number in enumerate([nothing, output, *descriptors])
    ]
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

        return candidate.main(connection, job["code"])
    from della_bench.scoring.sandbox.inside import checker

    verdict, explanation = checker.check(connection, job)
    frames.send(socket.socket(fileno=CHANNEL + 1), {"verdict": verdict, "explanation": explanation})
    return None


def _confine(limits: dict[str, Any], folder: str, level: dict[str, Any]) -> None:
    cpu = int(limits["cpu_seconds"]) + 2  # the keeper looks sooner; this holds were it held up
    bounds = [
        (resource.RLIMIT_CPU, cpu),
        (resource.RLIMIT_AS, limits["memory_bytes"]),
        (resource.RLIMIT_FSIZE, limits["file_bytes"]),
        (resource.RLIMIT_NOFILE, limits["open_files"]),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
    ]
    if level["namespaces"]:  # elsewhere the count would be over all processes of the user
        bounds.append((resource.RLIMIT_NPROC, limits["threads"] + limits["processes"]))
    for which, bound in bounds:
        resource.setrlimit(which, (bound, bound))
    if level["name"] == "landlock":
        system.prctl(system.PR_SET_NO_NEW_PRIVS, 1)
        landlock.restrict(level["readable"], level["devices"], folder)
    system.drop_capabilities()
    if os.uname().machine in seccomp.ARCHITECTURES:
        seccomp.install(namespaces=level["namespaces"], processes=limits["processes"] > 0 and level["namespaces"])

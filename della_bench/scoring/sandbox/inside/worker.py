"""A warm interpreter inside the sandbox: each program is run in a fork of it, behind a keeper that outlives it.

    worker -> messenger, which enters a new process namespace -> keeper, its process 1 -> candidate or tests

The worker only waits, so it stays pristine: not even a program's source passes through its memory, of which every later
program has a copy, with all that was freed in it. The messenger, one a program, receives the job and sends the report.
The keeper counts CPU and wall time, reads and drops output, and says how the program ended; when it ends, the kernel
kills whatever is left in its process namespace, and the worker has waited for all of it. The candidate has the keeper's
user but cannot harm it: process 1 of a namespace takes no signal from inside, and its memory is hidden. Without
namespaces (Landlock) the filter of system calls stands in for that.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable

from della_bench.scoring.sandbox.inside import frames, program, system
from della_bench.scoring.sandbox.inside.rows import CandidateJob, LevelRow, LimitsRow, Report, TestsJob

__all__ = ["serve"]

WORK = "/work"
LONGEST_NAP = 0.25  # seconds between two looks at the clock of a process
SHORT_NAP = 0.02  # where threads and files are looked at too
NO_JOB = 72  # exit code of a messenger that found the host gone
ENOUGH_FILES = 1024
MOST_FILES = 8192  # where they are only looked at: a program that makes more is ended


def serve(control: socket.socket, level: LevelRow) -> None:
    """Run one job after the other until `control` ends; each is answered by one report, or {"fault": ...}."""
    for name in level["preload"]:
        importlib.import_module(name)
    system.die_with_parent()
    system.hide_memory()
    frames.send(control, {"ready": True})
    while True:
        select.select([control], [], [])
        messenger = os.fork()
        if not messenger:
            _in_child(lambda: _carry(control, level))
        code = os.waitstatus_to_exitcode(os.waitpid(messenger, 0)[1])
        if code == NO_JOB:
            return
        if code:
            frames.send(control, {"fault": "the keeper left no report"})


def _carry(control: socket.socket, level: LevelRow) -> None:
    """Receive a job, have it done in a process namespace of its own where there are such, and send the report."""
    system.die_with_parent()
    try:
        job, descriptors = frames.receive_with_descriptors(control)
    except EOFError:
        os._exit(NO_JOB)
    reading, writing = os.pipe()
    if level["namespaces"]:
        system.unshare(system.CLONE_NEWPID)
    keeper = os.fork()
    if not keeper:
        os.close(reading)
        control.close()
        _in_child(lambda: _keep(job, descriptors, level, writing))
    for descriptor in (*descriptors, writing):  # else no other end would see these close
        os.close(descriptor)
    with os.fdopen(reading, encoding="ascii") as pipe:
        report = pipe.read()
    os.waitpid(keeper, 0)
    frames.decode(report)  # raises where the keeper did not come to its end
    frames.send_encoded(control, report)


def _in_child(work: Callable[[], None]) -> None:
    """Do `work` and end this process without running anything of its parent's."""
    try:
        work()
    except BaseException:
        sys.excepthook(*sys.exc_info())
        sys.stderr.flush()
        os._exit(70)
    os._exit(0)


def _keep(job: CandidateJob | TestsJob, descriptors: list[int], level: LevelRow, report: int) -> None:
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
        _in_child(lambda: program.be_program(job, descriptors, leash, written, folder, level))
    for descriptor in (*descriptors, written):
        os.close(descriptor)
    seen = None if level["namespaces"] else _Seen(child, folder, limits)
    result = _watch(child, leash, output, limits, started, seen)
    if not level["namespaces"]:
        system.reap_everything()
        system.remove_tree(folder)
    os.write(report, frames.encode(result).encode("ascii"))


def _working_folder(level: LevelRow, limits: LimitsRow) -> str:
    """Return an empty folder that nobody else has, and nobody else can find."""
    if not level["namespaces"]:
        system.subreaper()
        folder = os.path.join(level["folder"], os.urandom(16).hex())
        os.mkdir(folder, 0o700)
        return folder
    system.unshare(system.CLONE_NEWNS | system.CLONE_NEWIPC)
    for device in level["devices"]:  # their attributes: they can be written to
        system.read_only(device)
    size = f"size={limits['file_bytes']},nr_inodes={ENOUGH_FILES},mode=0700"
    system.mount("tmpfs", WORK, "tmpfs", system.MS_NOSUID | system.MS_NODEV, size)
    return WORK


def _watch(child: int, leash: int, output: int, limits: LimitsRow, started: float, seen: _Seen | None) -> Report:
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
        why = seen.too_much() if seen else ""
        if why:
            break
        nap = max(0.01, min(left, until, LONGEST_NAP if seen is None else SHORT_NAP))
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


class _Seen:
    """What only looking at a program tells, where no namespace counts it: its threads, and the bytes of its files."""

    def __init__(self, child: int, folder: str, limits: LimitsRow) -> None:
        self._child, self._folder, self._limits = child, folder, limits

    def too_much(self) -> str:
        """Return the name of a limit that is exceeded, or nothing."""
        with contextlib.suppress(OSError):  # it ended
            if len(os.listdir(f"/proc/{self._child}/task")) > self._limits["threads"]:
                return "threads"
        files, size = system.files_below(self._folder)
        return "disk" if size > self._limits["file_bytes"] or files > MOST_FILES else ""

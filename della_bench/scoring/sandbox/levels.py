"""Which level of isolation holds here: found by running a program that tries to get out of each."""

from __future__ import annotations

import functools
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from della_bench.errors import SandboxError
from della_bench.scoring.sandbox.inherited import advice, within
from della_bench.scoring.sandbox.inside import landlock, seccomp
from della_bench.scoring.sandbox.porter import Porter
from della_bench.scoring.sandbox.scratch import Scratch
from della_bench.scoring.sandbox.slot import Slot
from della_bench.scoring.sandbox.types import Level, LevelName, Limits, Program

__all__ = ["LEVELS", "find_level", "why_not"]

LEVELS: tuple[LevelName, ...] = ("bubblewrap", "namespaces", "landlock")  # the strongest first

PROBE = """
import os, signal, socket

def reached(file, folder, port, process):
    escapes = []
    def attempt(what, action):
        try:
            action()
        except BaseException:
            return
        escapes.append(what)
    attempt("a file of the host", lambda: open(file).read())
    attempt("/etc/passwd", lambda: open("/etc/passwd").read())
    attempt("a folder of the host", lambda: open(folder + "/written", "w").close())
    attempt("the process table", lambda: os.listdir("/proc/1"))
    attempt("a process of the host", lambda: os.kill(process, signal.SIGTERM))
    try:
        os.kill(os.getppid() or 2**22, signal.SIGKILL)  # of no effect, or there will be no verdict
    except OSError:
        pass
    attempt("the network", lambda: socket.create_connection(("127.0.0.1", port), 2))
    def bomb():
        for count in range(MANY):
            if not os.fork():
                signal.pause()
    attempt("any number of processes", bomb)
    if os.environ:
        escapes.append("an environment")
    return escapes
"""
MANY = 100


def find_level(*, only: LevelName | None = None, allow_unsafe: bool = False) -> Level:
    """Return the strongest level of isolation that works here, or the level `only`, found by running probes in it.

    A level holds where a probe inside it reaches no file, process or network of the host, and no more processes than
    its limit. `only="none"` needs `allow_unsafe`. What was found is remembered as long as this process runs.
    Raises SandboxError that names each level and why it does not hold here, where none does; with `allow_unsafe` the
    level `none` is returned instead.
    """
    if only == "none" and allow_unsafe:
        return Level("none")
    refused: list[tuple[LevelName, str]] = []
    for name in LEVELS:
        if only in (None, name):
            reason = why_not(name)
            if not reason:
                return Level(name, tuple(refused))
            refused.append((name, reason))
    if allow_unsafe and only is None:
        return Level("none", tuple(refused))
    reasons = "\n".join(f"  {name}: {reason}" for name, reason in refused)
    raise SandboxError(
        f"no level of isolation holds on this machine:\n{reasons}\n"
        "install bubblewrap, or allow unprivileged user namespaces (sysctl user.max_user_namespaces, "
        "kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns), or use Linux 6.12 or later "
        "for Landlock. Where unsafe runs are allowed, programs run with limits only"
    )


@functools.cache
def why_not(name: LevelName) -> str:
    """Return why level `name` does not hold here, or nothing where it does."""
    if not sys.platform.startswith("linux"):
        return f"it needs Linux, this is {sys.platform}"
    if name == "landlock" and landlock.version() < landlock.NEEDED_VERSION:
        return f"it needs Landlock version {landlock.NEEDED_VERSION} (Linux 6.12), the kernel has {landlock.version()}"
    if name == "landlock" and os.uname().machine not in seccomp.ARCHITECTURES:
        return f"its filter of system calls knows {', '.join(seccomp.ARCHITECTURES)}, not {os.uname().machine}"
    with ExitStack() as stack:
        file, folder, port, process = stack.enter_context(_bait())
        code = PROBE.replace("MANY", str(MANY))
        tests = (
            f"out = reached({file!r}, {folder!r}, {port}, {process.pid})\nassert not out, 'reached ' + ', '.join(out)"
        )
        # Once as it is used, and once with the system calls allowed that start processes, so that their limit is seen.
        for processes in (0, 4):
            try:
                porter = stack.enter_context(Porter(name))
                limits = within(Limits(threads=32, processes=processes), say=False)
                with Slot(porter, limits, isolate=False, in_one_namespace=False) as slot:
                    outcome = slot.run(Program("probe", code, tests))
            except SandboxError as error:
                return str(error) + advice()
            if outcome.verdict != "passed":
                return (outcome.explanation.rpartition(": ")[2] or outcome.verdict) + advice()
        if process.poll() is not None:
            return "a program inside it ended a process of the host"
    return ""


@contextmanager
def _bait() -> Iterator[tuple[str, str, int, subprocess.Popen[bytes]]]:
    """Yield what a probe may try to reach: a readable file, a folder anyone may write to, a port, a process."""
    scratch = Scratch()
    folder = Path(scratch.path)
    folder.chmod(0o777)
    with closing(scratch), socket.socket() as server:
        file = folder / "secret"
        file.write_text(secrets.token_hex(), "ascii")
        file.chmod(0o666)
        server.bind(("127.0.0.1", 0))
        server.listen()
        process = subprocess.Popen(["/bin/sleep", "600"], start_new_session=True, stdin=subprocess.DEVNULL)
        try:
            yield str(file), str(folder), server.getsockname()[1], process
        finally:
            process.kill()
            process.wait()

"""The process that starts sandboxes, so that the one with the models in it never forks, and ends all of them.

As root it first gathers the interpreter's files in a mount namespace of its own and becomes a user that nobody else
is: RLIMIT_NPROC does not hold for root. When its control socket ends (its owner closed it or is gone, however that
came), it kills every process it started, and their orphans, and waits for them.
"""

from __future__ import annotations

import itertools
import os
import select
import signal
import socket
import sys
from typing import Any

from della_bench.scoring.sandbox.inside import frames, system
from della_bench.scoring.sandbox.inside.rows import Setup

__all__ = ["main"]

FIRST_UID = 0x70000000  # far above the users and the sub-uids that distributions hand out
STAGE = "/tmp"  # hidden, in this process's mount namespace only, by what is gathered there
WORK = "/work"  # below STAGE, where programs without namespaces make their folders
CONTROL = 3  # the descriptor that a sandbox finds its control socket at


def main(control: socket.socket, setup: Setup) -> None:
    """Start and end sandboxes as `control` says.

    Messages: {"start": argv, "environment": {...}} with a descriptor, answered by {"box": number}, and
    {"kill": number}, answered by {"killed": number}.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    system.subreaper()
    os.chdir("/")
    try:
        gathered = setup["own_user"] and _gather(setup["files"], must=setup["must_gather"])
        if setup["own_user"] and (gathered or _anyone_can_read(setup["files"])):
            _become_nobody()
        frames.send(control, {"gathered": gathered})
        while True:
            message, descriptors = _next(control)
            if "kill" in message:
                _kill(message["kill"])
                frames.send(control, {"killed": message["kill"]})
            else:
                frames.send(control, {"box": _start(message["start"], message["environment"], descriptors[0])})
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass
    except OSError as error:
        frames.send(control, {"fault": str(error)})
    finally:
        system.reap_everything()


_started: dict[int, int] = {}  # a number of ours for each sandbox -> its process; process numbers come round again


def _next(control: socket.socket) -> tuple[Any, list[int]]:
    """Return the next message; before and meanwhile, wait for what ended."""
    _reap()
    while not select.select([control], [], [], 1.0)[0]:
        _reap()
    return frames.receive_with_descriptors(control)


def _reap() -> None:
    """Wait for every child that ended: a sandbox, or an orphan that one left."""
    while True:
        try:
            child, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not child:
            return
        for number, process in list(_started.items()):
            if process == child:
                del _started[number]


def _start(argv: list[str], environment: dict[str, str], descriptor: int) -> int:
    child = os.fork()
    if not child:
        try:
            os.setsid()
            system.die_with_parent()
            os.dup2(descriptor, CONTROL)
            os.closerange(CONTROL + 1, 1 << 16)
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.execve(argv[0], argv, environment)
        except OSError as error:
            print(f"{argv[0]}: {error.strerror}", file=sys.stderr, flush=True)
        finally:
            os._exit(71)
    os.close(descriptor)
    number = next(_numbers)
    _started[number] = child
    return number


_numbers = itertools.count(1)


def _kill(number: int) -> None:
    child = _started.pop(number, None)
    if child is not None:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def _gather(files: list[tuple[str, str]], *, must: bool) -> bool:
    """Gather files (source, target) below STAGE, where any user can reach them; return whether that was allowed.

    Raises OSError where it was not and `must` be.
    """
    try:
        system.unshare(system.CLONE_NEWNS)
        system.mount("none", "/", None, system.MS_REC | system.MS_PRIVATE)
    except OSError:  # root in a container need not be allowed to mount
        if must:
            raise
        return False
    # Opened before the stage hides what lies below it.
    opened = [(target, os.open(source, os.O_PATH)) for source, target in files]
    system.mount("tmpfs", STAGE, "tmpfs", system.MS_NOSUID | system.MS_NODEV, "mode=0755,size=1m")
    for target, place in opened:
        system.bind(f"/proc/self/fd/{place}", STAGE + target)
        os.close(place)
    os.mkdir(STAGE + WORK)
    system.mount("tmpfs", STAGE + WORK, "tmpfs", system.MS_NOSUID | system.MS_NODEV, "mode=0777")
    return True


def _anyone_can_read(files: list[tuple[str, str]]) -> bool:
    """Return whether a user that nobody else is can read files (source, target) where they are."""
    child = os.fork()
    if not child:
        code = 1
        try:
            _become_nobody()
            code = 0 if all(os.access(source, os.R_OK) for source, _ in files) else 1
        finally:
            os._exit(code)
    return os.waitpid(child, 0)[1] == 0


def _become_nobody() -> None:
    """Become a user of one's own."""
    user = FIRST_UID + os.getpid()
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    system.prctl(system.PR_SET_DUMPABLE, 1)  # else the user's own /proc entries belong to root

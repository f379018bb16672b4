"""How long a program has done nothing: neither computed nor waited for a core of a busy machine."""

from __future__ import annotations

import os
import socket
import struct
import time
from pathlib import Path

__all__ = ["IdleClock", "ask_for_sender", "sender"]

_KERNEL_TELLS = os.path.exists("/proc/self/schedstat")
_TICK = os.sysconf("SC_CLK_TCK")
_CREDENTIALS = struct.Struct("iII")  # process, user, group


class IdleClock:
    """Counts from when it is made, for processes that take turns, as a candidate and its tests do."""

    def __init__(self, processes: list[int]) -> None:
        """Start at zero. processes: their numbers here, whatever they are called inside a sandbox."""
        self._folders = [Path(f"/proc/{process}") for process in processes]
        self._waited: dict[str, int] = {}
        self._started = time.monotonic()
        self._busy = 0.0
        self._busy_before = self._busy_now()

    def idle(self) -> float:
        """Return the seconds that nothing was done; 0 where the kernel does not tell who waits for a core."""
        if not _KERNEL_TELLS:
            return 0.0
        self._busy = max(self._busy, self._busy_now() - self._busy_before)
        return time.monotonic() - self._started - self._busy

    def _busy_now(self) -> float:
        """Return the seconds that the processes have computed or waited for a core, as far as they are to be seen."""
        computed = 0.0
        for folder in self._folders:
            try:
                fields = (folder / "stat").read_bytes().rpartition(b")")[2].split()
                # In ticks, utime and stime, of the threads that have ended too.
                computed += (int(fields[11]) + int(fields[12])) / _TICK
                for task in (folder / "task").iterdir():
                    self._waited[str(task)] = int((task / "schedstat").read_bytes().split()[1])
            except (OSError, IndexError):  # it ended meanwhile
                continue
        return computed + sum(self._waited.values()) / 1e9


def ask_for_sender(connection: socket.socket) -> None:
    """Have the kernel say, with what comes over a Unix socket, which process sent it."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)


def sender(connection: socket.socket) -> int | None:
    """Return the number, as this process sees it, of the process that sent the next byte; None where none came."""
    data, ancillary, _, _ = connection.recvmsg(1, socket.CMSG_SPACE(_CREDENTIALS.size))
    for level, kind, content in ancillary if data else ():
        if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
            return int(_CREDENTIALS.unpack(content)[0])
    return None

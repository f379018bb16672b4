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
        self._computed = [0.0] * len(processes)
        self._waited: dict[str, int] = {}
        self._started = time.monotonic()
        self._busy = 0.0
        self._busy_since_last_look()

    def idle(self) -> float:
        """Return the seconds that nothing was done; 0 where the kernel does not tell who waits for a core."""
        if not _KERNEL_TELLS:
            return 0.0
        self._busy += self._busy_since_last_look()
        return time.monotonic() - self._started - self._busy

    def _busy_since_last_look(self) -> float:
        """Return the seconds that the processes have computed or waited for a core, as far as they are to be seen.

        Of a process's threads the one that waited longest counts, not their sum: many threads that wake at once wait
        for each other, and would seem to wait all the time while they sleep nearly all of it.
        """
        busy = 0.0
        for place, folder in enumerate(self._folders):
            try:
                fields = (folder / "stat").read_bytes().rpartition(b")")[2].split()
                # In ticks, utime and stime, of the threads that have ended too.
                computed = (int(fields[11]) + int(fields[12])) / _TICK
                busy += computed - self._computed[place]
                self._computed[place] = computed
                busy += max(map(self._waited_since_last_look, (folder / "task").iterdir()), default=0) / 1e9
            except (OSError, IndexError):  # it ended meanwhile
                continue
        return busy

    def _waited_since_last_look(self, thread: Path) -> int:
        """Return the nanoseconds that a thread has waited for a core; of one that is new, all of them."""
        waited = int((thread / "schedstat").read_bytes().split()[1])
        before = self._waited.get(str(thread), 0)
        self._waited[str(thread)] = waited
        return waited - before


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

"""Ends what a dead process has left running; a script of its own, run with the standard library alone.

Ray ends with the process that started it where that one ends by itself. Killed, it leaves two of Ray's helpers running
for a minute and more, and whatever an engine has started. All of them have the variable in their environment that the
process put there before it started Ray. Only Linux shows the environments of others (/proc); on other systems Ray has a
reaper of its own.

    python reaper.py NAME=VALUE FOLDER

waits until its standard input ends, which it does with the process that holds the other end, however that one ends.
Then every process with the variable is killed, and the folder deleted.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

__all__ = ["main"]


def _marked(mark: bytes) -> Iterator[int]:
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended since, or is another user's
            if int(entry.name) != os.getpid() and mark in (entry / "environ").read_bytes().split(b"\0"):
                yield int(entry.name)


def main(mark: str, folder: str) -> None:
    """Wait for the end of the input, then kill and delete."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.stdin.buffer.read()
    while pids := list(_marked(mark.encode())):
        for pid in pids:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

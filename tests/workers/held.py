"""What workers do in these tests."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from della_bench.errors import UsageError
from tests.waiting import until

__all__ = ["Held", "dies", "says_no"]


class Held:
    """Doubles numbers, waits for files, and dies when it is told to."""

    def __init__(self, watch):
        self._watch = watch

    def double(self, number: int) -> int:
        return 2 * number

    def meet(self, folder: Path, number: int) -> int:
        """Leave a mark, and wait until there are so many."""
        (folder / str(os.getpid())).touch()
        until(lambda: len(list(folder.iterdir())) >= number, pause=0.05)
        return os.getpid()

    def wait_for(self, path: Path, mark: Path) -> None:
        mark.touch()
        until(path.exists, pause=0.05)

    def die(self, unless: Path) -> None:
        """Be killed as the system does it, unless that has happened before."""
        if not unless.exists():
            unless.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    def fail(self) -> None:
        print("a line in the log", flush=True)
        raise RuntimeError("CUDA out of memory")


def says_no(watch) -> Held:
    raise UsageError("no device cuda:0")


def dies(watch) -> Held:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError

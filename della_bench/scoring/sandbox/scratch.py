"""A folder for temporary files that the next start removes, however its owner ended."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from pathlib import Path

from della_bench.scoring.sandbox.inside import system

__all__ = ["PREFIX", "Scratch"]

PREFIX = "della-bench-programs-"


class Scratch:
    """A folder below the one for temporary files, locked as long as this process holds it.

    Making one removes those of owners that are gone: a lock ends with its process, by whatever signal.
    """

    def __init__(self) -> None:
        """Make it. Other users may make folders in it, but not list it."""
        _remove_left_ones()
        while True:
            self.path = tempfile.mkdtemp(prefix=PREFIX)
            self._lock = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
            fcntl.flock(self._lock, fcntl.LOCK_SH)
            if os.path.isdir(self.path):  # else another start took it for a left one before it was locked
                break
            os.close(self._lock)
        os.chmod(self.path, 0o733)

    def close(self) -> None:
        """Remove it with what is in it; a second time does nothing."""
        if self._lock >= 0:
            system.remove_tree(self.path)
            os.close(self._lock)
            self._lock = -1


def _remove_left_ones() -> None:
    for path in Path(tempfile.gettempdir()).glob(PREFIX + "*"):
        with contextlib.suppress(OSError):  # another user's, or in use
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                if os.fstat(lock).st_uid == os.geteuid():
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    system.remove_tree(str(path))
            finally:
                os.close(lock)

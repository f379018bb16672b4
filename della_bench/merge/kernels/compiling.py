"""A word to those who wait for numba: what it compiles lands in a cache on disk, and so they wait once."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager

from numba.core import event

__all__ = ["announced"]

log = logging.getLogger(__name__)


def announced() -> AbstractContextManager[None]:
    """Say in the log, at level INFO, when a loop of ours is compiled while the context lasts; the first time only."""
    context: AbstractContextManager[None] = event.install_listener("numba:compile", _Announcement())
    return context


class _Announcement(event.Listener):  # type: ignore[misc]  # numba has no types
    """numba tells of what it compiles alone, not of what it finds in its cache."""

    def __init__(self) -> None:
        self._was_said = False

    def on_start(self, compilation: event.Event) -> None:
        if not self._was_said and compilation.data["dispatcher"].py_func.__module__.startswith("della_bench."):
            self._was_said = True
            log.info("compiling the merging loops, which takes up to half a minute; they are kept for the next time")

    def on_end(self, compilation: event.Event) -> None:
        pass

"""Memory for merged tensors that come and go by the hundred: taken over from the last one rather than asked for anew.

A fresh page costs a fault and a clearing, which for a tensor that is merged, written and dropped takes longer than the
merging. A pool hands a buffer on as soon as no array and no tensor refers to it, for its own size only, since someone
may keep a tensor and should keep no more memory than it needs; a few wait for their size to come again. When none is
lent and nobody holds the pool, it lets all go.
"""

from __future__ import annotations

import mmap
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np

__all__ = ["Buffers"]

_SMALL = 1 << 20  # bytes; below, malloc does as well
_WAITING = 4


class Buffers:
    """A pool of buffers."""

    def __init__(self) -> None:
        # Reentrant: a loan may end while the garbage collector runs inside `take`.
        self._lock = threading.RLock()
        self._free: list[np.ndarray[Any, Any]] = []
        self._lent = self._held = 0

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Keep buffers from one use to the next while the context lasts."""
        with self._lock:
            self._held += 1
        try:
            yield
        finally:
            with self._lock:
                self._held -= 1
                self._let_go()

    def take(self, size: int) -> np.ndarray[Any, Any]:
        """Return `size` bytes (uint8) of any content; the memory comes back when the last reference to it is gone."""
        if size < _SMALL:
            return np.empty(size, np.uint8)
        with self._lock:
            place = next((place for place, buffer in enumerate(self._free) if buffer.size == size), None)
            if place is None:
                del self._free[: max(0, len(self._free) - _WAITING + 1)]
                buffer = _mapped(size)
            else:
                buffer = self._free.pop(place)
            self._lent += 1
        return np.asarray(_Loan(self, buffer))

    def _give_back(self, buffer: np.ndarray[Any, Any]) -> None:
        with self._lock:
            self._lent -= 1
            self._free.append(buffer)
            self._let_go()

    def _let_go(self) -> None:
        if not self._lent and not self._held:
            self._free.clear()


def _mapped(size: int) -> np.ndarray[Any, Any]:
    """Return memory that begins at a page: from there, a file can be written past the page cache."""
    if not hasattr(mmap, "MAP_PRIVATE"):
        return np.frombuffer(mmap.mmap(-1, size), np.uint8)
    # Private, which is not what Python maps by itself: Linux gives shared memory no huge pages, whatever it is advised.
    memory = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # a kernel without them
            memory.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(memory, np.uint8)


class _Loan:
    """What an array over a lent buffer refers to; numpy keeps it for as long as anything looks at the memory."""

    def __init__(self, pool: Buffers, buffer: np.ndarray[Any, Any]) -> None:
        self._pool, self._buffer = pool, buffer
        self.__array_interface__ = buffer.__array_interface__

    def __del__(self) -> None:
        self._pool._give_back(self._buffer)

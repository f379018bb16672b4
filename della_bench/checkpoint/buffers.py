"""Memory for tensors that come and go by the hundred: taken over from the last one rather than asked for anew.

A fresh page costs a fault and a clearing, which for a tensor that is read, merged and dropped takes longer than the
reading. A pool hands a buffer on as soon as no array and no tensor refers to it. When none is lent and nobody holds the
pool, it lets all go.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

__all__ = ["Buffers"]

_SMALL = 1 << 20  # bytes; below, malloc does as well
_WAITING = 4


class Buffers:
    """A pool of buffers. At any time it holds no more of them than were once in use together.

    exact: a buffer is handed on for its own size only, and a few wait for theirs. For arrays that someone may keep, so
    that none keeps more memory than it needs.
    """

    def __init__(self, *, exact: bool = False) -> None:
        self._exact = exact
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
            fits = sorted((buffer.size, place) for place, buffer in enumerate(self._free) if buffer.size >= size)
            if fits and (fits[0][0] == size or not self._exact):
                buffer = self._free.pop(fits[0][1])
            else:
                if self._exact:
                    del self._free[: max(0, len(self._free) - _WAITING + 1)]
                elif self._free:  # none will do: a new one takes the place of the largest
                    self._free.pop(max(range(len(self._free)), key=lambda place: self._free[place].size))
                buffer = np.empty(size, np.uint8)
            self._lent += 1
        return np.asarray(_Loan(self, buffer, size))

    def _give_back(self, buffer: np.ndarray[Any, Any]) -> None:
        with self._lock:
            self._lent -= 1
            self._free.append(buffer)
            self._let_go()

    def _let_go(self) -> None:
        if not self._lent and not self._held:
            self._free.clear()


class _Loan:
    """What an array over a lent buffer refers to; numpy keeps it for as long as anything looks at the memory."""

    def __init__(self, pool: Buffers, buffer: np.ndarray[Any, Any], size: int) -> None:
        self._pool, self._buffer = pool, buffer
        self.__array_interface__ = {**buffer.__array_interface__, "shape": (size,)}

    def __del__(self) -> None:
        self._pool._give_back(self._buffer)

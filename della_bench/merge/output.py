"""A file written from front to end, past the page cache: what is written once is read, if at all, by somebody else.

Pages of a file that nobody reads push out the experts', which the next merge would read, and on a virtual machine a
fresh page costs more than the copy into it.
"""

from __future__ import annotations

import errno
import mmap
import os
from pathlib import Path
from typing import Any

import numpy as np

if os.name == "posix":
    import fcntl

__all__ = ["ALIGNMENT", "Output"]

_CHUNK = 8 << 20  # bytes written at a time, where they do not lie as direct I/O wants them
ALIGNMENT = 4096  # bytes: what direct I/O wants memory and the place in the file to be a multiple of


class Output:
    """A binary file to write; a context manager. Where direct I/O is not to be had, it goes through the page cache.

    What is `write`n from the start of a page, to a place in the file that is a multiple of `ALIGNMENT`, is not copied.
    """

    def __init__(self, path: Path) -> None:
        """Create the file, or empty it. Raises OSError."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        self._direct = getattr(os, "O_DIRECT", 0)
        try:
            self._file = os.open(path, flags | self._direct, 0o666)
        except OSError as error:
            if error.errno != errno.EINVAL or not self._direct:
                raise
            self._direct = 0
            self._file = os.open(path, flags, 0o666)
        # Mapped memory starts at a page, as direct I/O wants it; whole chunks keep the file's offset aligned, too.
        self._chunk: np.ndarray[Any, np.dtype[np.uint8]] = np.frombuffer(mmap.mmap(-1, _CHUNK), np.uint8)
        self._filled = 0

    def write(self, data: bytes | np.ndarray[Any, np.dtype[np.uint8]]) -> None:
        """Append bytes. Raises OSError, maybe about the last few megabytes given before."""
        left = np.frombuffer(data, np.uint8) if isinstance(data, bytes) else data
        if self._direct and self._filled % ALIGNMENT == left.ctypes.data % ALIGNMENT == 0:
            self._put_chunk()
            whole = left.size - left.size % ALIGNMENT
            self._put(left[:whole])
            left = left[whole:]
        while left.size:
            count = min(left.size, _CHUNK - self._filled)
            np.copyto(self._chunk[self._filled : self._filled + count], left[:count])
            left, self._filled = left[count:], self._filled + count
            if self._filled == _CHUNK:
                self._put_chunk()

    def finish(self) -> None:
        """Write what is left. Nothing can be appended after it. Raises OSError."""
        self._through_the_cache()  # the rest is no multiple of a disk's block
        self._put_chunk()

    def __enter__(self) -> Output:  # noqa: D105
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file, finished or not."""
        os.close(self._file)

    def _put_chunk(self) -> None:
        self._put(self._chunk[: self._filled])
        self._filled = 0

    def _put(self, data: np.ndarray[Any, np.dtype[np.uint8]]) -> None:
        view = memoryview(data)  # type: ignore[arg-type]
        while view:
            try:
                view = view[os.write(self._file, view) :]
            except OSError as error:
                if error.errno != errno.EINVAL or not self._direct:
                    raise
                self._through_the_cache()

    def _through_the_cache(self) -> None:
        if self._direct:
            fcntl.fcntl(self._file, fcntl.F_SETFL, fcntl.fcntl(self._file, fcntl.F_GETFL) & ~self._direct)
            self._direct = 0

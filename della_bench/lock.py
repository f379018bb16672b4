"""One process at a time in a run's folder, or in a file; the operating system frees the lock of a process that dies."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from della_bench.errors import DataError

__all__ = ["file_lock", "folder_lock", "is_held"]

_NAME = ".lock"


@contextmanager
def folder_lock(folder: Path, *, wait: bool) -> Iterator[bool]:
    """Hold the lock of `folder` (made where it is not there); yields False where another holds it and `wait` is false.

    The lock is the kernel's, on a file that stays behind: what counts is who holds it, not whether the file is there.
    Raises DataError where the folder cannot be written, or its file system has no locks.
    """
    with _locked(folder / _NAME, folder, wait=wait) as handle:
        if handle is not None:
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"{socket.gethostname()} {os.getpid()}\n".encode(), 0)  # for people who wonder who it is
        yield handle is not None


@contextmanager
def file_lock(path: Path) -> Iterator[bool]:
    """Hold the lock of the file at `path` (made empty where it is not there); yields False where another holds it.

    Who is held off are others that ask for the lock: anybody can read and write the file. It must not be replaced by
    another file meanwhile. Raises DataError where it cannot be written, or its file system has no locks.
    """
    with _locked(path, path, wait=False) as handle:
        yield handle is not None


@contextmanager
def _locked(path: Path, named: Path, *, wait: bool) -> Iterator[int | None]:
    """Yield an open descriptor of the locked file, or None where another holds it; errors speak of `named`."""
    import fcntl

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise DataError(f"{named}: cannot be written: {error.strerror or error}") from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield None
            return
        except OSError as error:
            raise DataError(f"{named}: cannot be locked: {error.strerror or error}") from error
        yield handle
    finally:
        os.close(handle)


def is_held(folder: Path) -> bool:
    """Return whether some process holds the lock of `folder`; nothing is written."""
    import fcntl

    try:
        handle = os.open(folder / _NAME, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False

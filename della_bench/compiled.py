"""Loops that numba compiles and keeps on disk, for as long as none of the files changes whose code is in them.

What numba keeps of a loop holds the machine code of all loops that it calls, but numba looks for changes in the loop's
own file alone: after a change in a called file, old code would run on. Here the name of what is kept holds a digest of
all files of the family. Entries of another digest are never read, and they are removed as new ones are written.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from numba import njit
from numba.core.caching import CompileResultCacheImpl, FunctionCache

__all__ = ["compiler"]

_Loop = TypeVar("_Loop", bound=Callable[..., Any])

# No fast-math: the compiler may neither reorder sums nor contract a product and a sum into one rounding.
_OPTIONS = {"nogil": True, "error_model": "numpy", "boundscheck": False}


def compiler(file: str, pattern: str) -> Callable[[_Loop], _Loop]:
    """Return a decorator that has numba compile a function, like `njit(cache=True)`, for a family of files.

    file: `__file__` of a module of the family. pattern: which files beside it are the family ("cpu_*.py"). It must hold
    every file that a loop takes functions or constants from: they are compiled into it.

    numba still decides where the cache lies: in NUMBA_CACHE_DIR, in `__pycache__` beside the source, or, where that
    cannot be written, in the user's cache folder. Files there are written whole or not at all, and another process may
    write or remove them at any time.
    """
    digest = _digest(Path(file).parent, pattern)
    compiled_files = pattern.removesuffix(".py") + ".*.nb[ic]"

    class Entries(CompileResultCacheImpl):  # type: ignore[misc]  # numba has no types
        """Where the machine code of one function lies, and under which name."""

        def __init__(self, function: Callable[..., Any]) -> None:
            super().__init__(function)
            self._locator.get_source_stamp = lambda: digest  # in the place of a time of change

        def get_filename_base(self, name: str, abi: str) -> str:
            own, _, line_and_python = super().get_filename_base(name, abi).rpartition("-")
            return f"{own}-{digest}.{line_and_python.partition('.')[2]}"

    class Cache(FunctionCache):  # type: ignore[misc]
        _impl_class = Entries

        def save_overload(self, signature: Any, code: Any) -> None:
            super().save_overload(signature, code)
            for path in Path(self.cache_path).glob(compiled_files):
                if f"-{digest}." not in path.name:
                    with suppress(OSError):  # another process was faster, or may do it
                        path.unlink()

    def compiled(function: _Loop) -> _Loop:
        dispatcher = njit(**_OPTIONS)(function)
        dispatcher._cache = Cache(function)  # what numba's `cache=True` does with its own class
        return dispatcher  # type: ignore[no-any-return]

    return compiled


def _digest(folder: Path, pattern: str) -> str:
    """Return a digest over the names and contents of a family of files, and over this one, which has the options."""
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for path in sorted(folder.glob(pattern)):
        content = path.read_bytes()
        digest.update(f"{path.name}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()[:16]

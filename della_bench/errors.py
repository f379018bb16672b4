"""The errors this package raises on purpose; each message is written for the person who reads it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

__all__ = [
    "CheckpointError",
    "DataError",
    "DellaBenchError",
    "Faults",
    "JudgeError",
    "MergeError",
    "SandboxError",
    "SpecError",
    "UsageError",
]


class DellaBenchError(Exception):
    """Base of all errors of this package.

    `exit_code` is what a command line ends with: 2 where the user can mend the input, 1 where the world is at fault
    (a network, a disk).
    """

    exit_code = 1

    def __init__(self, message: str, *, exit_code: int | None = None) -> None:
        super().__init__(message)
        if exit_code is not None:
            self.exit_code = exit_code


class UsageError(DellaBenchError):
    """What was asked for cannot be done as it was asked: an unknown name, or two wishes that exclude each other.

    `argument` is the Python argument at fault, where there is one; a command line shows its own option for it.
    """

    exit_code = 2

    def __init__(self, message: str, *, argument: str | None = None, exit_code: int | None = None) -> None:
        super().__init__(f"{argument}: {message}" if argument else message, exit_code=exit_code)
        self.message, self.argument = message, argument


class SpecError(DellaBenchError):
    """A merge's spec is wrong; `faults` holds one line for each fault found."""

    exit_code = 2

    def __init__(self, faults: str | list[str]) -> None:
        self.faults = [faults] if isinstance(faults, str) else list(faults)
        super().__init__("\n".join(self.faults))


class CheckpointError(DellaBenchError):
    """A source is no readable model, or base and experts do not fit together."""

    exit_code = 2


class MergeError(DellaBenchError):
    """A merge could not be computed from sources that fit together."""


class DataError(DellaBenchError):
    """A data set is not to be had, or a file cannot be read, is not what it should be, or cannot be written."""


class SandboxError(DellaBenchError):
    """Untrusted code could not be run in isolation."""


class JudgeError(DellaBenchError):
    """A judge could not be asked, or its configuration is wrong."""


_T = TypeVar("_T")


class Faults:
    """Collects what is wrong, so that all of it is told at once."""

    def __init__(self) -> None:
        self._found: list[DellaBenchError] = []

    @property
    def found(self) -> bool:
        """Whether anything is wrong."""
        return bool(self._found)

    def add(self, *faults: str) -> None:
        """Note mistakes of the user's, a line each."""
        self._found += map(UsageError, faults)

    def of(self, step: Callable[[], _T], default: _T) -> _T:
        """Return what a step returns; where it raises an error of this package, note that and return the default."""
        try:
            return step()
        except DellaBenchError as error:
            self.note(error)
            return default

    def note(self, error: DellaBenchError) -> None:
        """Note an error that came."""
        self._found.append(error)

    def raise_them(self) -> None:
        """Raise the error that was noted, or one with the lines of all of them; do nothing where there is none."""
        if len(self._found) == 1:
            raise self._found[0]
        if self._found:
            lines = dict.fromkeys(line for error in self._found for line in str(error).splitlines())
            raise UsageError("\n".join(lines), exit_code=max(error.exit_code for error in self._found))

"""JSON on disk: faults are named by file, line and column, documents are written whole or not at all, logs grow."""

from __future__ import annotations

import gzip
import json
import os
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from della_bench.errors import DataError

__all__ = ["RowLog", "read_json", "read_rows", "whole_file", "write_json", "write_whole"]

_HALF_A_PAIR = "backslashreplace"  # a lone surrogate is written as the escape that JSON has for it
_decode = json.JSONDecoder().raw_decode
USERS_FILE = 2  # exit code: the file is the user's to mend


def read_json(path: Path) -> Any:
    """Return the one JSON value of the file at `path` (gzip where the name ends in .gz).

    Raises DataError that names the file, and the line and column of a fault.
    """
    return _parse(path, _text(path), first_line=1)


def read_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number from 1, object) of a JSON Lines file, or (position from 1, object) of a file with one array.

    Blank lines are none. Raises DataError that names the file, and the line and column of a fault.
    """
    text = _text(path)
    if text.lstrip().startswith("["):
        value = _parse(path, text, first_line=1)
        for position, row in enumerate(value, start=1):
            yield position, _an_object(path, f"entry {position}", row)
        return
    # Not splitlines(): it also splits at characters (U+2028, U+0085) that JSON allows inside a string.
    for number, line in enumerate(text.split("\n"), start=1):
        try:  # millions of rows: no look for blanks, and no words for a fault, before there is one
            value, end = _decode(line)
        except (ValueError, RecursionError):
            value, end = None, -1
        if end == len(line) and type(value) is dict:
            yield number, value
        elif line.strip():
            yield number, _an_object(path, f"line {number}", _parse(path, line, first_line=number))


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
        if path.suffix == ".gz":
            data = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(f"{path}: cannot be read: {reason}", exit_code=USERS_FILE) from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - (data.rfind(b"\n", 0, error.start) + 1) + 1
        message = f"{path}, line {line}, byte {column}: not UTF-8 (byte 0x{data[error.start]:02x})"
        raise DataError(message, exit_code=USERS_FILE) from error


def _parse(path: Path, text: str, first_line: int) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        place = f"line {first_line + error.lineno - 1}, column {error.colno}"
        raise DataError(f"{path}, {place}: not JSON ({error.msg})", exit_code=USERS_FILE) from error
    except ValueError as error:  # Python's own bound on an integer's digits
        raise DataError(f"{path}, line {first_line}: a number with too many digits", exit_code=USERS_FILE) from error
    except RecursionError as error:
        raise DataError(f"{path}, line {first_line}: nested too deeply", exit_code=USERS_FILE) from error


def _an_object(path: Path, place: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        message = f"{path}, {place}: expected a JSON object, got {type(value).__name__}"
        raise DataError(message, exit_code=USERS_FILE)
    return value


def write_json(path: Path, value: Any) -> None:
    """Write `value` as an indented JSON document (UTF-8, finite numbers only), whole or not at all.

    Raises ValueError on NaN and infinities, which JSON does not have.
    """
    write_whole(path, json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n")


def write_whole(path: Path, text: str) -> None:
    """Write `text` beside `path`, flush it to the disk and rename it: a reader sees the old file or the new one."""
    with whole_file(path) as beside, beside.open("w", encoding="utf-8", errors=_HALF_A_PAIR, newline="") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield the path of a file to write beside `path`, in whose place it is put where all went well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_native_id()}.tmp")
    try:
        yield beside
        beside.replace(path)
    except OSError as error:
        if error.filename is not None and Path(error.filename) != beside:
            raise
        raise _named(error, path) from error  # what is beside it is nobody's business
    finally:
        beside.unlink(missing_ok=True)


class RowLog:
    """A JSON Lines file that grows by whole rows, each flushed as it is written; a context manager.

    What a killed writer left behind the last line's end is cut off when the log is opened.
    """

    def __init__(self, path: Path, *, fresh: bool = False) -> None:
        """Open `path` to append, or empty it first where `fresh`."""
        path.parent.mkdir(parents=True, exist_ok=True)
        if not fresh:
            _cut_torn_row(path)
        self.path = path
        self._file = path.open("w" if fresh else "a", encoding="utf-8", errors=_HALF_A_PAIR, newline="")

    def append(self, row: Any) -> None:
        """Write one row and flush it. Raises OSError, which names the file, where the disk takes no more."""
        text = json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"
        try:
            self._file.write(text)
            self._file.flush()
        except OSError as error:
            raise _named(error, self.path) from error

    def close(self) -> None:
        """Close the file. Raises OSError, which names it, where the disk does not take what was left to write."""
        try:
            self._file.close()
        except OSError as error:
            raise _named(error, self.path) from error

    def __enter__(self) -> RowLog:  # noqa: D105
        return self

    def __exit__(self, *_: object) -> None:  # noqa: D105
        self.close()


def _named(error: OSError, path: Path) -> OSError:
    """Return an error with the file's name in it: a full disk's has none."""
    return type(error)(error.errno, error.strerror or str(error), str(path))


def _cut_torn_row(path: Path) -> None:
    """Cut what follows the last newline of `path`: a row that a killed writer did not finish."""
    if not path.exists() or not path.stat().st_size:
        return
    with path.open("rb+") as file:
        end = file.seek(0, os.SEEK_END)
        while end:
            start = max(0, end - (1 << 16))
            file.seek(start)
            newline = file.read(end - start).rfind(b"\n")
            if newline >= 0:
                file.truncate(start + newline + 1)
                return
            end = start
        file.truncate(0)

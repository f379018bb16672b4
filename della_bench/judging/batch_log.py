"""What is written down of batches, so that a killed run finds them again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, cast

from della_bench.errors import DataError, JudgeError
from della_bench.jsonfiles import read_json, write_json

if TYPE_CHECKING:
    from typing_extensions import NotRequired

__all__ = ["BatchLog", "BatchRecord"]


class BatchRecord(TypedDict):
    """What is written down of one batch; `id` is None until the server has given it one.

    `keys` are the names of its answers, `share` the part of the full price that it costs, `made` when it was made
    (seconds since 1970), and `status` what the server called it at its end.
    """

    tag: str
    id: str | None
    server: str
    keys: list[str]
    share: float
    made: float
    done: bool
    tried: NotRequired[bool]
    status: NotRequired[str]


_NEEDED = {"tag", "id", "server", "keys", "share", "done"}


class BatchLog:
    """The batches that a file names; `write` puts them back after a change."""

    def __init__(self, path: Path) -> None:
        """Read the file, if there is one. Raises JudgeError where it is no list of batches."""
        self._path = path
        self.batches = self._read()

    def _read(self) -> list[BatchRecord]:
        if not self._path.is_file():
            return []
        try:
            value = read_json(self._path)
        except DataError as error:
            raise JudgeError(
                f"{error}: it names batches that may be paid for, so mend it: a list of batches in JSON"
            ) from error
        if not isinstance(value, list) or not all(isinstance(each, dict) and each.keys() >= _NEEDED for each in value):
            raise JudgeError(f"{self._path}: expected a list of batches that may be paid for, so mend it", exit_code=2)
        return cast("list[BatchRecord]", value)

    def write(self) -> None:
        """Put all on the disk. Raises JudgeError where that fails."""
        try:
            write_json(self._path, self.batches)
        except OSError as error:
            raise JudgeError(f"{self._path}: cannot be written ({error.strerror or error})") from error

"""Which process asks for which answer, so that two on one cache never pay for the same one.

A claim is a row beside the answers: a name, and who asks for it. Whoever wants the answer too waits for it. An owner is
alive as long as it holds the lock on a folder of its own beside the cache; the system frees the lock of a process that
dies, however it dies, and the claims of the dead are anybody's. A batch outlives the process that made it: its requests
are claimed in the name of the file that it is written down in, as long as that file has it open.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import uuid
from collections.abc import Iterable
from pathlib import Path

from della_bench.errors import DataError
from della_bench.jsonfiles import read_json
from della_bench.lock import folder_lock

__all__ = ["Claims"]


_BATCH = "batch:"
_OF_ONE = "DELETE FROM claims WHERE owner = ? AND key = ?"


class Claims:
    """The claims of one open cache; one thread at a time. Methods raise sqlite3.Error where the file is at fault."""

    def __init__(self, db: sqlite3.Connection, cache: Path) -> None:
        self._db, self._owners = db, cache.with_name(f"{cache.name}.claims")
        self._me: str | None = None
        self._held = contextlib.ExitStack()

    def prepare(self) -> None:
        """Make the table."""
        self._db.execute("CREATE TABLE IF NOT EXISTS claims (key TEXT PRIMARY KEY, owner TEXT NOT NULL) WITHOUT ROWID")

    def take(self, key: str) -> bool:
        """Claim an answer that is not there; returns False where it is there by now, or another living process asks.

        Claiming again what is one's own is allowed.
        """
        me = self._owner()
        while True:
            made = self._db.execute(
                "INSERT OR IGNORE INTO claims SELECT ?, ? WHERE NOT EXISTS (SELECT 1 FROM replies WHERE key = ?)",
                (key, me, key),
            )
            if made.rowcount == 1:
                return True
            row = self._db.execute("SELECT owner FROM claims WHERE key = ?", (key,)).fetchone()
            if row is None:
                return False
            if row[0] == me:
                return True
            if self._is_alive(row[0], key):
                return False
            if _log_of(row[0]) is None:
                self._db.execute("DELETE FROM claims WHERE owner = ?", row)
            else:  # of one batch; its log may have others open
                self._db.execute(_OF_ONE, (row[0], key))

    def hand_over(self, keys: Iterable[str], log: Path) -> None:
        """Claim what is ours in the name of a batch's log from now on."""
        name = f"{_BATCH}{log.resolve()}"
        rows = [(name, key, self._me) for key in keys]
        self._db.executemany("UPDATE claims SET owner = ? WHERE key = ? AND owner = ?", rows)

    def end_batch(self, keys: Iterable[str], log: Path) -> None:
        """Give up what is claimed in the name of a batch's log."""
        self._db.executemany(_OF_ONE, [(f"{_BATCH}{log.resolve()}", key) for key in keys])

    def batch_of(self, key: str) -> Path | None:
        """Return the log of the batch that an answer is claimed for, None where it is for none."""
        row = self._db.execute("SELECT owner FROM claims WHERE key = ?", (key,)).fetchone()
        return None if row is None else _log_of(row[0])

    def drop(self, key: str) -> None:
        """Give a claim up; nothing happens where there is none of ours."""
        self._db.execute("DELETE FROM claims WHERE key = ? AND owner = ?", (key, self._me))

    def close(self) -> None:
        """Give all claims up."""
        if self._me is not None:
            with contextlib.suppress(sqlite3.Error):  # a full disk, say: the claims end with the lock
                self._db.execute("DELETE FROM claims WHERE owner = ?", (self._me,))
            shutil.rmtree(self._owners / self._me, ignore_errors=True)
            self._held.close()

    def _owner(self) -> str:
        if self._me is None:
            self._me = uuid.uuid4().hex
            self._held.enter_context(folder_lock(self._owners / self._me, wait=False))
        return self._me

    def _is_alive(self, owner: str, key: str) -> bool:
        log = _log_of(owner)
        if log is not None:
            return key in _open_keys(log)
        folder = self._owners / owner
        if not folder.is_dir():
            return False
        with folder_lock(folder, wait=False) as is_free:
            if is_free:
                shutil.rmtree(folder, ignore_errors=True)
            return not is_free


def _log_of(owner: str) -> Path | None:
    return Path(owner.removeprefix(_BATCH)) if owner.startswith(_BATCH) else None


def _open_keys(log: Path) -> set[str]:
    """Return the names of the answers that a log's open batches will have; none where the log is gone."""
    try:
        batches = read_json(log)
    except DataError:
        return set()
    listed = batches if isinstance(batches, list) else []
    return {key for batch in listed if isinstance(batch, dict) and not batch.get("done") for key in batch["keys"]}

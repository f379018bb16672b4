"""Every answer that was paid for, kept: one SQLite file that all runs share.

An answer's name is the SHA-256 of everything it depends on: the server, the whole request, and the numbers that tell
apart requests that are alike (votes, and further tries after an answer that could not be read). Only completions are
kept, never errors. Each is committed before it is used, so that a killed process loses none that it has used; a power
cut can take the last ones with it (SQLite's WAL with synchronous=NORMAL).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
from collections.abc import Iterable
from pathlib import Path

from della_bench.errors import JudgeError
from della_bench.judging.claims import Claims
from della_bench.judging.json_types import ChatRequest, as_object, parse_json
from della_bench.judging.reply import Reply
from della_bench.resources import CACHE_VARIABLE, cache_folder

__all__ = ["Cache", "default_cache_path", "request_key"]

_VERSION = 1
_COLUMNS = ["key", "body", "latency", "at", "price_share"]
_BUSY_SECONDS = 60  # how long another process may hold the file


def default_cache_path() -> Path:
    """Return where answers are kept unless another file is named."""
    return cache_folder() / "judge.sqlite"


def request_key(server: str, request: ChatRequest, vote: int = 0, attempt: int = 0) -> str:
    """Return the name of the answer to `request`: 64 hexadecimal digits."""
    whole = {"server": server, "request": request, "vote": vote, "attempt": attempt}
    text = json.dumps(whole, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()


class Cache:
    """The file of answers; a context manager. Several processes may use it at once, one thread of each at a time."""

    def __init__(self, path: Path) -> None:
        """Open the file, or make it. Raises JudgeError where it is none of ours, or of a newer version."""
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # In a notebook the requests run in a thread beside the one that opens this file and waits for them.
            self._db = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        except (OSError, sqlite3.Error) as error:
            raise JudgeError(f"{path}: the cache of judgements cannot be opened: {error}") from error
        self._claims = Claims(self._db, path)
        try:
            self._check()
            self._prepare()
        except sqlite3.Error as error:
            self._db.close()
            raise self._fault("cannot be opened", error) from error
        except JudgeError:
            self._db.close()
            raise

    def _check(self) -> None:
        """Raise JudgeError unless the file is new, or ours and of a version that is known. It is only read."""
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        tables = {name for (name,) in self._db.execute("SELECT name FROM sqlite_master")}
        if tables and "replies" not in tables:
            raise self._foreign(f"it has the tables {', '.join(sorted(tables)[:5])}")
        if tables:
            columns = [row[1] for row in self._db.execute("PRAGMA table_info(replies)")]
            if columns != _COLUMNS:
                raise self._foreign(f"its replies have {', '.join(columns)}")
        if version > _VERSION:
            raise JudgeError(
                f"{self.path}: this cache of judgements has version {version}, and this release knows {_VERSION}: "
                f"upgrade della-bench, or name another folder in {CACHE_VARIABLE}",
                exit_code=2,
            )

    def _foreign(self, why: str) -> JudgeError:
        return JudgeError(
            f"{self.path}: an SQLite file of another program ({why}), which is left as it is: name another file as "
            f"`cache`, or another folder in {CACHE_VARIABLE}",
            exit_code=2,
        )

    def _fault(self, what: str, error: sqlite3.Error) -> JudgeError:
        """Return what an error of SQLite means for whoever runs this."""
        if "locked" in str(error):
            return JudgeError(
                f"{self.path}: the cache of judgements {what}: another program has held it locked for {_BUSY_SECONDS} "
                "seconds; end that one (what it is, `fuser` or `lsof` says) and run the same command again"
            )
        if "not a database" in str(error):
            message = f"{self.path}: no SQLite file, and it is left as it is: name another file as `cache`"
            return JudgeError(message, exit_code=2)
        return JudgeError(f"{self.path}: the cache of judgements {what}: {error}")

    def _prepare(self) -> None:
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS replies (key TEXT PRIMARY KEY, body TEXT NOT NULL, latency REAL NOT NULL, "
            "at REAL NOT NULL, price_share REAL NOT NULL) WITHOUT ROWID"
        )
        self._claims.prepare()
        self._db.execute(f"PRAGMA user_version={_VERSION}")

    def get(self, key: str) -> Reply | None:
        """Return the answer of that name, None where there is none."""
        try:
            row = self._db.execute("SELECT body, latency, at, price_share FROM replies WHERE key=?", (key,)).fetchone()
        except sqlite3.Error as error:
            raise self._fault("cannot be read", error) from error
        if row is None:
            return None
        try:
            body = as_object(parse_json(row[0]))
        except ValueError:
            body = {}  # of a damaged file: paid for, and not asked again unless that is wanted
        return Reply(key, body, latency=row[1], at=row[2], price_share=row[3], cached=True)

    def has(self, key: str) -> bool:
        """Return whether there is an answer of that name."""
        try:
            return self._db.execute("SELECT 1 FROM replies WHERE key=?", (key,)).fetchone() is not None
        except sqlite3.Error as error:
            raise self._fault("cannot be read", error) from error

    def put(self, reply: Reply) -> None:
        """Keep an answer. Raises JudgeError where the disk takes no more."""
        row = (reply.key, json.dumps(reply.body), reply.latency, reply.at, reply.price_share)
        try:
            self._db.execute("INSERT OR REPLACE INTO replies VALUES (?, ?, ?, ?, ?)", row)
        except sqlite3.Error as error:
            raise self._cannot_keep(error) from error
        self.give_up(reply.key)

    def claim(self, key: str) -> bool:
        """Claim an answer that is about to be asked for.

        Returns False where it is there by now, or another process asks for it: it is to be waited for. Raises
        JudgeError where the disk takes no more, before anything is paid for that could not be kept.
        """
        try:
            return self._claims.take(key)
        except sqlite3.Error as error:
            raise self._cannot_keep(error) from error

    def give_up(self, key: str) -> None:
        """Let others ask for what was claimed; where the file cannot be written, the end of this process does it."""
        with contextlib.suppress(sqlite3.Error):
            self._claims.drop(key)

    def hand_over(self, keys: Iterable[str], log: Path) -> None:
        """Claim what is ours for the batch that is written down in `log`. Raises JudgeError."""
        try:
            self._claims.hand_over(keys, log)
        except sqlite3.Error as error:
            raise self._cannot_keep(error) from error

    def end_batch(self, keys: Iterable[str], log: Path) -> None:
        """Let others ask for what a batch was to answer; where the file cannot be written, the batch's log does it."""
        with contextlib.suppress(sqlite3.Error):
            self._claims.end_batch(keys, log)

    def batch_of(self, key: str) -> Path | None:
        """Return the log of the batch that is to answer, None where there is none."""
        try:
            return self._claims.batch_of(key)
        except sqlite3.Error as error:
            raise self._fault("cannot be read", error) from error

    def _cannot_keep(self, error: sqlite3.Error) -> JudgeError:
        if "locked" in str(error):
            return self._fault("cannot be written", error)
        return JudgeError(
            f"{self.path}: an answer cannot be kept ({error}), so no more are asked for; what was kept is safe: "
            f"make room (or name another folder in {CACHE_VARIABLE}) and run the same command again"
        )

    def close(self) -> None:
        """Close the file."""
        self._claims.close()
        self._db.close()

    def __enter__(self) -> Cache:  # noqa: D105
        return self

    def __exit__(self, *_: object) -> None:  # noqa: D105
        self.close()

"""Where Optuna keeps a study: the journal file in the search's folder, or any of its databases."""

from __future__ import annotations

import logging
import re
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from della_bench.errors import UsageError
from della_bench.jsonfiles import RowLog, write_whole
from della_bench.search.samplers import quiet

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

__all__ = ["JOURNAL", "check_storage", "open_storage", "study_name"]

log = logging.getLogger(__name__)

JOURNAL = "optuna.journal"
_STUDY = "optuna.study"


def open_storage(folder: Path, url: str | None) -> BaseStorage:
    """Return Optuna's storage at `url`, or the journal file in `folder`. Raises UsageError where it cannot be had."""
    from optuna.storages import JournalStorage, RDBStorage
    from optuna.storages.journal import JournalFileBackend

    with quiet():
        if url is None:
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / JOURNAL
            with RowLog(path):  # cuts off what a kill has left of a row, behind which nothing could be written
                pass
            try:
                return JournalStorage(JournalFileBackend(str(path)))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                log.warning("%s: cannot be read (%s), and is made anew from the run folders", path, error)
                path.unlink()
                return JournalStorage(JournalFileBackend(str(path)))
        try:
            return RDBStorage(url)
        except Exception as error:  # of SQLAlchemy, of the database's driver, ...
            raise _unreachable(url, error) from None


def study_name(folder: Path, url: str | None, digest: str, *, begun: bool) -> str:
    """Return what the study of the search in `folder` is called; digest: of the search.

    A database may hold several searches for the same thing: there a name is of one folder, which keeps it in a file.
    begun: whether there is a search in the folder already, which an earlier release may have named otherwise.
    """
    name = f"della-bench-{digest[:16]}"
    if url is None:
        return name
    path = folder / _STUDY
    if begun and not path.is_file():
        return name
    kept = path.read_text(encoding="utf-8").strip() if path.is_file() else ""
    if not kept.startswith(name):
        kept = f"{name}-{uuid.uuid4().hex[:8]}"
        write_whole(path, f"{kept}\n")
    return kept


def check_storage(url: str | None) -> None:
    """Raise UsageError where a database cannot be reached, or a file is none; nothing is written there."""
    if url is None:
        return
    import sqlalchemy

    try:
        engine = sqlalchemy.create_engine(url)
        file = engine.url.database
        if engine.dialect.name != "sqlite":
            engine.connect().close()
        elif file and Path(file).exists():
            with engine.connect() as connection:  # which opens the file only when it reads
                connection.exec_driver_sql("PRAGMA schema_version")
        elif file and not Path(file).absolute().parent.is_dir():  # connecting would make the file
            raise FileNotFoundError(f"there is no folder {Path(file).absolute().parent}")
    except Exception as error:  # of SQLAlchemy, of the database's driver, ...
        raise _unreachable(url, error) from None


def _unreachable(url: str, error: Exception) -> UsageError:
    reason = " ".join(str(error).split("\n")[0].split()) or type(error).__name__
    return UsageError(f"{_without_password(url)}: cannot be reached: {reason}", argument="storage")


def _without_password(url: str) -> str:
    hidden = re.sub(r"(://[^:/@]+):.*@", r"\1:***@", url)
    return re.sub(r"([?&](?:password|passwd|pwd)=)[^&]*", r"\1***", hidden)

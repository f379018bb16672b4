"""A study in a database: a real PostgreSQL server, which the test starts in a folder of its own."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

SERVERS = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))


def _unprivileged() -> dict[str, int]:
    """Return whom the server runs as: it refuses to be root."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            found = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": found.pw_uid, "group": found.pw_gid}
    pytest.skip("PostgreSQL refuses to run as root, and there is no other user")


@pytest.fixture
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if not SERVERS:
        pytest.skip("PostgreSQL is not installed")
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix="della-bench-postgres-"))  # pytest's own folders are for their owner alone
    who = _unprivileged()
    if who:
        os.chown(folder, who["user"], who["group"])
    bin_, data = SERVERS[-1].parent, folder / "data"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    quiet = {"check": True, "stdout": subprocess.DEVNULL, "cwd": folder, **who}
    subprocess.run([bin_ / "initdb", "-D", data, "-U", "tester", "-A", "trust", "--no-sync"], **quiet)  # type: ignore[call-overload]
    options = f"-c listen_addresses=127.0.0.1 -p {port} -c fsync=off -k {folder}"
    control = [bin_ / "pg_ctl", "-D", data, "-w", "-t", "60", "-l", folder / "log"]
    subprocess.run([*control, "-o", options, "start"], **quiet)  # type: ignore[call-overload]
    try:
        yield f"postgresql+psycopg://tester@127.0.0.1:{port}/postgres"
    finally:
        subprocess.run([*control, "-m", "immediate", "stop"], **quiet)  # type: ignore[call-overload]
        shutil.rmtree(folder, ignore_errors=True)


def test_a_database_holds_the_study_and_the_search_goes_on_from_it(postgres, searched, worker, tmp_path):
    import optuna

    first = searched(storage=postgres, search={"trials": 5})
    assert not (tmp_path / "out" / "optuna.journal").exists()
    (name,) = optuna.get_all_study_names(storage=postgres)
    trials = optuna.load_study(study_name=name, storage=postgres).trials
    assert [trial.user_attrs["folder"] for trial in trials] == [
        each.folder.name for each in first.candidates if each.number is not None
    ]
    worker.asked.clear()
    more = searched(storage=postgres, search={"trials": 7})
    whole = searched("at once", search={"trials": 7})
    assert [each.spec for each in more.candidates] == [each.spec for each in whole.candidates]
    assert len(optuna.load_study(study_name=name, storage=postgres).trials) == 7

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from della_bench.errors import DataError
from della_bench.lock import folder_lock, is_held

HOLD = """
import sys, time
from pathlib import Path
from della_bench.lock import folder_lock
with folder_lock(Path(sys.argv[1]), wait=True) as mine:
    print(mine, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "True\n"
    yield process
    process.kill()
    process.wait()


def test_another_process_does_not_get_a_lock_that_is_held(tmp_path, holder):
    with folder_lock(tmp_path, wait=False) as mine:
        assert mine is False
    assert str(holder.pid) in (tmp_path / ".lock").read_text()


def test_a_dead_process_holds_no_lock(tmp_path, holder):
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    with folder_lock(tmp_path, wait=False) as mine:
        assert mine is True


def fail_inside(folder):
    with folder_lock(folder, wait=False) as mine:
        assert mine
        raise ZeroDivisionError


def test_a_lock_is_free_again_after_use_and_after_an_error(tmp_path):
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            fail_inside(tmp_path / "new")


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"), folder_lock(tmp_path / "file" / "run", wait=False):
        pass


def test_who_looks_sees_whether_a_lock_is_held_and_writes_nothing(tmp_path, holder):
    assert is_held(tmp_path)
    told = (tmp_path / ".lock").read_text()
    holder.kill()
    holder.wait()
    assert not is_held(tmp_path)
    assert (tmp_path / ".lock").read_text() == told
    assert not is_held(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()

"""A search on real workers of Ray, with a real engine: the zoo's, on few items."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from della_bench.cli import main
from della_bench.search import host, spread
from della_bench.workers.worker import Worker
from tests.clustering import actors
from tests.search.test_search import table
from tests.search.test_spread import contents
from tests.waiting import until

pytest.importorskip("ray", reason="Ray is not installed")
pytestmark = [pytest.mark.ray, pytest.mark.xdist_group("ray")]

SPACE = """
base: zoo:base
experts: [zoo:math, zoo:code]
merge_method: {choices: [task_arithmetic, ties]}
density: {low: 0.3, high: 0.9}
lambda: {low: 0.5, high: 1.2}
search:
  benchmarks: [zoo_math, zoo_code]
  sampler: random
  trials: 4
  race: false
  experts: false
  finalists: 2
  items: {search: 4, select: 2, test: 4}
"""


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("space") / "space.yaml"
    path.write_text(SPACE)
    return path


@pytest.fixture(scope="module")
def alone(space: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a search of one process."""
    out = tmp_path_factory.mktemp("alone") / "out"
    search(space, out)
    return out


def arguments(space: Path, out: Path, more: Sequence[str]) -> list[str]:
    return ["search", str(space), "--out", str(out), "--device", "cpu", "--batch-size", "4", *more]


def search(space: Path, out: Path, *more: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments(space, out, more))
    assert ended.value.code == 0


def same(out: Path, alone: Path) -> bool:
    winners = [(each / "winner.yaml").read_text() for each in (out, alone)]
    return (table(out), contents(out), winners[0]) == (table(alone), contents(alone), winners[1])


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Kill the first worker of this process that is asked something; the process is in the list from then on."""
    pids: list[int] = []

    def asker(worker: Worker) -> Any:
        def ask(*asked: Any) -> Any:
            if not pids:
                pids.append(worker.pid)
                os.kill(worker.pid, signal.SIGKILL)
            return host.asker(worker)(*asked)

        return ask

    monkeypatch.setattr(spread, "asker", asker)
    return pids


def test_a_killed_driver_takes_its_workers_along_and_the_same_command_goes_on_though_a_worker_is_killed(
    space, alone, address, tmp_path, killed, capsys
):
    """It leaves what one process leaves; one test, because workers take ten seconds to start."""
    out, shared = tmp_path / "out", ["--workers", "2", "--ray", address]
    command = [sys.executable, "-m", "della_bench.cli", *arguments(space, out, shared)]
    driver = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    until(lambda: any(out.glob("runs/*/results_*.json")))
    os.killpg(driver.pid, signal.SIGKILL)
    driver.communicate()
    until(lambda: not actors())
    known = {path: path.stat().st_mtime_ns for path in out.glob("runs/*/results_*.json")}
    search(space, out, *shared)
    told = capsys.readouterr().err
    assert killed
    assert told.count("is lost: the worker's process has died") == 1
    assert "of its time idle" in told
    assert same(out, alone)
    assert {path: path.stat().st_mtime_ns for path in known} == known
    until(lambda: not actors())

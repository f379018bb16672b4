"""A run spread over workers ends as a run of one process does, whatever dies on the way."""

from __future__ import annotations

import csv
import os
import random
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from della_bench.cli import main
from tests.clustering import of_ray
from tests.waiting import until

pytest.importorskip("ray", reason="Ray is not installed")
pytestmark = [pytest.mark.ray, pytest.mark.xdist_group("ray")]

SPECS = """
- {base: "zoo:base", experts: "zoo:math+zoo:code", merge_method: ties, density: 0.5, name: ties}
- {base: "zoo:base", experts: "zoo:math+zoo:code", merge_method: task_arithmetic, lambda: 0.5, name: ta}
- {base: "zoo:base", experts: "zoo:math+zoo:chat", merge_method: dare_ties, density: 0.5, name: dare ties}
- {base: "zoo:base", experts: "zoo:math+zoo:chat", merge_method: della, density: 0.6, epsilon: 0.1, name: della}
"""
ARGUMENTS = ["--benchmarks", "zoo_math,zoo_code", "--limit", "4", "--batch-size", "4", "--device", "cpu"]
KILLS = int(os.environ.get("DELLA_BENCH_TEST_KILLS", "1"))
_TIME = re.compile(r"20\d\d-\d\d-\d\dT\d\d-\d\d-\d\d\.\d+")
# What a results file says of times, machine and checkout, and a score of its samples file's name.
_VARYING = re.compile(
    r'"(date|start_time|end_time|total_evaluation_time_seconds|seconds|pretty_env_info|git_hash|digest)": '
    r'("[^"]*"|[\d.]+),?'
)


@pytest.fixture(scope="module")
def specs(tmp_path_factory):
    path = tmp_path_factory.mktemp("specs") / "specs.yaml"
    path.write_text(SPECS)
    return path


@pytest.fixture(scope="module", autouse=True)
def environment():
    """The command sets these, for its whole process."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("TQDM_DISABLE", "TOKENIZERS_PARALLELISM"):
            patch.setenv(name, "1")
        yield


@pytest.fixture(scope="module")
def alone(specs, tmp_path_factory):
    """The folder of a run of one process."""
    out = tmp_path_factory.mktemp("alone")
    run(out, specs)
    return out


def arguments(out, specs, *more):
    return ["run", str(specs), *ARGUMENTS, *more, "--out", str(out)]


def run(out, specs, *more):
    """Run to the end in this process, which has imported everything."""
    with pytest.raises(SystemExit) as ended:
        main(arguments(out, specs, *more))
    assert ended.value.code == 0


def start(out, specs, *more):
    command = [sys.executable, "-m", "della_bench.cli", *arguments(out, specs, *more)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)


def finish(process):
    _, told = process.communicate()
    assert process.returncode == 0, told.decode()


def contents(out: Path) -> dict[str, str]:
    """Return all run files by name, without times and what depends on them; provenance and locks aside."""
    files = (path for path in out.glob("*/**/*") if path.is_file() and path.suffix in (".json", ".jsonl", ".yaml"))
    return {
        _TIME.sub("T", f"{path.relative_to(out)} {'zoo_math' in path.read_text()}"): _VARYING.sub(
            "", _TIME.sub("T", path.read_text())
        )
        for path in files
        if path.name != "provenance.json"
    }


def table(out: Path, tmp_path: Path) -> list[list[str]]:
    """Return the leaderboard without its dates."""
    with pytest.raises(SystemExit):
        main(["leaderboard", str(out), "-o", str(tmp_path / "leaderboard.csv"), "--strict"])
    rows = list(csv.reader((tmp_path / "leaderboard.csv").read_text().splitlines()))
    date = rows[0].index("date")
    return sorted([field for index, field in enumerate(row) if index != date] for row in rows)


def test_killed_drivers_take_their_ray_along_and_two_workers_then_leave_what_one_process_leaves(alone, specs, tmp_path):
    """The first is killed once there is a result; DELLA_BENCH_TEST_KILLS says how many more are, at random moments."""
    expected = contents(alone)
    assert len(expected) == 4 * (1 + 2 * 2 + 2 * 2)
    done, rounds = 0, 0
    while done < KILLS:
        rounds += 1
        out = tmp_path / f"killed {rounds}"
        while done < KILLS:
            process = start(out, specs, "--workers", "2")
            if not kill(process, out, None if done == 0 else random.uniform(1, 40)):
                break
            done += 1
            print(f"kill {done}, results: {len(list(out.glob('*/results_*')))}", flush=True)
        run(out, specs, "--workers", "2")
        assert contents(out) == expected
        assert table(out, tmp_path) == table(alone, tmp_path)
        logs = sorted(path.name for path in (out / "workers").iterdir())
        assert logs == ["worker-1.log", "worker-2.log"]
        assert of_ray() == []


def kill(process: subprocess.Popen[bytes], out: Path, moment: float | None) -> bool:
    """Kill a driver after so many seconds, None: once there is a result; False where it has ended by itself."""
    if moment is None:
        until(lambda: list(out.glob("*/results_*.json")))
    else:
        with suppress(subprocess.TimeoutExpired):
            process.wait(moment)
    if process.poll() is not None:
        finish(process)
        return False
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    until(lambda: not of_ray())
    return True


def test_ctrl_c_ends_the_workers_and_leaves_nothing_running(specs, tmp_path):
    out = tmp_path / "interrupted"
    # A shell's background jobs inherit that it is ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = start(out, specs, "--workers", "1")
    finally:
        signal.signal(signal.SIGINT, before)
    until(lambda: list(out.glob("workers/worker-1.log")))
    process.send_signal(signal.SIGINT)
    _, told = process.communicate()
    assert process.returncode != 0, told.decode()
    assert of_ray() == []

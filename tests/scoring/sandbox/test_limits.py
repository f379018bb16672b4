"""What programs may use up: inherited hard limits, time without computing, and folders that a killed run left."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from della_bench.scoring.sandbox import Level, Limits, Program, run
from della_bench.scoring.sandbox.inside import system
from della_bench.scoring.sandbox.levels import LEVELS, why_not
from della_bench.scoring.sandbox.pool import run_at
from della_bench.scoring.sandbox.scratch import PREFIX, Scratch

RIGHT = Program("right", "def f(x):\n    return x + 1", ("assert f(1) == 2",))
ASLEEP = Program("asleep", "import time\ndef f(x):\n    time.sleep(1000)", ("assert f(1) == 2",))
UNDER = """
import logging, resource, sys
logging.basicConfig(format="%(message)s")
resource.setrlimit(getattr(resource, sys.argv[1]), (int(sys.argv[2]),) * 2)
from della_bench.errors import SandboxError
from della_bench.scoring.sandbox import Level, Program, run
try:
    [outcome] = run([Program("right", "def f(x): return x + 1", ("assert f(1) == 2",))], level=Level(sys.argv[3]))
    print(outcome.verdict, outcome.explanation)
except SandboxError as error:
    print(error)
"""


def under(level: Level, name: str, bound: int) -> tuple[str, str]:
    """Return what a process with a hard limit prints of a right program, and what it logs."""
    command = [sys.executable, "-c", UNDER, name, str(bound), level.name]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout, done.stderr


@pytest.mark.parametrize(
    ("name", "bound", "option"),
    [
        ("RLIMIT_NOFILE", 60, "-n"),
        ("RLIMIT_AS", 800 << 20, "-v"),
        ("RLIMIT_FSIZE", 8 << 20, "-f"),
        ("RLIMIT_NPROC", 40, "-u"),
    ],
)
def test_a_lower_hard_limit_counts_and_is_named(level: Level, name: str, bound: int, option: str):
    said, logged = under(level, name, bound)
    assert said.startswith("passed") or (name == "RLIMIT_NPROC" and f"ulimit -H {option}" in said)
    assert f"ulimit -H {option}" in logged
    assert str(bound) in logged


def test_a_hard_limit_too_low_for_any_sandbox_is_refused_by_name(level: Level):
    said, _ = under(level, "RLIMIT_NOFILE", 30)
    assert "the hard limit on open files (ulimit -H -n) is 30: no sandbox works with less than 40" in said


@pytest.mark.parametrize("name", LEVELS)
def test_what_does_nothing_is_ended_after_its_wall_time_and_not_after_ten_times_that(name):
    reason = why_not(name)
    if reason:
        pytest.skip(f"{name}: {reason}")
    limits = Limits(cpu_seconds=20, wall_seconds=0.5)
    [outcome] = run_at(name, [ASLEEP], limits)
    assert (outcome.verdict, outcome.explanation) == ("timeout", "no end after 0.5 s")
    assert outcome.cpu_seconds < 5


@pytest.mark.parametrize("name", LEVELS)
def test_threads_that_wake_at_once_and_wait_for_each_other_do_not_make_a_sleeper_busy(name):
    reason = why_not(name)
    if reason:
        pytest.skip(f"{name}: {reason}")
    path = Path(__file__).parents[2] / "attacks" / "programs" / "sleeping_in_many_threads.py"
    code = path.read_text().replace("range(20)", "range(50)")
    limits = Limits(cpu_seconds=2, wall_seconds=0.5)
    [outcome] = run_at(name, [Program("asleep", code, ("assert f(1) == 2",))], limits)
    assert (outcome.verdict, outcome.explanation) == ("timeout", "no end after 0.5 s")


def test_a_program_that_computes_is_not_idle(level: Level):
    code = "def f(x):\n    for _ in range(20_000_000):\n        x += 0\n    return x + 1"
    [outcome] = run(
        [Program("busy", code, ("assert f(1) == 2",))], Limits(cpu_seconds=60, wall_seconds=0.5), level=level
    )
    assert outcome.verdict == "passed"


def test_counting_the_files_of_a_program_changes_nothing_that_its_links_lead_to(tmp_path: Path):
    outside, inside = tmp_path / "outside", tmp_path / "inside"
    for folder in (outside, inside):
        folder.mkdir(mode=0o755)
    (outside / "file").write_text("x" * 10_000)
    (inside / "link").symlink_to(outside)
    count, size = system.files_below(str(inside))
    assert (count, outside.stat().st_mode & 0o777) == (1, 0o755)
    assert size < 10_000


def test_a_folder_of_a_killed_run_is_removed_by_the_next_start_and_one_in_use_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    script = (
        "import os, signal\nfrom della_bench.scoring.sandbox.scratch import Scratch\n"
        "path = Scratch().path\nos.mkdir(path + '/hidden')\nopen(path + '/hidden/file', 'w').close()\n"
        "os.chmod(path + '/hidden', 0)\nos.chdir(path)\n"
        "for _ in range(3000):\n    os.mkdir('d')\n    os.chdir('d')\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", script], env={"TMPDIR": str(tmp_path), "PYTHONPATH": ":".join(sys.path)})
    [left] = tmp_path.glob(PREFIX + "*")
    in_use = Scratch()
    assert not left.exists()
    other = Scratch()
    assert Path(in_use.path).exists()
    in_use.close()
    other.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.exhaustive
def test_a_loop_that_the_clock_of_a_busy_machine_catches_at_each_tick_meets_its_own_limit_first(level: Level):
    # Each of these sleeps at most ticks, so that the loop pays for what they ran.
    code = "import time\nwhile True:\n    end = time.monotonic() + 0.002\n    while time.monotonic() < end: pass\n"
    code += "    time.sleep(0.001)\n"
    others = [
        subprocess.Popen([sys.executable, "-c", code], start_new_session=True) for _ in range(4 * (os.cpu_count() or 1))
    ]
    try:
        endless = Program("endless", "def f(x):\n    while True: pass", ("assert f(1) == 2",))
        [outcome] = run([endless], Limits(cpu_seconds=8), level=level)
    finally:
        for other in others:
            other.kill()
            other.wait()
    assert outcome.verdict == "timeout", outcome

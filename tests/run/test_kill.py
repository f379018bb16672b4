"""A run that is killed again and again ends in the table of a run that nobody disturbed."""

from __future__ import annotations

import csv
import io
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from della_bench.cli import main

EXPERTS = "base=zoo:base,experts=zoo:math+zoo:code+zoo:chat"
SPECS = [
    f"{EXPERTS},merge_method=task_arithmetic,lambda=0.7,name=task_arithmetic",
    f"{EXPERTS},merge_method=dare_ties,drop_rate=0.3,lambda=0.7,name=dare_ties",
    f"{EXPERTS},merge_method=ties,drop_rate=0.3,lambda=1.3,name=ties",
    f"{EXPERTS},merge_method=della,drop_rate=0.3,window_size=0.14,lambda=1.3,name=della",
]
ALL = [*SPECS, "--with-base", "--with-experts", "--benchmarks", "zoo_math,zoo_code,zoo_chat"]
KILLS = int(os.environ.get("DELLA_BENCH_TEST_KILLS", "3"))


def start(out, arguments):
    command = [sys.executable, "-m", "della_bench.cli", "run", *arguments, "--out", str(out)]
    # A group of its own: a kill reaches what the process has started, too.
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)


def finish(process):
    _, told = process.communicate()
    assert process.returncode == 0, told.decode()


def kill_at(process, moment):
    """Kill the process so many seconds after its start; returns False where it has ended before."""
    try:
        process.wait(moment)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return True
    finish(process)
    return False


def table(runs, tmp_path):
    """Return the leaderboard without its dates, as text."""
    with pytest.raises(SystemExit) as ended:
        main(["leaderboard", str(runs), "-o", str(tmp_path / "leaderboard.csv"), "--strict"])
    assert ended.value.code == 0
    text = (tmp_path / "leaderboard.csv").read_bytes().decode()
    rows = list(csv.reader(io.StringIO(text, newline="")))
    date = rows[0].index("date")
    return rows, [[field for index, field in enumerate(row) if index != date] for row in rows]


def check_kills(tmp_path, arguments, kills, rows):
    began = time.monotonic()
    finish(start(tmp_path / "whole", arguments))
    horizon = time.monotonic() - began
    _, undisturbed = table(tmp_path / "whole", tmp_path)
    assert len(undisturbed) == rows + 1
    moments = random.Random()
    done: list[str] = []
    rounds = 0
    while len(done) < kills:
        # What is left is done sooner and sooner: a run that has ended begins anew in an empty folder.
        rounds += 1
        runs = tmp_path / f"killed {rounds}"
        moment = moments.uniform(0, horizon)
        while len(done) < kills and kill_at(start(runs, arguments), moment):
            done.append(f"{moment:.1f} s of run {rounds}, scores so far {len(list(runs.glob('*/scores/*.json')))}")
            print("killed after", done[-1], flush=True)
            moment = moments.uniform(0, horizon)
        finish(start(runs, arguments))
        assert table(runs, tmp_path)[1] == undisturbed, done
    print(f"{len(done)} kills, {rounds} runs; undisturbed {horizon:.0f} s", flush=True)


@pytest.mark.exhaustive
def test_kills_at_random_moments_change_nothing_but_dates(tmp_path):
    arguments = [*SPECS[2:], "--benchmarks", "zoo_math,zoo_code", "--limit", "4", "--batch-size", "4"]
    check_kills(tmp_path, arguments, KILLS, rows=2)

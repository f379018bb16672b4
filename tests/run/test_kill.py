"""A run that is killed again and again ends in the table of a run that nobody disturbed."""

from __future__ import annotations

import csv
import io
import random

import pytest

from della_bench.cli import main
from tests.killing import KILLS, Killer

EXPERTS = "base=zoo:base,experts=zoo:math+zoo:code+zoo:chat"
SPECS = [
    f"{EXPERTS},merge_method=task_arithmetic,lambda=0.7,name=task_arithmetic",
    f"{EXPERTS},merge_method=dare_ties,drop_rate=0.3,lambda=0.7,name=dare_ties",
    f"{EXPERTS},merge_method=ties,drop_rate=0.3,lambda=1.3,name=ties",
    f"{EXPERTS},merge_method=della,drop_rate=0.3,window_size=0.14,lambda=1.3,name=della",
]
ALL = [*SPECS, "--with-base", "--with-experts", "--benchmarks", "zoo_math,zoo_code,zoo_chat"]
# What takes most of a start.
IMPORTED = ["lm_eval.evaluator", "della_bench.run.runner", "della_bench.run.evaluation", "della_bench.models.hf"]


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
    def running(out):
        return Killer(["run", *arguments, "--out", out], tmp_path / "told.txt", also=IMPORTED)

    whole = running(tmp_path / "whole")
    whole.finish()
    _, undisturbed = table(tmp_path / "whole", tmp_path)
    assert len(undisturbed) == rows + 1
    moments = random.Random()
    done = rounds = 0
    while done < kills:
        # What is left is done sooner and sooner: a run that has ended begins anew in an empty folder.
        rounds += 1
        runs = tmp_path / f"killed {rounds}"
        killer = running(runs)
        killer.horizon = whole.horizon
        while done + killer.kills < kills and killer.kill(moments):
            print(f"run {rounds}: killed, scores so far {len(list(runs.glob('*/scores/*.json')))}", flush=True)
        killer.finish()
        done += killer.kills
        assert table(runs, tmp_path)[1] == undisturbed, f"after {killer.kills} kills"
    print(f"{done} kills, {rounds} runs; undisturbed {whole.horizon:.0f} s", flush=True)


@pytest.mark.exhaustive
def test_kills_at_random_moments_change_nothing_but_dates(tmp_path):
    arguments = [*SPECS[2:], "--benchmarks", "zoo_math,zoo_code", "--limit", "4", "--batch-size", "4"]
    check_kills(tmp_path, arguments, KILLS, rows=2)

"""A leaderboard that is killed while it is written leaves the old table or the new one, and never touches a run."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.killing import KILLS, Killer, contents
from tests.results.making import plain_folder

pytestmark = pytest.mark.exhaustive


def test_a_killed_leaderboard_leaves_whole_files_and_its_runs_alone(tmp_path: Path) -> None:
    runs, out = tmp_path / "runs", tmp_path / "out"
    for number in range(6):
        plain_folder(runs / str(number), f"model {number}", {"math": [float(i % (number + 2) > 0) for i in range(200)]})
    before = contents(runs)
    killer = Killer(["leaderboard", runs, "-o", out / "table.csv", "--html", out / "table.html"], tmp_path / "told.txt")
    killer.finish()
    whole = contents(out)
    plain_folder(runs / "new", "a new model", {"math": [1.0] * 200})
    with_new = contents(runs)
    killer.finish()
    new = contents(out)
    old_csv, old_html = whole["table.csv"], whole["table.html"]
    moments = random.Random()
    while killer.kills < KILLS:
        for name in ("table.csv", "table.html"):
            (out / name).write_bytes(b"old")
        old = contents(out)
        killer.kill(moments)
        found = contents(out)
        for name in ("table.csv", "table.html"):
            assert found[name] in (old[name], new[name]), name
        assert contents(runs) == with_new
    assert {name: with_new[name] for name in before} == before
    assert (old_csv, old_html) != (new["table.csv"], new["table.html"])
    killer.finish()
    assert {name: contents(out)[name] for name in new} == new
    print(f"{killer.kills} kills, undisturbed {killer.horizon:.1f} s", flush=True)

"""The data sets' own solutions; tests/scoring/code/test_command.py has those of MBPP in full, by the way of users."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from typing import Any

import pytest

from della_bench import data
from della_bench.scoring.sandbox import Level, Program, run

pytestmark = [pytest.mark.real_data, pytest.mark.exhaustive]


def mbpp() -> list[Program]:
    rows: list[dict[str, Any]] = list(data.load("mbpp"))
    return [Program(str(row["task_id"]), row["code"], tuple(row["test_list"]), row["test_setup_code"]) for row in rows]


def test_all_164_of_humanevals_solutions_pass_in_one_namespace(level: Level):
    rows: list[dict[str, Any]] = list(data.load("humaneval"))
    programs = [
        Program(
            row["task_id"], row["prompt"] + row["canonical_solution"], f"{row['test']}\ncheck({row['entry_point']})"
        )
        for row in rows
    ]
    outcomes = run(programs, level=level, in_one_namespace=True)
    assert Counter(outcome.verdict for outcome in outcomes) == {"passed": 164}


def test_verdicts_do_not_depend_on_workers_or_load(level: Level):
    # Without 123, which takes 3 to 5 s: what takes about the limit is judged by the processor's speed.
    programs = [
        *[program for program in mbpp() if program.key != "123"][::5],
        Program("wrong", "def f(x):\n    return x", ("assert f(1) == 2",)),
        Program("endless", "def f(x):\n    while True: pass", ("assert f(1) == 2",)),
        Program("raises", "def f(x):\n    return x / 0", ("assert f(1) == 2",)),
    ]

    def verdicts(workers: int) -> dict[str, str]:
        outcomes = run(programs, level=level, workers=workers)
        return {p.key: outcome.verdict for p, outcome in zip(programs, outcomes, strict=True)}

    alone = verdicts(1)
    assert Counter(alone.values()) == {"passed": 100, "failed": 1, "timeout": 1, "error": 1}
    for workers in (2, 8):
        assert verdicts(workers) == alone
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
    try:
        assert verdicts(2) == alone
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()

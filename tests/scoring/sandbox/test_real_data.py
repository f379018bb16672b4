"""The data sets' own solutions."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from typing import Any

import pytest

from della_bench import data
from della_bench.scoring.sandbox import Level, Limits, Program, run

pytestmark = [pytest.mark.real_data, pytest.mark.exhaustive]


def mbpp(*, setup: bool) -> list[Program]:
    rows: list[dict[str, Any]] = list(data.load("mbpp"))
    return [
        Program(str(row["task_id"]), row["code"], tuple(row["test_list"]), row["test_setup_code"] if setup else "")
        for row in rows
    ]


def test_all_500_of_mbpps_solutions_pass_with_setup_code_and_ten_seconds(level: Level):
    outcomes = run(mbpp(setup=True), Limits(cpu_seconds=10), level=level)
    assert Counter(outcome.verdict for outcome in outcomes) == {"passed": 500}


def test_in_one_namespace_and_three_seconds_only_those_fail_that_bigcode_fails(level: Level):
    programs = mbpp(setup=False)
    outcomes = run(programs, Limits(cpu_seconds=3), level=level, in_one_namespace=True)
    wrong = {
        p.key: outcome.verdict for p, outcome in zip(programs, outcomes, strict=True) if outcome.verdict != "passed"
    }
    assert wrong.pop("367") == "error"  # it needs its setup code
    assert wrong in ({"123": "timeout"}, {})  # 4 to 5 seconds of CPU time


@pytest.mark.parametrize("in_one_namespace", [False, True])
def test_all_164_of_humanevals_solutions_pass(level: Level, in_one_namespace: bool):
    rows: list[dict[str, Any]] = list(data.load("humaneval"))
    programs = [
        Program(
            row["task_id"], row["prompt"] + row["canonical_solution"], f"{row['test']}\ncheck({row['entry_point']})"
        )
        for row in rows
    ]
    outcomes = run(programs, level=level, in_one_namespace=in_one_namespace)
    assert Counter(outcome.verdict for outcome in outcomes) == {"passed": 164}


def test_verdicts_do_not_depend_on_workers_or_load(level: Level):
    # At ten seconds: 123 takes 3 to 5 s, and what takes about the limit is judged by the processor's speed.
    programs = [
        *mbpp(setup=True),
        Program("wrong", "def f(x):\n    return x", ("assert f(1) == 2",)),
        Program("endless", "def f(x):\n    while True: pass", ("assert f(1) == 2",)),
        Program("raises", "def f(x):\n    return x / 0", ("assert f(1) == 2",)),
    ]

    def verdicts(workers: int) -> dict[str, str]:
        outcomes = run(programs, Limits(cpu_seconds=10), level=level, workers=workers)
        return {p.key: outcome.verdict for p, outcome in zip(programs, outcomes, strict=True)}

    alone = verdicts(1)
    assert Counter(alone.values()) == {"passed": 500, "failed": 1, "timeout": 1, "error": 1}
    for workers in (2, 4, 8):
        assert verdicts(workers) == alone
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
    try:
        assert verdicts(2) == alone
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()

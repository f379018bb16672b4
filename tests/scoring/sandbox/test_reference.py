"""A thousand right programs and a thousand with one small change get the verdicts of a plain harness."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from della_bench import data
from della_bench.scoring.sandbox import Level, Limits, Program, find_level, run
from tests.scoring.sandbox import reference
from tests.scoring.sandbox.mutants import mutated

pytestmark = [pytest.mark.real_data, pytest.mark.exhaustive]

# Where a verdict may differ, and why.
CAUSES = {
    "timeout": "a limit of CPU time is met by one and just not by the other",
    "memory": "two processes hold what one would",
    "recursion": "a limit on depth is met a few frames sooner or later",
}


def right_programs() -> list[Program]:
    rows = [row for split in ("mbpp", "mbpp_train_validation") for row in mbpp(split)]
    programs = [
        Program(str(row["task_id"]), row["code"], tuple(row["test_list"]), row["test_setup_code"]) for row in rows
    ]
    for row in data.load("humaneval"):
        tests = f"{row['test']}\ncheck({row['entry_point']})"
        programs.append(Program(row["task_id"], row["prompt"] + row["canonical_solution"], tests))
    return programs[:1000]


def mbpp(name: str) -> list[dict[str, str]]:
    if name == "mbpp":
        return list(data.load("mbpp"))
    path = Path(os.environ["DELLA_BENCH_DATA"]) / f"{name}.jsonl"
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def wrong_programs(right: list[Program]) -> list[Program]:
    chance = random.Random(16)
    changed = [(program, mutated(program.code, chance)) for program in right]
    return [Program(program.key, code, program.tests, program.setup) for program, code in changed if code is not None]


def by_the_reference(programs: list[Program]) -> list[bool]:
    sources = ["\n".join((program.code, program.setup, program.test_source)) for program in programs]
    done = subprocess.run(
        [sys.executable, "-s", "-S", reference.__file__],
        input="".join(json.dumps({"source": source}) + "\n" for source in sources),
        env={"PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        check=True,
    )
    return [line == "True" for line in done.stdout.splitlines()]


@pytest.mark.parametrize("kind", ["right", "changed"])
def test_verdicts_equal_those_of_a_plain_harness_but_for_named_causes(level: Level, kind: str):
    right = right_programs()
    programs = right if kind == "right" else wrong_programs(right)
    assert len(programs) >= 950
    limits = Limits(cpu_seconds=reference.CPU_SECONDS)
    outcomes = run(programs, limits, level=find_level(only=level.name))
    expected = by_the_reference(programs)
    differing = [
        (program.key, outcome.verdict, outcome.explanation)
        for program, outcome, passed in zip(programs, outcomes, expected, strict=True)
        if (outcome.verdict == "passed") != passed and outcome.verdict not in CAUSES
    ]
    assert [one for one in differing if "RecursionError" not in one[2]] == []
    assert not any(outcome.verdict == "sandbox" or outcome.own_word for outcome in outcomes)

"""Five hundred right programs and as many with one small change get the verdicts of a plain harness."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from della_bench import data
from della_bench.scoring.sandbox import Level, Limits, Outcome, Program, find_level, run
from tests.scoring.sandbox import reference
from tests.scoring.sandbox.mutants import mutated

pytestmark = [pytest.mark.real_data, pytest.mark.exhaustive]

# Why a verdict may differ, and of how many of 500 programs at most. Each is a limit that both have and that one meets
# just before the other. None of 2,000 differed, on two cores that were shared by twenty processes.
CAUSES = {
    "timeout": ("the limit of CPU time, of which the sandbox measures the program's own alone", 1),
    "memory": ("the limit of memory: two processes hold what one would", 1),
    "recursion": ("the limit of depth: a few frames of the sandbox's own lie below the program's", 1),
}


def cause(outcome: Outcome) -> str:
    """Return the name in CAUSES of why a verdict differs, or the verdict with its explanation."""
    if "RecursionError" in outcome.explanation:
        return "recursion"
    return outcome.verdict if outcome.verdict in CAUSES else f"{outcome.verdict}: {outcome.explanation}"


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
    solutions = right_programs()
    programs = solutions[::2] if kind == "right" else wrong_programs(solutions[1::2])
    assert len(programs) >= 475
    limits = Limits(cpu_seconds=reference.CPU_SECONDS)
    outcomes = run(programs, limits, level=find_level(only=level.name))
    expected = by_the_reference(programs)
    differing = Counter(
        cause(outcome)
        for outcome, passed in zip(outcomes, expected, strict=True)
        if (outcome.verdict == "passed") != passed
    )
    print(f"{len(programs)} {kind} programs, verdicts that differ by cause: {dict(differing)}")
    assert set(differing) <= set(CAUSES), differing
    assert all(count <= CAUSES[name][1] for name, count in differing.items()), differing
    assert not any(outcome.verdict == "sandbox" or outcome.own_word for outcome in outcomes)

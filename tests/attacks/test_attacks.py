"""Hostile programs: each file of programs/ says in its first line what it tries, and what verdict that must get.

A program that is about containment answers rightly where it reached nothing, so `passed` says that it is contained; one
that is about the verdict answers wrongly, so that it must not pass.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from della_bench.scoring.sandbox import Limits, Outcome, Program
from della_bench.scoring.sandbox.levels import LEVELS, why_not
from della_bench.scoring.sandbox.pool import run_at
from della_bench.scoring.sandbox.types import VERDICTS, LevelName
from tests.attacks.host import Host, a_host, state

PROGRAMS = sorted((Path(__file__).parent / "programs").glob("*.py"))
NAMES = [path.stem for path in PROGRAMS]
TESTS = ("assert f(1) == 2", "assert f(20) == 21", "assert abs(f(3) - 4) == 0 and len([f(4)]) == 1")
LIMITS = Limits(
    cpu_seconds=1, wall_seconds=1, memory_bytes=256 << 20, file_bytes=4 << 20, output_bytes=1000, threads=32
)


def expected(path: Path) -> set[str]:
    first = path.read_text().splitlines()[0]
    found = re.fullmatch(r"# Tries .+\. Expect: ([a-z|]+)", first)
    assert found, f"{path.name}: the first line must be '# Tries ... Expect: verdict', is {first!r}"
    return set(found[1].split("|"))


# One process runs them all: the programs of a level run once, for all tests.
pytestmark = pytest.mark.xdist_group("attacks")


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    # A folder for temporary files of its own, or another process's would count as left behind. The sandbox itself has
    # no environment: what it uses on this disk, it is given by the host, from here.
    temporary = tempfile.mkdtemp(prefix="attacks-")
    os.chmod(temporary, 0o755)  # sandboxes run as another user
    with pytest.MonkeyPatch.context() as patch, a_host(tmp_path_factory.mktemp("host")) as found:
        patch.setattr(tempfile, "tempdir", temporary)
        yield found
    shutil.rmtree(temporary)


def attack(host: Host, level: LevelName, names: list[str], limits: Limits = LIMITS, **how: Any) -> dict[str, Outcome]:
    """Run the named programs and return their outcomes; the machine must be as it was."""
    reason = why_not(level)
    if reason:
        pytest.skip(f"{level}: {reason}")
    programs = [Program(path.stem, host.aim(path.read_text()), TESTS) for path in PROGRAMS if path.stem in names]
    before = state(host)
    # Many of them only wait for a limit: with as many more the cores are not idle meanwhile.
    outcomes = run_at(level, programs, limits, 2 * len(os.sched_getaffinity(0)), **how)
    assert state(host) == before
    return {program.key: outcome for program, outcome in zip(programs, outcomes, strict=True)}


@pytest.fixture(scope="module", params=LEVELS)
def warm(request: pytest.FixtureRequest, host: Host) -> dict[str, Outcome]:
    return attack(host, request.param, NAMES)


@pytest.mark.parametrize("level", LEVELS)
def test_no_program_finds_a_note_of_the_one_before_it(level: LevelName, host: Host):
    reason = why_not(level)
    if reason:
        pytest.skip(f"{level}: {reason}")
    paths = [path for path in PROGRAMS if path.stem.startswith("note_")]
    programs = [Program(path.stem, host.aim(path.read_text()), TESTS) for path in paths for _ in range(2)]
    outcomes = run_at(level, programs, LIMITS, workers=1)
    assert [outcome.explanation for outcome in outcomes if outcome.verdict != "passed" or outcome.isolated] == []


@pytest.mark.parametrize("level", LEVELS)
def test_no_program_reaches_one_that_runs_at_the_same_time(level: LevelName, host: Host):
    reason = why_not(level)
    if reason:
        pytest.skip(f"{level}: {reason}")
    paths = [path for path in PROGRAMS if path.stem.startswith("signal_by_")]
    programs = [Program(path.stem, host.aim(path.read_text()), TESTS) for path in paths for _ in range(2)]
    outcomes = run_at(level, programs, LIMITS, workers=2)
    assert [outcome.explanation for outcome in outcomes if outcome.verdict != "passed" or outcome.isolated] == []


@pytest.mark.parametrize("level", LEVELS)
def test_programs_that_try_to_be_unscored_count_as_wrong(level: LevelName, host: Host):
    names = [name for name in NAMES if name.startswith(("frame_", "hash_", "thousands_", "class_that", "line_"))]
    right = [Program("right", "def f(x):\n    return x + 1", TESTS)] * 10
    reason = why_not(level)
    if reason:
        pytest.skip(f"{level}: {reason}")
    hostile = [Program(path.stem, host.aim(path.read_text()), TESTS) for path in PROGRAMS if path.stem in names]
    outcomes = run_at(level, right + hostile, LIMITS)
    assert {outcome.verdict for outcome in outcomes[:10]} == {"passed"}
    assert "sandbox" not in {outcome.verdict for outcome in outcomes}


def test_there_are_at_least_two_hundred_attacks_that_say_what_they_try():
    assert len(PROGRAMS) >= 200
    assert set().union(*map(expected, PROGRAMS)) <= set(VERDICTS) - {"sandbox"}


@pytest.mark.parametrize("path", PROGRAMS, ids=NAMES)
def test_an_attack_is_contained_and_gets_its_verdict(path: Path, warm: dict[str, Outcome]):
    outcome = warm[path.stem]
    assert outcome.verdict in expected(path), outcome
    assert not outcome.isolated, "it made its sandbox fail"


@pytest.mark.parametrize("level", LEVELS)
def test_a_sample_of_attacks_gets_the_same_verdicts_in_isolation(level: LevelName, host: Host):
    names = ["exit_zero", "always_equal", "fork_bomb", "kill_everything", "stop_the_parent", "reading_passwd"]
    names += ["socket_to_loopback", "memory_bomb", "verdict_to_every_descriptor", "close_every_descriptor"]
    outcomes = attack(host, level, names, isolate=True)
    for path in PROGRAMS:
        if path.stem in names:
            assert outcomes[path.stem].verdict in expected(path), (path.stem, outcomes[path.stem])
            assert outcomes[path.stem].isolated


@pytest.mark.parametrize("level", LEVELS)
def test_forgeries_do_not_pass_in_one_namespace_either(level: LevelName, host: Host):
    names = [path.stem for path in PROGRAMS if "passed" not in expected(path) and "timeout" not in expected(path)]
    names.remove("own_builtins_names")  # there its `abs` and `len` are the tests' own, as the semantics have it
    outcomes = attack(host, level, names, in_one_namespace=True)
    wrong = {name: outcome for name, outcome in outcomes.items() if outcome.verdict in ("passed", "sandbox")}
    assert not wrong


@pytest.mark.parametrize("level", LEVELS)
def test_processes_are_contained_and_ended_where_a_program_may_start_them(level: LevelName, host: Host):
    limits = Limits(**{**vars(LIMITS), "processes": 4})
    names = ["fork_bomb", "setsid_grandchild", "subprocess_shell", "kill_everything", "stop_the_parent", "kill_itself"]
    outcomes = attack(host, level, names, limits)
    for path in PROGRAMS:
        if path.stem in names:
            assert outcomes[path.stem].verdict in expected(path), (path.stem, outcomes[path.stem])


def test_output_is_kept_up_to_its_limit(warm: dict[str, Outcome]):
    assert warm["large_output"].output == "x" * LIMITS.output_bytes
    assert len(warm["endless_output"].output) == LIMITS.output_bytes

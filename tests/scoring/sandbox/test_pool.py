"""Programs in parallel: order, faults, interruption, and that nothing is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from della_bench.errors import SandboxError
from della_bench.scoring.sandbox import Level, Limits, Outcome, Program, find_level, levels, run
from della_bench.scoring.sandbox.porter import Porter
from della_bench.scoring.sandbox.slot import Slot
from tests.attacks.host import children

RIGHT = Program("right", "def f(x):\n    return x", ("assert f(1) == 1",))


def test_outcomes_come_in_the_programs_order_and_progress_sees_each_once(level: Level):
    programs = [Program(str(n), f"def f():\n    return {n}", f"assert f() == {n} and {n} % 3") for n in range(12)]
    seen: dict[int, Outcome] = {}
    outcomes = run(programs, level=level, workers=3, progress=seen.__setitem__)
    assert [outcome.verdict for outcome in outcomes] == ["failed" if n % 3 == 0 else "passed" for n in range(12)]
    assert seen == dict(enumerate(outcomes))
    assert {outcome.level for outcome in outcomes} == {level.name}


def test_no_program_is_no_work(level: Level):
    assert run([], level=level) == []


def test_a_sandbox_that_dies_is_replaced_and_its_program_run_again_in_isolation(level: Level):
    with Porter(level.name) as porter, Slot(porter, Limits(), isolate=False, in_one_namespace=False) as slot:
        assert not slot.run(RIGHT).isolated
        assert slot._candidates is not None
        porter.kill(slot._candidates._number)
        again = slot.run(RIGHT)
        assert (again.verdict, again.isolated) == ("passed", True)
        assert not slot.run(RIGHT).isolated


def test_a_sandbox_that_cannot_be_had_is_a_fault_and_no_wrong_answer(level: Level):
    with Porter(level.name) as porter, Slot(porter, Limits(), isolate=False, in_one_namespace=False) as slot:
        porter.close()
        outcome = slot.run(RIGHT)
    assert outcome.verdict == "sandbox"
    assert "porter" in outcome.explanation


def test_an_error_in_progress_ends_everything(level: Level):
    def fail(index: int, outcome: object) -> None:
        raise RuntimeError("stop")

    waiting = Program("waiting", "import time\ntime.sleep(99)", "")
    before = children(os.getpid())
    with pytest.raises(RuntimeError, match="stop"):
        run([RIGHT, *[waiting] * 5], level=level, workers=2, progress=fail)
    assert children(os.getpid()) == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["ctrl-c", "killed"])
def test_an_interrupted_run_leaves_no_process(level: Level, number: signal.Signals, tmp_path: Path):
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(f"""
        import signal
        from della_bench.scoring.sandbox import Level, Program, run
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs inherit that it is ignored
        waiting = Program("waiting", "import time\\ntime.sleep(600)", "")
        quick = Program("quick", "x = 1", "")
        say = lambda index, outcome: print(outcome.verdict, flush=True)
        run([quick, *[waiting] * 4], level=Level({level.name!r}), workers=2, progress=say)
        """)
    )
    process = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "passed\n"
    [porter] = children(process.pid)
    process.send_signal(number)
    _, complaint = process.communicate(timeout=60)
    assert ("KeyboardInterrupt" in complaint) == (number == signal.SIGINT)
    handle = os.pidfd_open(int(porter)) if os.path.exists(f"/proc/{porter}") else None
    if handle is not None:  # it waits for all it started before it ends
        import select

        assert select.select([handle], [], [], 60)[0]
        os.close(handle)
    assert not children(int(porter))


def test_without_a_level_the_refusal_names_each_and_why(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(levels, "why_not", lambda name: f"no {name} today")
    with pytest.raises(
        SandboxError, match=r"(?s)no bubblewrap today.*no namespaces today.*no landlock today.*unsafe runs are allowed"
    ):
        run([RIGHT])
    found = find_level(allow_unsafe=True)
    assert found.name == "none"
    assert [name for name, _ in found.refused] == ["bubblewrap", "namespaces", "landlock"]
    assert run([RIGHT], allow_unsafe=True)[0].level == "none"


def test_the_level_none_must_be_allowed():
    with pytest.raises(SandboxError, match="allowed"):
        run([RIGHT], level=Level("none"))


def test_a_weaker_level_says_what_the_stronger_lacked(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(levels, "why_not", lambda name: "" if name == "landlock" else "no")
    assert find_level().name == "landlock"
    assert find_level().refused == (("bubblewrap", "no"), ("namespaces", "no"))


def test_a_level_that_lets_a_probe_out_does_not_hold():
    reason = levels.why_not.__wrapped__("none")
    assert reason.startswith("reached ")
    assert "a file of the host" in reason


def test_a_missing_helper_is_a_reason_not_a_crash(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "/nowhere")
    assert "bwrap is not installed" in levels.why_not.__wrapped__("bubblewrap")


@pytest.mark.parametrize("wrong", [{"cpu_seconds": 0}, {"memory_bytes": -1}, {"processes": -1}, {"wall_seconds": 0}])
def test_limits_that_make_no_sense_are_refused(wrong: dict[str, Any]):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Limits(**wrong)

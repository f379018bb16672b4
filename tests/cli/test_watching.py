"""How a run is shown while it goes on."""

from __future__ import annotations

import time
from decimal import Decimal

import pytest
from rich.console import Console

from della_bench.benchmarks import BENCHMARKS
from della_bench.cli.watching import LiveTable, StepLines
from della_bench.results.schema import Score, Scorer
from della_bench.run.options import Money
from della_bench.run.watching import Ended, Step
from della_bench.spec import MergeSpec

SPECS = [
    MergeSpec.parse("base=zoo:base,experts=zoo:math,merge_method=task_arithmetic", name=name, **{"lambda": value})
    for name, value in (("one", 0.5), ("two\x1b[2J", 0.7))
]
STEPS = [Step(spec, BENCHMARKS["zoo_math"], what) for spec in SPECS for what in ("evaluate", "lm_eval")]
NOON = time.mktime((2026, 1, 2, 12, 0, 0, 0, 0, -1))


def score(value: float) -> Score:
    return Score(
        schema=1, benchmark="zoo_math", metric="exact_match", value=value, interval=[10.0, 30.0], n=10, unscored=0,
        scorer=Scorer(name="lm_eval", version="1", model=None), detail={},
    )  # fmt: skip


def test_without_a_terminal_each_step_is_a_line_with_its_number_and_the_estimated_end(capsys):
    lines = StepLines(lambda: NOON)
    lines.planned(STEPS)
    lines.ended(STEPS[0], Ended("done", 3600.0))
    lines.ended(STEPS[1], Ended("done", 60.0, (score(20.0),)))
    lines.ended(STEPS[2], Ended("failed", reason="no\nspace"))
    lines.ended(STEPS[3], Ended("failed", reason="not evaluated"))
    shown = capsys.readouterr().err.splitlines()
    # The other model's evaluation takes an hour as the first one did; its scoring the mean of all, and then a minute.
    assert shown[0] == "[1/4] one, zoo_math evaluated; 3600.0 s; ends about 15:00"
    assert shown[1] == "[2/4] one, zoo_math scored by lm_eval: 20.0 [10.0, 30.0]; 60.0 s; ends about 13:01"
    assert shown[2] == "[3/4] two\\x1b[2J, zoo_math evaluate failed: no space; ends about 12:01"
    assert shown[3] == "[4/4] two\\x1b[2J, zoo_math lm_eval failed: not evaluated"


def test_evaluations_beside_each_other_end_sooner(capsys):
    lines = StepLines(lambda: NOON)
    lines.planned(STEPS * 2)
    lines.began(STEPS[0])
    lines.began(STEPS[2])
    lines.ended(STEPS[0], Ended("done", 3600.0))
    assert capsys.readouterr().err == "[1/8] one, zoo_math evaluated; 3600.0 s; ends about 15:30\n"


def test_several_workers_have_a_bar_each_while_they_work(shown):
    table = LiveTable(Money())
    table.planned(STEPS)
    table.working("one: answering", 3, 12, "worker 1 on a")
    table.working("two: answering", 5, 12, "worker 2 on b")
    text = shown(table)
    assert "worker 1 on a: one: answering 3/12" in text
    assert "worker 2 on b: two: answering 5/12" in text
    table.working("", 0, 0, "worker 1 on a")
    assert "worker 1" not in shown(table)


def test_what_is_known_already_takes_no_time_in_the_estimate(capsys):
    lines = StepLines(lambda: NOON)
    lines.planned(STEPS)
    lines.ended(STEPS[0], Ended("known", 500.0))
    assert capsys.readouterr().err == "[1/4] one, zoo_math evaluated; known already\n"


@pytest.fixture
def shown():
    def text(table: LiveTable) -> str:
        console = Console(width=100, color_system=None)
        with console.capture() as captured:
            console.print(table.render())
        return captured.get()

    return text


def test_on_a_terminal_a_table_of_models_and_benchmarks_fills_up(shown):
    money = Money()
    table = LiveTable(money)
    table.planned(STEPS)
    assert "0 of 4 steps" in shown(table)
    table.began(STEPS[0])
    table.working("answering", 3, 12)
    assert "evaluate …" in shown(table)
    assert "answering 3/12" in shown(table)
    table.ended(STEPS[0], Ended("done", 5.0))
    assert "answered" in shown(table)
    money.spend(Decimal("1.5"))
    table.ended(STEPS[1], Ended("done", 1.0, (score(20.0),)))
    table.ended(STEPS[2], Ended("failed", reason="no"))
    text = shown(table)
    assert "20.0 [10.0, 30.0]" in text
    assert "evaluate failed" in text
    assert "3 of 4 steps, $1.50 spent, ends about" in text
    assert "\x1b" not in text


def test_more_models_than_lines_show_those_around_the_one_under_way(shown):
    specs = [MergeSpec.parse(SPECS[0], name=f"model {n}", **{"lambda": 0.001 * (n + 1)}) for n in range(200)]
    steps = [Step(spec, BENCHMARKS["zoo_math"], "evaluate") for spec in specs]
    table = LiveTable(Money())
    table.planned(steps)
    table.began(steps[150])
    text = shown(table)
    assert "model 150 " in text
    assert len(text.splitlines()) < 40

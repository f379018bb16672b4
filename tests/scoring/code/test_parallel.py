"""Work in several processes: the same values in the same order, whatever becomes of a process."""

from __future__ import annotations

import os

import pytest

from della_bench.scoring.code import parallel
from della_bench.scoring.code.parallel import spread
from della_bench.scoring.code.problems import problem_of
from della_bench.scoring.code.verdicts import Answer, find_program
from tests.scoring.code.small import MBPP


@pytest.fixture
def paying(monkeypatch):
    monkeypatch.setattr(parallel, "PAYS_FROM", 1)


def where(number: int) -> tuple[int, int]:
    print("whatever a function prints is no value")
    return number, os.getpid()


def dies_elsewhere(number: int, home: int) -> int:
    if os.getpid() != home and number == 3:
        os._exit(9)
    return number


@pytest.mark.usefixtures("paying")
def test_values_come_in_the_order_of_the_calls_and_from_other_processes():
    found = spread(where, [(number,) for number in range(7)], sizes=[5, 1, 9, 2, 2, 7, 1], workers=2)
    assert [number for number, _ in found] == list(range(7))
    processes = {process for _, process in found}
    assert len(processes) == 2
    assert os.getpid() not in processes


@pytest.mark.usefixtures("paying")
def test_what_a_process_leaves_undone_when_it_dies_is_done_here():
    calls = [(number, os.getpid()) for number in range(5)]
    assert spread(dies_elsewhere, calls, sizes=[1] * 5, workers=2) == list(range(5))


@pytest.mark.parametrize(("count", "workers"), [(0, 4), (1, 4), (5, 1), (5, 4)])
def test_little_work_stays_in_this_process(count, workers):
    here = os.getpid()
    assert spread(where, [(n,) for n in range(count)], [1] * count, workers) == [(n, here) for n in range(count)]


@pytest.mark.usefixtures("paying")
def test_programs_are_the_same_from_several_processes():
    problem = problem_of("mbpp", 0, MBPP[0])
    replies = ["```python\ndef add_one(x):\n    return x + 1\n```", "", "x = (", "Sure.\ndef add_one(x):\n    return 1"]
    calls = [(problem, Answer(reply, "reply")) for reply in replies]
    assert spread(find_program, calls, [1] * 4, workers=2) == [find_program(*call) for call in calls]

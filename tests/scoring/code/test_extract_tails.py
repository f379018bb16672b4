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
    "a call of what it imports from itself": "from solution import add\nassert add(1, 2) == 3",
    "all that it imports from itself": "from .solution import *\nassert add(1, 2) == 3",
    "SystemExit with a value": "raise SystemExit(main())",
    "a hard exit": "import os\nos._exit(0)",
    "a fault of an example": "result = add(1, 2)\nif result != 4:\n    raise AssertionError('no')",
    "prose that assigns": "Time = O(1)\nSpace = O(n)",
    "the command line's parser": "import argparse\np = argparse.ArgumentParser()\np.add_argument('x')\n"
    "args = p.parse_args()\nprint(add(args.x, 1))",
    "a file without with": "lines = open('x.txt').read().split()\nfor line in lines:\n    print(add(line, line))",
    "a class that is nowhere": "s = Solution()\nprint(s.add(1, 2))",
    "a module that is nowhere": "import pandas as pd\ndf = pd.DataFrame({'a': [1]})\ndf['b'] = 1\nprint(df)",
    "a debugger": "import pdb; pdb.set_trace()",
    "match": "match input():\n    case 'x':\n        print(add(1, 2))",
    "a class of tests for pytest": "import pytest\nclass TestAdd:\n"
    "    def test_a(self):\n        assert add(1, 2) == 3",
    "a fixture": "import pytest\n@pytest.fixture\ndef one():\n    return 1\n"
    "def test_a(one):\n    assert add(1, one) == 2",
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
    "a limit that has a name": (f"import sys\n{ADD}", "N = 9999\nsys.setrecursionlimit(N)"),
    "a limit of an open import": (f"from sys import *\n{ADD}", "setrecursionlimit(9999)"),
    "a context that has a name": (f"import decimal\n{ADD}", "ctx = decimal.getcontext()\nctx.prec = 3"),
    "a helper that is called test": ("def add(a, b):\n    return test(a) + b", "def test(a):\n    return a"),
    "a helper's helper that is called so": (
        "def add(a, b):\n    return test_a(a) + b",
        "def test_a(a):\n    return test_b(a)\n\ndef test_b(a):\n    return a",
    ),
    "a base that is called TestCase": (
        "def add(a, b):\n    return MyTestCase(a).x + b",
        "class TestCase:\n    x = 1\nclass MyTestCase(TestCase):\n    def __init__(self, a):\n        self.x = a",
    ),
    "what is registered under such a name": (
        f"from functools import singledispatch\n@singledispatch\n{ADD}",
        "@add.register(int)\ndef test_int(a, b):\n    return a - b",
    ),
    "a table that a function is given": (
        "T = [0] * 9\ndef fill(t):\n    t[:] = range(9)\ndef add(a, b):\n    return T[a] + b",
        "fill(T)",
    ),
    "a call whose value is kept": (
        "T = []\ndef fill():\n    T.extend(range(9))\ndef add(a, b):\n    return T[a] + b",
        "done = fill()",
    ),
    "a call of what calls what fills": (
        "T = []\ndef fill():\n    T.extend(range(9))\ndef start():\n    fill()\ndef add(a, b):\n    return T[a] + b",
        "start()",
    ),
    "a method that fills its class": (
        "class R:\n    items = {}\n    @classmethod\n    def put(cls, k):\n        cls.items[k] = k\n"
        "def add(a, b):\n    return R.items[a] + b",
        "R.put(2)",
    ),
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
        f"```\npython\n{ADD}\n```",
        f"Code\n{ADD}",
        f"```python\nSolution\n\n{ADD}\n```",
        f"\u200b{ADD}",
        ADD.replace("    ", "\u00a0" * 4),
        f"```python\n{ADD.replace('    ', chr(160) * 4)}\n```",
        f"```python\nfrom solution import add\nassert add(1, 2) == 3\n```\n```python\n{ADD}\n```",
        f"```python\nfrom sympy import add\n```\nor\n```python\n{ADD}\n```",
        f"@overload\ndef add(a, b): ...\n\nFilled in:\n\n{ADD}",
        ">>> " + ADD.replace("\n", "\n... ") + "\n... \n>>> add(1, 2)\n3",
        "It is typed in:\n\n>>> " + ADD.replace("\n", "\n... ") + "\n...\n>>> add(1, 2)\n3\n\nThat adds.",
        f"<pre><code>{ADD}\n</code></pre>",
        f'So:\n<pre class="a"><code class="language-python">{ADD}</code></pre>\nThis adds.',
        f"<pre>\n<code>\n{ADD}\n</code>\n</pre>",
        f"<pre>pip install x</pre>\n<pre>{ADD}</pre>",
        f"<pre>{ADD}",
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


@pytest.mark.parametrize(
    "turn",
    [
        "Human: thanks\n\nAssistant: sure\n\ndef add(a, b):\n    return 0",
        "Human: more\nAssistant: here\ndef add(a, b):\n    return 0",
        "### Human: more\n### Assistant:\ndef add(a, b):\n    return 0",
        "User: again\n\nAssistant: here\n```python\ndef add(a, b):\n    return 0\n```",
    ],
)
@pytest.mark.parametrize("form", ["{}\n\n{}", "{}\n{}", "```python\n{}\n```\n{}", "Assistant: So:\n{}\n\n{}"])
def test_what_another_speaker_says_behind_a_program_is_no_answer(turn, form):
    assert extract(form.format(ADD, turn), asked=["add"]).program == ADD


@pytest.mark.parametrize(
    "program",
    [
        f'CHAT = """\nHuman: hi\n\nAssistant: hello\n"""\n{ADD}',
        'def add(a, b):\n    """Add.\n\nUser: a and b\n    """\n    return a + b',
        f"{ADD}\n\nUser: type = int\n\ndef of(user: User) -> User:\n    return add(user, 0)",
        "def add(a, b):\n    return a + b + PAGE.count('y')\n\nPAGE = '''\n<pre><code>def add(): 0</code></pre>\n'''",
    ],
)
def test_speakers_and_tags_inside_a_program_stay(program):
    for reply in (program, f"Here:\n\nUser: gives a and b\n\n```python\n{program}\n```\nDone."):
        assert extract(reply, asked=["add"]).program == program


def test_an_import_that_is_all_of_an_answer_stays():
    assert extract("```python\nfrom sympy import add\n```", asked=["add"]).program == "from sympy import add"


@pytest.mark.parametrize("line", ["import pytest", "import matplotlib.pyplot as plt", "from solution import add"])
def test_an_import_above_a_program_that_only_its_tests_read_goes_with_them(line):
    tests = "@pytest.mark.slow\ndef test_add():\n    plt.plot(add(1, 2))\n"
    assert extract(f"{line}\n\n{ADD}\n\n{tests}", asked=["add"]).program == ADD


@pytest.mark.parametrize("line", ["import matplotlib as add_to", "import numpy", "import math, pytest", "import math"])
def test_any_other_import_stays(line):
    program = f"{line}\n\ndef add(a, b):\n    return add_to(a, b)"
    assert extract(program, asked=["add"]).program == program


def test_a_function_that_reads_input_is_not_called_though_it_sets_a_global():
    program = f"{ADD}\n\ndef main():\n    global n\n    n = int(input())\n    print(add(n, n))"
    assert extract(f"{program}\n\nmain()", asked=["add"]).program == program

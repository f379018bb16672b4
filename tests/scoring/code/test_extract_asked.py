"""The table of replies to a question whose tests are known: which of several programs is taken, and what is joined."""

from __future__ import annotations

import textwrap

import pytest

from della_bench.scoring.code.extract import extract
from tests.scoring.code.small import HUMANEVAL

F = "def f(x):\n    return x + 1"
G = "def g(x):\n    return x * 2"
USES_G = "def f(x):\n    return g(x) + 1"
STUB = 'def f(x):\n    """Add one."""\n    pass'
CACHED = "from functools import lru_cache\n\ndef slow(x):\n    return x + 1\n\nf = lru_cache(None)(slow)"
PARTIAL = "from functools import partial\n\ndef add(x, y):\n    return x + y\n\nf = partial(add, 1)"
MADE = "def make():\n    def add(x):\n        return x + 1\n    return add\n\nf = make()"
READS_INPUT = "def f(s):\n    t = s\n    return t"
FILLS = """table = [0] * 9

def fill():
    for i in range(9):
        table[i] = i

def f(x):
    return table[x]

fill()"""
IN_IF = "import sys\n\nif sys.version_info > (3,):\n    def f(x):\n        return x + 1"
SOLVED = "class Pair:\n    def __init__(self, a, b):\n        self.a, self.b = a, b"
LENGTHS = "def f(pairs):\n    return len(pairs)"


def block(code: str, language: str = "python") -> str:
    return f"```{language}\n{code}\n```"


FLOORS = "def f(x):\n    return math.floor(x)"
G_FLOORS = FLOORS.replace("f(x)", "g(x)", 1)
FUTURE = f"from __future__ import annotations\n{USES_G}"
TESTING = "def make():\n    return int\n\n# Testing\nf = make()"
CONSTANT = "def f(x):\n    return x + N\n\n# Test data\nN = 1"
MAIN = f"{F}\ndef main():\n    print(f(int(input())))"
BOTH = f"{G}\n\n{USES_G}"
SET_OFF, FLOORED = (textwrap.indent(code, "    ") for code in (F, FLOORS))
GIVEN = "from math import gcd as f"
G_TRIED = f"{G}\nprint(g(1))"

# (what it is, reply, program, rule)
CASES = [
    # which program
    ("the second block has it", f"{block(G)}\nand\n{block(F)}", F, "fence"),
    ("both blocks have it", f"{block(F)}\nor\n{block(F.replace('1', '2'))}", F, "fence"),
    ("the first only announces it", f"{block(STUB)}\nThen:\n{block(F)}", F, "fence"),
    ("nothing but an announcement", block(STUB), STUB, "fence"),
    ("no block has it", f"{block(G)}\nand\n{block(G_FLOORS)}", G, "fence"),
    ("the block that ends too early has it", f"{block('print(f(1))')}\n```python\n{F}\nprint(", F, "open-fence+cut"),
    ("the program is bare and its example fenced", f"{F}\n\nIn use:\n{block('print(f(1))')}", F, "whole+cut"),
    ("the program stands behind other code", f"{G}\n\nNow what was asked for:\n\n{F}\n\nDone.", F, "prose"),
    ("the program is set off by blanks", f"So:\n\n{SET_OFF}\n\nThis adds one.", F, "prose"),
    ("a helper is set off by blanks, too", f"So:\n\n    import math\n\nand\n\n{FLOORED}", f"import math\n\n{FLOORS}",
     "prose+joined"),
    ("the block with it is called text", f"{block(G)}\n{block(F, 'text')}", F, "prose"),
    ("an import gives it", block(GIVEN), GIVEN, "fence"),
    # helpers
    ("a helper before", f"{block(G)}\nThen\n{block(USES_G)}", f"{G}\n\n{USES_G}", "fence+joined"),
    ("a helper behind", f"{block(USES_G)}\nwith\n{block(G)}", f"{G}\n\n{USES_G}", "fence+joined"),
    ("an import in a block of its own", f"{block('import math')}\n{block(FLOORS)}", f"import math\n\n{FLOORS}",
     "fence+joined"),
    ("a helper's helper", f"{block('import math')}\n{block(G_FLOORS)}\n{block(USES_G)}",
     f"import math\n\n{G_FLOORS}\n\n{USES_G}", "fence+joined"),
    ("a helper and its example", f"{block(G_TRIED)}\n{block(USES_G)}", f"{G}\n\n{USES_G}", "fence+joined"),
    ("a helper that is not needed", f"{block(G)}\n{block(F)}", F, "fence"),
    ("the parts and then all of it", f"{block(G)}\n{block(USES_G)}\nAll:\n{block(BOTH)}", BOTH, "fence"),
    ("a helper between prose", f"{G}\n\nWith that we write\n\n{USES_G}\n\nas asked.", BOTH, "prose+joined"),
    ("a future import in the second block", f"{block(G)}\n{block(FUTURE)}", f"{FUTURE}\n\n{G}", "fence+joined"),
    # names for functions
    ("a cached function", CACHED, CACHED, "whole"),
    ("a partial function", PARTIAL, PARTIAL, "whole"),
    ("a function that another makes", MADE, MADE, "whole"),
    ("such a function and examples", f"{MADE}\n\nprint(f(2))\nresult = f(3)", MADE, "whole+examples"),
    ("such a function behind a heading", f"{TESTING}\nprint(f(1))", TESTING, "whole+examples"),
    ("a function inside an if", IN_IF, IN_IF, "whole"),
    # what only tries it out
    ("input for a name that is a parameter", f"{READS_INPUT}\ns = input()\nprint(f(s))", READS_INPUT, "whole+examples"),
    ("input for a name that is a local", f"{READS_INPUT}\nt = input()\nprint(f(t))", READS_INPUT, "whole+examples"),
    ("two names read at once", f"{F}\na, b = map(int, input().split())\nprint(f(a))", F, "whole+examples"),
    ("an annotated name", f"{F}\nvalue: int = 3\nprint(f(value))", F, "whole+examples"),
    ("a global behind a heading that a function reads", f"{CONSTANT}\nprint(f(1))", CONSTANT, "whole+examples"),
    ("a call that fills a table", f"{FILLS}\nprint(f(2))", FILLS, "whole+examples"),
    ("a call of main", f"{MAIN}\nmain()", MAIN, "whole+examples"),
]  # fmt: skip


@pytest.mark.parametrize(("reply", "program", "rule"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_the_program_that_defines_what_the_tests_call(reply, program, rule):
    found = extract(reply, asked=["f"])
    assert (found.program, found.rule) == (program, rule)


def test_all_names_that_the_tests_need_are_looked_for():
    found = extract(f"{block(LENGTHS)}\n{block(SOLVED)}", asked=["f", "Pair"])
    assert (found.program, found.rule) == (f"{SOLVED}\n\n{LENGTHS}", "fence+joined")


PROMPT = HUMANEVAL[0]["prompt"]
LOOP = "total = x\n    for i in range(1):\n        total += 1\n    return total"
DEDENTED = "total = x\nfor i in range(1):\n    total += 1\nreturn total"
INDENTED = "    " + DEDENTED.replace("\n", "\n    ")
BODY, HELPED = "    return x + 1", "    return helper(x)"
HELPER = "def helper(x):\n    return x + 1"

# The answer goes on from the prompt of add_one.
CONTINUING = [
    ("a body whose first line lost its indent", LOOP, f"    {LOOP}", "body"),
    ("a body that lost its indent", DEDENTED, INDENTED, "body"),
    ("a body of one line that lost its indent", "return x + 1", "    return x + 1", "body"),
    ("such a body and prose", "return x + 1\n\nThis adds one.", "    return x + 1", "body+cut"),
    ("such a body in a block", block("return x + 1"), "    return x + 1", "fence"),
    ("a body whose first line lost its indent in a block", block(LOOP), f"    {LOOP}", "fence"),
    ("a body at another depth", "  y = x\n  return y + 1", "    y = x\n    return y + 1", "body"),
    ("a body and an example in blocks", f"{block('print(add_one(1))')}\n{block(BODY)}", BODY, "fence"),
    ("a whole function and its helper in blocks", f"{block(HELPER)}\n{block(PROMPT + HELPED)}",
     f"{HELPER}\n\n{PROMPT}{HELPED}", "fence+joined"),
    ("a body and its helper in blocks", f"{block(HELPED)}\n{block(HELPER)}", f"{HELPED}\n\n{HELPER}", "fence+joined"),
    ("prose that mentions a return", "We return x and one.", "We return x and one.", "raw"),
    ("the function under another name", block(F), F, "fence"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("reply", "program", "rule"), [case[1:] for case in CONTINUING], ids=[case[0] for case in CONTINUING]
)
def test_the_program_that_goes_on_from_a_prompt(reply, program, rule):
    for asked in (["add_one"], []):  # the prompt says what is asked for, too
        found = extract(reply, PROMPT, asked)
        assert (found.program, found.rule) == (program, rule)

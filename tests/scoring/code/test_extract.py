"""The table of replies: what each holds, which rule finds it."""

from __future__ import annotations

import ast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from della_bench.scoring.code.authors import authors_program
from della_bench.scoring.code.extract import CUT, EXAMPLES, RULES, extract
from tests.scoring.code.small import HUMANEVAL

F = "def f(x):\n    return x + 1"
IMPORTING = f"import math\n\n\n{F}"
READING = "def f(x):\n    return x + ONE\nONE = 1"
SETTING = f"{F}\nimport sys\nsys.setrecursionlimit(9)"
TABBED = "def f(x):\n\tif x:\n        return 1\n\treturn x + 1"
PROMPT = HUMANEVAL[0]["prompt"]
BODY, HELPED = "    return x + 1", "    return g(x)\n\ndef g(x):\n    return x + 1"
NESTED = "    def g():\n        return x + 1\n    return g()"
WHOLE = PROMPT + BODY

# (what it is, reply, program, rule)
CASES = [
    # fenced blocks
    ("a block with a language", f"```python\n{F}\n```", F, "fence"),
    ("a block without a language", f"```\n{F}\n```", F, "fence"),
    ("a block with another name of the language", f"```Python3\n{F}\n```", F, "fence"),
    ("a block of tildes", f"~~~python\n{F}\n~~~", F, "fence"),
    ("four backquotes around three", f"````python\n{F}\n# ```\n````", f"{F}\n# ```", "fence"),
    ("prose around a block", f"Sure! Here it is:\n\n```python\n{F}\n```\n\nIt adds one.", F, "fence"),
    ("a block without an end", f"Here it is:\n```python\n{F}", F, "open-fence"),
    ("a block that ends in the middle of a line", f"```python\n{F}\nprint(f(", F, "open-fence+cut"),
    ("the first of two blocks", f"```python\n{F}\n```\n```python\ndef g(x):\n    return 2\n```", F, "fence"),
    ("the first block that parses", f"```python\ndef f(x)\n```\nOr:\n```python\n{F}\n```", F, "fence"),
    ("a command before the program", f"```\npip install numpy\n```\n```python\n{F}\n```", F, "fence"),
    ("the tests before the program", f"```python\nassert f(1) == 2\n```\n```python\n{F}\n```", F, "fence"),
    ("a block that defines nothing", "```python\nx = [1, 2]\n```", "x = [1, 2]", "fence"),
    ("a block of another language beside a bare program", f"```bash\npython f.py\n```\n{F}", F, "prose"),
    ("an indented block", f"1. So:\n   ```python\n   {F.replace(chr(10), chr(10) + '   ')}\n   ```", F, "fence"),
    ("a block in which nothing parses", "```python\ndef f(x:\n    return\n```", "def f(x:\n    return", "raw"),
    ("backquotes inside a string", "def f():\n    return '''\n```\n'''", "def f():\n    return '''\n```\n'''", "whole"),
    # no fence
    ("nothing but the program", F, F, "whole"),
    ("an import before it", IMPORTING, IMPORTING, "whole"),
    ("a lambda", "f = lambda x: x + 1", "f = lambda x: x + 1", "whole"),
    ("a blank before the first line", f" {F}", F, "whole"),
    ("an indented program", "    def f(x):\n        return x + 1", F, "whole"),
    ("prose before code", f"The function is:\n\n{F}", F, "prose"),
    ("prose that begins like code", f"import it first, from what I see = this:\n{IMPORTING}", IMPORTING, "prose"),
    ("prose after code", f"{F}\n\nThis function adds one.", F, "whole+cut"),
    ("prose on both sides", f"Here you go.\n{F}\nThis adds one.", F, "prose"),
    ("a program whose end is missing", f"{F}\n\ndef g(x):\n    return (x +", F, "whole+cut"),
    # code-alpaca
    ("The solution is:", f"The solution is:\n\n{F}", F, "announced"),
    ("The answer is:", f"The answer is:\n{F}", F, "announced"),
    ("a solution and its answer", f"The solution is:\n{F}\n\nThe answer is:\n2", F, "announced"),
    ("an answer before a solution", f"The answer is: 2\n\nThe solution is:\n{F}", F, "announced"),
    ("an announcement before a block", f"The solution is:\n```python\n{F}\n```", F, "fence"),
    ("an announcement inside a comment", f"{F}  # The answer is: x + 1", f"{F}  # The answer is: x + 1", "whole"),
    ("an announcement of nothing that parses", "The answer is: x plus one.", "x plus one.", "raw"),
    # after the program
    ("a __main__ block", f"{F}\n\nif __name__ == '__main__':\n    print(f(int(input())))", F, "whole+examples"),
    ("a __main__ block inside a fence", f'```\n{F}\nif __name__ == "__main__":\n    f(1)\n```', F, "fence+examples"),
    ("a __main__ block that is cut off", f"{F}\nif __name__ == '__main__':\n    print(f(", F, "whole+cut"),
    ("example usage", f"{F}\n\n# Example usage:\nx = 3\nprint(f(x))", F, "whole+examples"),
    ("example usage without a heading", f"{F}\nvalue = 3\nresult = f(value)\nprint(result)", F, "whole+examples"),
    ("test examples", f"{F}\n\n# Test examples\nassert f(1) == 3\nassert f(2) == 3", F, "whole+examples"),
    ("assertions", f"{F}\nassert f(1) == 3", F, "whole+examples"),
    ("a loop over examples", f"{F}\nfor value in [1, 2]:\n    print(f(value))", F, "whole+examples"),
    ("anything behind a heading", f"{F}\n# Driver code\nn = len('ab')\nrun(n)", F, "whole+examples"),
    ("a global that a function reads", READING, READING, "whole"),
    ("a call that sets something up", SETTING, SETTING, "whole"),
    ("an example between two functions", f"{F}\nprint(f(1))\n{F}", f"{F}\nprint(f(1))\n{F}", "whole"),
    # line ends, tabs, turns
    ("CRLF", F.replace("\n", "\r\n"), F, "whole"),
    ("CRLF in a block", f"```python\n{F}\n```".replace("\n", "\r\n"), F, "fence"),
    ("bare CR", F.replace("\n", "\r"), F, "whole"),
    ("tabs", F.replace("    ", "\t"), F, "whole"),
    ("tabs and blanks", TABBED, TABBED.replace("\t", "    "), "whole"),
    ("a second instruction", f"{F}\n\n### Instruction:\nNow:\n\n### Response:\ndef g():\n    return 1", F, "whole"),
    ("a second response", f"{F}\n\n### Response:\ndef g():\n    return 1", F, "whole"),
    ("the prompt again", f"### Instruction:\nAdd one.\n\n### Response:\n{F}", F, "whole"),
    ("an end mark", f"{F}</s><s>[INST]", F, "whole"),
    ("an end mark inside the last block", f"```python\n{F}</s>", F, "open-fence"),
    # nothing
    ("nothing", "", "", "empty"),
    ("blanks", " \n\t\r\n", "", "empty"),
    ("only an end mark", "</s>", "", "empty"),
    ("an empty block and prose", "```python\n```\nI cannot do this.", "```python\n```\nI cannot do this.", "raw"),
    ("a refusal", "I am sorry, but I cannot.", "I am sorry, but I cannot.", "raw"),
    ("one word, which parses", "Sure", "Sure", "raw"),
    ("a mistake", "def f(x)\n    return x", "def f(x)\n    return x", "raw"),
    ("a NUL", "def f(x):\n    return '\0'", "def f(x):\n    return '\0'", "raw"),
]  # fmt: skip

# With HumanEval's prompt before the program.
CONTINUING = [
    ("a body", f"{BODY}\n", BODY, "body"),
    ("a body and an example", "    return x + 1\n\nprint(add_one(1))\n", "    return x + 1", "body+examples"),
    ("a body and prose", "    return x + 1\n\nThis adds one.", "    return x + 1", "body+cut"),
    ("a body in a block", "```python\n    return x + 1\n```", "    return x + 1", "fence"),
    ("a body that never ends", "    y = x\n    return (y +", "    y = x", "body+cut"),
    ("a body that begins with a helper", NESTED, NESTED, "body"),
    ("the whole function behind a blank", f" {F}", F, "whole"),
    ("nothing but an example", "```python\nprint(add_one(1))\n```", "print(add_one(1))", "fence"),
    ("a body and a helper", HELPED, HELPED, "body"),
    ("the whole function", WHOLE, WHOLE, "whole"),
    ("the whole function in a block", f"```python\n{WHOLE}\n```", WHOLE, "fence"),
]  # fmt: skip


@pytest.mark.parametrize(("reply", "program", "rule"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_the_program_of_a_reply(reply, program, rule):
    found = extract(reply)
    assert (found.program, found.rule) == (program, rule)


@pytest.mark.parametrize(
    ("reply", "program", "rule"), [case[1:] for case in CONTINUING], ids=[case[0] for case in CONTINUING]
)
def test_the_program_of_a_reply_that_goes_on_from_a_prompt(reply, program, rule):
    found = extract(reply, PROMPT)
    assert (found.program, found.rule) == (program, rule)
    ast.parse(PROMPT + found.program)


def test_every_rule_has_a_case():
    rules = {case[3].removesuffix(EXAMPLES).removesuffix(CUT) for case in CASES + CONTINUING}
    assert rules == set(RULES)


def test_a_program_that_was_found_is_found_again_unchanged():
    for _, reply, program, rule in CASES:
        if rule not in ("raw", "empty", "fence") or "def" in program:
            assert extract(program).program == program, reply


PIECES = ["```python\n", "```\n", "\n", "    ", F, "\n" + F, "The answer is:", "\n### Instruction:\n", "### Response:",
          "x = (", "print(f(1))", "assert f(1) == 2", "'''", "Some prose.", "\r\n", "\t", "</s>", "(" * 50, "\0",
          "if __name__ == '__main__':\n", "# Example usage\n", "\N{SNOWMAN}", "\x0c", "\u2028", "\\"]  # fmt: skip


@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join), st.sampled_from(["", PROMPT]))
@settings(deadline=None, max_examples=300)
def test_no_reply_raises_and_what_was_recognised_parses(reply, prompt):
    found = extract(reply, prompt)
    rule = found.rule.removesuffix(EXAMPLES).removesuffix(CUT)
    assert rule in RULES
    assert (rule == "empty") == (not found.program.strip())
    if rule not in ("raw", "empty"):
        try:
            ast.parse(found.program)
        except SyntaxError:
            ast.parse(prompt + found.program)


@given(st.text(max_size=200))
@settings(deadline=None)
def test_no_text_raises(reply):
    extract(reply)


@pytest.mark.parametrize(
    ("reply", "program"),
    [
        (F, F),
        (f"Sure:\n```python\n{F}\n```\nDone.", F),
        (f"```python\n{F}", f"\n{F}"),
        (f"```\n{F}\n```", f"```\n{F}\n```"),
        (f"```python\r\n{F}\r\n```", F),
        (f'{F}\nif __name__ == "__main__":\n    f(1)', F),
        (f"{F}\nif __name__ == '__main__':\n    f(1)", f"{F}\nif __name__ == '__main__':\n    f(1)"),
        (f"{F}\n# Example usage\nf(1)", F),
        (f"{F}\n# Test examples\nf(1)", F),
        (f"The solution is:\n{F}\n\nThe answer is:\n2", F),
        (f"First.\nThe answer is:\n{F}", F),
        (f"{F}\n# The answer is: one more", "one more"),
        (f"Old.\n### Response:\n{F}", F),
        (F.replace("    ", "\t"), F),
    ],
)
def test_the_authors_post_processing_slips_and_all(reply, program):
    assert authors_program(reply) == program


FILLED = {
    "an entry": "cache = {}\ndef f(n):\n    return cache[n]\ncache[1] = 5\n",
    "an attribute": "def f(n):\n    return f.memo[n]\nf.memo = {1: 5}\n",
    "an entry of an attribute": "def f(n):\n    return f.memo[n]\nf.memo = {}\nf.memo.update({1: 5})\n",
    "setattr": "def f(n):\n    return f.base + n\nsetattr(f, 'base', 4)\n",
    "a class's attribute": "class Node:\n    pass\ndef f(n):\n    return Node.default + n\nNode.default = 4\n",
    "a method of a list": "ops = []\ndef add(a):\n    return a + 4\ndef f(n):\n    return ops[0](n)\nops.append(add)\n",
    "a loop": "table = {}\ndef g(i):\n    return 5\ndef f(n):\n    return table[n]\n"
    "for i in range(3):\n    table[i] = g(i)\n",
    "a helper with an argument": "found = []\ndef fill(n):\n    found.extend([5] * n)\ndef f(n):\n"
    "    return found[n]\nfill(3)\n",
    "a global": "def f(n):\n    return base + n\ndef set_it(v):\n    global base\n    base = v\nset_it(4)\n",
    "if": "def load():\n    return 4\ndef f(n):\n    return base + n\nif True:\n    base = load()\n",
    "try": "def load():\n    return 4\ndef f(n):\n    return base + n\n"
    "try:\n    base = load()\nexcept OSError:\n    base = 0\n",
}  # fmt: skip


@pytest.mark.parametrize("program", FILLED.values(), ids=FILLED)
def test_what_fills_what_a_function_reads_is_no_example(program):
    for tried in ("", "\nprint(f(1))\n", "\nfor k in (1, 1):\n    print(f(k))\n"):
        found: dict[str, object] = {}
        kept = extract(f"```python\n{program}{tried}```", "", ["f"]).program
        exec(kept, found)
        assert found["f"](1) == 5  # type: ignore[operator]
        assert "print" not in kept


@pytest.mark.parametrize(
    "tried",
    [
        "Solution().solve(3)",
        "result = []\nresult.append(f(1))\nresult[0] = f(2)",
        "box = {}\nbox['a'] = f(1)",
        "if __name__ == '__main__':\n    base = 3\n    f(base)",
    ],
)
def test_what_is_filled_for_an_example_goes_with_it(tried):
    program = "class Solution:\n    def solve(self, n):\n        return n\ndef f(n):\n    return Solution().solve(n)\n"
    kept = extract(f"```python\n{program}{tried}\n```", "", ["f"]).program
    assert kept.rstrip() == program.rstrip()

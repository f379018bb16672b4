"""The table of replies that are written carelessly: fences, drafts, and marks around and behind the program."""

from __future__ import annotations

import pytest

from della_bench.scoring.code.extract import extract
from della_bench.scoring.code.problems import problem_of
from della_bench.scoring.code.verdicts import Answer, find_program
from tests.scoring.code.small import HUMANEVAL

F = "def f(x):\n    return x + 1"
DRAFT = "```python\ndef f(x):\n    return 0\n```"
FENCED = f"```python\n{F}\n```"
DOCUMENTED = 'def f(x):\n    """Add one.\n\n    ```\n    f(1)\n    ```\n    """\n    return x + 1'
NAMED = DOCUMENTED.replace("```\n    f", "```python\n    f")
ANALYSIS, FINAL = (f"<|channel|>{name}<|message|>" for name in ("analysis", "final"))
QUOTING = "def f(x):\n    return x + '</s>' + '<|im_end|>' + \"</think>\""
INDEXING = "DONE = 1\ndef f(states):\n    return states[DONE]"
SESSION = ">>> def f(x):\n...     return x + 1\n...\n>>> f(1)\n2"

FENCES = [
    ("a closing fence glued to the last line", f"```python\n{F}```", F, "fence"),
    ("such a fence before prose", f"```python\n{F}```\nThis adds one.", F, "fence"),
    ("such a fence before another block", f"```python\n{F}```\nThen:\n```python\nprint(f(1))\n```", F, "fence"),
    ("such a fence behind a comment", f"```python\n{F}  # one more```\nDone.", f"{F}  # one more", "fence"),
    ("code on the fence's own line", "```python def f(x):\n    return x + 1\n```", F, "fence"),
    ("code on the line of a fence without language", "```def f(x):\n    return x + 1\n```", F, "fence"),
    ("a block on one line", "```python def f(x): return x + 1```", "def f(x): return x + 1", "fence"),
    ("a block on one line without language", "```f = lambda x: x + 1```", "f = lambda x: x + 1", "fence"),
    ("an import on the fence's own line", "```python import math\ndef f(x):\n    return math.floor(x)\n```",
     "import math\ndef f(x):\n    return math.floor(x)", "fence"),
    ("a decorator on the fence's own line", f"```python @staticmethod\n{F}\n```", f"@staticmethod\n{F}", "fence"),
    ("a fence inside a docstring", f"```python\n{DOCUMENTED}\n```", DOCUMENTED, "fence"),
    ("a fence with a language inside a docstring", f"```python\n{NAMED}\n```", NAMED, "fence"),
    ("a fence inside the docstring of a bare program", DOCUMENTED, DOCUMENTED, "whole"),
    ("a fence inside a docstring and no end", f"```python\n{DOCUMENTED}", DOCUMENTED, "open-fence"),
    ("a docstring that never ends", f'```python\n{F}\n"""\nDone.\n```\nThis adds one.', F, "fence+cut"),
    ("a fence behind its introduction", f"Here it is: ```python\n{F}\n```", F, "fence"),
    ("a bare fence behind its introduction", f"Here it is:```\n{F}\n```", F, "fence"),
    ("a sentence behind the closing fence", f"```python\n{F}\n``` This adds one.\nDone.", F, "fence"),
    ("no closing fence before the next block", f"```python\n{F}\n\nOutput:\n```text\n2\n```", F, "open-fence+cut"),
    ("an opening fence in the prompt", f"{F}\n```", F, "fence"),
    ("an opening fence in the prompt and prose", f"{F}\n```\nThis adds one.", F, "fence"),
    ("an opening fence in the prompt, a glued end", f"{F}```\nThis adds one.", F, "fence"),
    ("a quoted block", f"> ```python\n> {F.replace(chr(10), chr(10) + '> ')}\n> ```", F, "fence"),
    ("a block in a list", f"- ```python\n  {F.replace(chr(10), chr(10) + '  ')}\n  ```", F, "fence"),
    ("a block inside a block", f"```markdown\n# Answer\n{FENCED}\n```", F, "fence"),
    ("a session of the interpreter", f"```python\n{SESSION}\n```", F, "fence+examples"),
    ("a language in braces", f"```{{.python}}\n{F}\n```", F, "fence"),
    ("more backquotes at the end", f"```python\n{F}\n`````", F, "fence"),
    ("backquotes in the prose", f"The name ```f``` is given.\n{FENCED}", F, "fence"),
    ("a byte order mark", f"\ufeff{F}", F, "whole"),
]  # fmt: skip

DRAFTS = [
    ("a draft in think tags", f"<think>\nFirst:\n{DRAFT}\n</think>\n\n{FENCED}", F, "fence"),
    ("a bare draft in think tags", f"<think>def f(x):\n    return 0</think>\n{F}", F, "whole"),
    ("a draft whose beginning is in the prompt", f"First:\n{DRAFT}\nHm.\n</think>\n{F}", F, "whole"),
    ("two drafts", f"<think>{DRAFT}</think>Wait.<think>{DRAFT}</think>\n{F}", F, "whole"),
    ("thinking tags", f"<thinking>\n{DRAFT}\n</thinking>\n{FENCED}", F, "fence"),
    ("think marks in brackets", f"[THINK]{DRAFT}[/THINK]\n{FENCED}", F, "fence"),
    ("channels", f"{ANALYSIS}{DRAFT}<|end|><|start|>assistant{FINAL}{F}<|return|>", F, "whole"),
    ("a thought with nothing behind it", f"<think>\n{FENCED}\n</think>\n", F, "fence"),
    ("a thought without an end", f"<think>\n{FENCED}", F, "fence"),
    ("marks inside of strings", QUOTING, QUOTING, "whole"),
]  # fmt: skip

MARKS = [
    ("[BEGIN] and [DONE]", f"[BEGIN]\n{F}\n[DONE]", F, "whole"),
    ("[BEGIN] and [DONE] around a block", f"[BEGIN]\n{FENCED}\n[DONE]", F, "fence"),
    ("[DONE] glued to the last line", f"[BEGIN]\n{F}[DONE]", F, "whole"),
    ("[DONE] behind a blank", f"{F} [DONE]\nYou are an expert Python programmer.", F, "whole"),
    ("[DONE] alone", f"{F}\n[DONE]\n\nYour code should pass these tests:\n\nassert g(1) == 2", F, "whole"),
    ("prose before [BEGIN]", f"Here is my code.\n[BEGIN]\n{F}\n[DONE]\n", F, "whole"),
    ("[DONE] twice", f"[BEGIN]\n{F}\n[DONE]\n[BEGIN]\ndef f(x):\n    return 0\n[DONE]", F, "whole"),
    ("an index that is called DONE", INDEXING, INDEXING, "whole"),
    ("[PYTHON] and [TESTS]", f"[PYTHON]\n{F}\n[/PYTHON]\n[TESTS]\nassert f(1) == 0\n[/TESTS]", F, "whole"),
    ("code tags", f"<code>\n{F}\n</code>\nIt adds one.", F, "whole"),
    ("answer tags around a block", f"It adds.\n<answer>\n{FENCED}\n</answer>", F, "fence"),
    ("an end mark glued to the last line", f"{F}<|im_end|>\n<|im_start|>user\nThanks", F, "whole"),
    ("the second instruction glued to the last line", f"{F}### Instruction:\nNow g.", F, "whole"),
    ("the second response glued to the last line", f"{F}### Response:\ndef f(x):\n    return 0", F, "whole"),
    ("an end mark glued to the last line of a block", f"```python\n{F}<|eot_id|>", F, "open-fence"),
    ("a torn end mark", f"{F}<|endoft", F, "whole"),
    ("an end mark of full-width bars", f"{F}<\uff5cend\u2581of\u2581sentence\uff5c>", F, "whole"),
    ("an end of turn", f"{F}<end_of_turn>\n<start_of_turn>user", F, "whole"),
    ("the turn's header", f"<|im_start|>assistant\n{F}", F, "whole"),
    ("the instruction in brackets again", f"[INST] Add one. [/INST] {F}", F, "whole"),
]  # fmt: skip

CASES = FENCES + DRAFTS + MARKS


@pytest.mark.parametrize(("reply", "program", "rule"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
@pytest.mark.parametrize("asked", [[], ["f"]], ids=["unasked", "asked"])
def test_the_program_of_a_careless_reply(reply, program, rule, asked):
    found = extract(reply, asked=asked)
    assert (found.program, found.rule) == (program, rule)


HUMAN = problem_of("humaneval", 0, HUMANEVAL[0])


@pytest.mark.parametrize(
    ("program", "alone"),
    [
        ("from __future__ import annotations\n\ndef add_one(x):\n    return x + 1", True),
        ("# Adds one.\nfrom  __future__  import annotations\ndef add_one(x):\n    return x + 1", True),
        ("def add_one(x):\n    # not from __future__ import annotations\n    return x + 1", False),
        ("def add_one(x):\n    return x + len('from __future__')", False),
        ("    s = 'from __future__ import annotations'\n    return x + 1", False),
    ],
)
def test_a_program_stands_alone_only_where_a_line_begins_with_a_future_import(program, alone):
    assert HUMAN.continued(program) == (program if alone else HUMANEVAL[0]["prompt"] + program)
    assert find_program(HUMAN, Answer(program, "completion")).program == HUMAN.continued(program)

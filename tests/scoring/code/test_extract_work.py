"""The work on a reply is bounded by its length, whatever it holds."""

from __future__ import annotations

import sys
import time

import pytest

from della_bench.scoring.code import parsing
from della_bench.scoring.code.extract import extract
from tests.scoring.code.small import HUMANEVAL

F = "def f(x):\n    return x + 1"
PROMPT = HUMANEVAL[0]["prompt"]

# (what is repeated, what stands before it, what stands behind it)
REPEATED = [
    ("-", "```", "`"),
    ("x=1\n", "", "("),
    ("x=1\n", "(", ""),
    ("x = (\n", "", ""),
    ("x = f(\n", "", ""),
    ("x = '''\n", "", ""),
    ("@f\n", "", ""),
    ("try:\n", "", ""),
    ("def f(\n", "", ""),
    ("def f(): pass\n", "", "("),
    ("    return x\n", "def f(x):\n", "("),
    ("print(f(1))\n", f"{F}\n", ""),
    (f"{F}\n\nSo:\n\n", "", ""),
    ("The answer is:\nx = 1\n", "", ""),
    ("```python\nx\n```\n", "", ""),
    ("```\n'''\n", "", ""),
    (">>> f(1)\n", "```\n", "```"),
    ("</think>\n", "", ""),
    ("[BEGIN]\n", "", ""),
    ("Human: a\n", f"{F}\n'''", ""),
    ("<pre>\n", "", ""),
    ("<pre>a</pre>\n", "", ""),
    (">>> x = 1\n", "", ""),
    ("def test_a():\n    test_b()\n", "", ""),
    ("import pytest\n", "", F),
]


@pytest.mark.parametrize("prompt", ["", PROMPT], ids=["alone", "prompted"])
@pytest.mark.parametrize(("part", "before", "behind"), REPEATED)
def test_the_work_on_a_reply_grows_no_faster_than_the_reply(monkeypatch, part, before, behind, prompt):
    """Work is counted, not timed: characters that are parsed, and lines of the extraction that run."""
    lengths = count_parsed(monkeypatch)
    lines = []
    for size in (4_000, 16_000):
        reply = before + part * (size // len(part)) + behind
        lengths.clear()
        lines.append(lines_run(lambda text=reply: extract(text, prompt, ["f"])))
        assert sum(lengths) <= max(parsing.AT_LEAST, parsing.PASSES * (len(reply) + len(prompt)))
    assert lines[1] < 8 * max(lines[0], 2_000)  # four times the text; quadratic work would be 16 times as much


def count_parsed(monkeypatch):
    """Return a list that gets the length of each source that is parsed."""
    lengths: list[int] = []
    real = parsing.parsed

    def counted(source):
        lengths.append(len(source))
        return real(source)

    monkeypatch.setattr(parsing, "parsed", counted)
    return lengths


def lines_run(call):
    """Return how many lines of the extraction's own modules run during a call."""
    count = 0

    def trace(frame, event, _):
        nonlocal count
        if "/scoring/code/" not in frame.f_code.co_filename:
            return None
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return count


def test_a_short_reply_in_which_nothing_can_be_read_costs_no_more_than_its_budget(monkeypatch):
    """4 KB of assignments and an open parenthesis were parsed 500 times over."""
    lengths = count_parsed(monkeypatch)
    assert extract("x=1\n" * 1_000 + "(").rule == "raw"
    assert sum(lengths) < 20_000


@pytest.mark.parametrize(
    "reply",
    [
        "x = (" * 2_000_000,
        "a\n" * 200_000,
        "(" * 90_000,
        "-" * 90_000 + "1",
        "a" + ".a" * 45_000,
        "[1," * 30_000,
        "def f(\n" * 12_000,
        "```\n" * 200_000,
        "The answer is:" * 50_000,
        "\n".join(f"x{i} = (" for i in range(9_000)),
        "```" + "-" * 400_000 + "`",
        "x=1\n" * 25_000 + "(",
        "(\n" + "x=1\n" * 25_000,
        "@f\n" * 50_000,
        " " * 400_000 + "x",
        "```" + " " * 400_000 + "x",
        "</think>" * 50_000,
        "[BEGIN][DONE]\n" * 40_000,
        "```\n'''\n" * 40_000,
        "#" * 400_000,
        "from" + " " * 400_000 + "x",
        "<|" * 200_000,
        "[INST]" * 70_000,
        "### Instruction:\n" * 25_000,
        "def f(\n" + "Human:\n" * 50_000,
        "<pre>\n" * 60_000,
        "<pre></pre>\n" * 30_000,
        "<pre " * 60_000,
        ">>> x = (\n" * 40_000,
        "\u00a0" * 400_000 + "x",
    ],
    ids=lambda reply: reply[:14],
)
def test_a_reply_that_is_huge_or_nested_is_read_within_the_budget(reply):
    """CPU time is the budget here, with a wide margin: without one some of these take hours."""
    started = time.process_time()
    assert extract(reply).rule in ("raw", "fence", "empty")
    assert time.process_time() - started < 60


def test_a_program_before_ten_megabytes_of_noise_is_found():
    found = extract(F + "\n" + "some noise here\n" * 700_000)
    assert (found.program, found.rule) == (F, "whole+cut")
    fenced = extract(f"```python\n{F}\n```\n" + "some noise here\n" * 700_000)
    assert (fenced.program, fenced.rule) == (F, "fence")

"""Time of finding the program in 500 ordinary and 500 degenerate replies, and in the slowest of each.

    DELLA_BENCH_DATA=FOLDER python benchmarks/extraction.py [--workers 2] [--json]

Ordinary replies are MBPP's solutions as models write them down; degenerate ones are what a model repeats until it is
stopped, and texts made to be slow, of 500 to 16,000 characters. CPU seconds are this process's and its helpers'.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import time
from collections.abc import Callable, Iterator
from itertools import islice

from della_bench.scoring.code.parallel import spread
from della_bench.scoring.code.problems import Problem, load_problems
from della_bench.scoring.code.verdicts import Answer, Extraction, find_program

WRITTEN: list[Callable[[str], str]] = [
    lambda code: code,
    lambda code: f"```python\n{code}\n```",
    lambda code: f"Sure! Here is the function:\n\n```python\n{code}\n```\n\nIt goes through the items and counts.",
    lambda code: f"Here is the solution:\n\n{code}\n\nThis solves the problem.",
    lambda code: f"The solution is:\n{code}\n\nThe answer is:\n3",
    lambda code: f"{code}\n\n# Example usage\nx = 3\nprint(x)",
    lambda code: f"```python\n{code}\n\nif __name__ == '__main__':\n    print(1)\n```",
    lambda code: f"```\nimport math\n```\nThen:\n```python\n{code}\n```\nOutput:\n```\n3\n```",
    lambda code: f"<think>\nLet me see.\n```python\ndef f(x):\n    pass\n```\n</think>\n{code}",
    lambda code: f"```python\n{code}\nprint(",
]

F = "def f(): pass\n"

# (one repeated part, what stands before it, what stands after it)
REPEATED = [
    ("-", "```", "`"), ("x=1\n", "", "("), ("x=1\n", "(", ""), ("(", "", ""), ("[1,", "x = ", ""), ("{1:", "", ""),
    ("-", "x = ", "1"), (".a", "a", ""), ("def f(\n", "", ""), ("def f():\n", "", ""), ("def f(): pass\n", "", "("),
    ("```\n", "", ""), ("```python\n", "", ""), ("```python\nx\n```\n", "", ""), ("```\n'''\n", "", ""), ("`", "", ""),
    ("The answer is:", "", ""), ("The answer is:\nx = 1\n", "", ""), ("### Response:\n", "", ""), ("</s>", "", "x"),
    ("</think>", "", ""), ("<think>\n", "", ""), ("[DONE]", "x", ""), ("[BEGIN]\n", "", ""), ("'''", "def f():", ""),
    ('"', "", ""), ("\\", "", ""), (" ", "```", "x"), (" ", "", "x\n"), ("\n", "from", ""), ("x = (\n", "", ""),
    ("x = f(\n", "", ""), ("try:\n", "", ""), ("import a, (\n", "", ""), ("@f\n", "", ""), ("if x:\n ", "", ""),
    ("x = '''\n", "", ""), ("class A: x = (\n", "", ""), ("f = lambda: f\n)\n", "", ""), ("# A test\n", F, ""),
    ("print(f(1))\n", "def f(x):\n    return x\n", ""), ("f(", "def f(x): return x\n", ""), ("lambda x: ", "f = ", "1"),
    ("    return x\n", "def f(x):\n", "("), (">>> f(1)\n", "```\n", "```"), ("> ```python\n> x\n", "", ""),
    ("I am sorry. ", "", ""), ("I am sorry.\n", "", ""), ("9", "x = ", ""), ("\N{SNOWMAN}", "", ""),
]  # fmt: skip
SIZES = [500, 1000, 1500, 2000, 2500, 3000, 4000, 6000, 8000, 16000]


def ordinary() -> Iterator[str]:
    """Yield MBPP's solutions, one after the other as each of WRITTEN writes it."""
    for number, problem in enumerate(load_problems("mbpp")):
        yield WRITTEN[number % len(WRITTEN)](problem.doc["code"].replace("\r\n", "\n"))


def degenerate() -> Iterator[str]:
    """Yield each of REPEATED in each of SIZES."""
    for part, before, after in REPEATED:
        for size in SIZES:
            yield before + part * (size // len(part)) + after


def measure(replies: list[str], workers: int) -> dict[str, object]:
    """Return seconds of the wall clock and of CPU for all replies, and the slowest one in a process alone."""
    problem = load_problems("mbpp")[0]
    calls: list[tuple[Problem, Answer, Extraction]] = [(problem, Answer(reply, "reply"), "auto") for reply in replies]
    busy, started = _cpu(), time.perf_counter()
    spread(find_program, calls, sizes=[len(reply) for reply in replies], workers=workers)
    wall, busy = time.perf_counter() - started, _cpu() - busy
    alone = []
    for call in calls:
        before = time.process_time()
        find_program(*call)
        alone.append(time.process_time() - before)
    slowest = max(range(len(calls)), key=alone.__getitem__)
    return {
        "replies": len(replies),
        "seconds": round(wall, 2),
        "cpu": round(busy, 2),
        "cpu alone": round(sum(alone), 2),
        "slowest": round(alone[slowest], 3),
        "which": replies[slowest][:24],
    }


def _cpu() -> float:
    uses = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(use.ru_utime + use.ru_stime for use in uses)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    kinds = {"ordinary": list(ordinary()), "degenerate": list(islice(degenerate(), 500))}
    rows = {name: measure(replies, arguments.workers) for name, replies in kinds.items()}
    rows["both"] = measure([*kinds["ordinary"], *kinds["degenerate"]], arguments.workers)
    if arguments.json:
        print(json.dumps({"workers": arguments.workers, "rows": rows}, indent=2))
        return
    print(f"{arguments.workers} workers\n\n{'replies':12}{'wall s':>8}{'CPU s':>8}{'alone':>8}  slowest, CPU s")
    for name, row in rows.items():
        print(f"{name:12}{row['seconds']:>8}{row['cpu']:>8}{row['cpu alone']:>8}  {row['slowest']} {row['which']!r}")


if __name__ == "__main__":
    main()

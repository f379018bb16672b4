"""Two problems of each benchmark, small enough to be read."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

__all__ = ["HUMANEVAL", "MBPP", "write_data", "write_rows"]

MBPP: list[dict[str, Any]] = [
    {
        "task_id": 1,
        "text": "Write a function to add one.",
        "code": "def add_one(x):\r\n    return x + 1",
        "test_list": ["assert add_one(1) == 2", "assert add_one(-1) == 0"],
        "test_setup_code": "",
        "challenge_test_list": ["assert add_one(1) == 3"],
    },
    {
        "task_id": 2,
        "text": "Write a function to echo.",
        "code": "def echo(x):\r\n\treturn x",
        "test_list": ['assert echo("    ") == "    "', "assert echo(given) == given"],
        "test_setup_code": "given = 5",
        "challenge_test_list": [],
    },
]

HUMANEVAL: list[dict[str, Any]] = [
    {
        "task_id": f"HumanEval/{number}",
        "prompt": f'def {name}(x: int) -> int:\n    """Return x and one{less}.\n    """\n',
        "canonical_solution": f"    return x {sign} 1\n",
        "test": f"\n\ndef check(candidate):\n    assert candidate(1) == 1 {sign} 1\n",
        "entry_point": name,
    }
    for number, (name, less, sign) in enumerate([("add_one", "", "+"), ("take_one", " less", "-")])
]


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_data(folder: Path) -> None:
    """Write both data sets as DELLA_BENCH_DATA has them."""
    write_rows(folder / "mbpp_test.jsonl", MBPP)
    with gzip.open(folder / "HumanEval.jsonl.gz", "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in HUMANEVAL)

"""Small GSM8K-like inputs for the judge's tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def plain_rows(n: int) -> list[dict[str, Any]]:
    """n problems; the response to every third is wrong."""
    return [
        {
            "doc_id": i,
            "question": f"What is {i} plus {i}?",
            "target": f"{i} + {i} = {2 * i}\n#### {2 * i}",
            "response": f"That makes {2 * i + (i % 3 == 0)}. The answer is: {2 * i + (i % 3 == 0)}.",
        }
        for i in range(n)
    ]


def write_plain(path: Path, n: int) -> Path:
    return write_rows(path, plain_rows(n))


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def sample_rows(n: int, filters: tuple[str, ...] = ("strict-match", "flexible-extract")) -> list[dict[str, Any]]:
    """The same as lm-eval logs it: all rows of the first filter, then all of the next."""
    rows = []
    for name in filters:
        for row in plain_rows(n):
            rows.append(
                {
                    "doc_id": row["doc_id"],
                    "doc": {"question": row["question"], "answer": row["target"]},
                    "target": row["target"],
                    "arguments": {},
                    "resps": [[row["response"]]],
                    "filtered_resps": [row["response"][-3:]],
                    "filter": name,
                    "doc_hash": f"hash{row['doc_id']}",
                    "exact_match": float(name == "flexible-extract" and row["doc_id"] % 3 != 0),
                }
            )
    return rows


def verdict_of(request: dict[str, Any]) -> str:
    """What a perfect judge says of `plain_rows`, with the labels as the request gives them: [[A]] or [[B]]."""
    text = request["messages"][-1]["content"]
    number = int(text.partition("What is ")[2].partition(" ")[0])
    swapped = "[[B]] for a correct response" in text
    correct = number % 3 != 0
    return "[[A]]" if correct is not swapped else "[[B]]"

"""The held-out items as rows of an lm-eval data set."""

from __future__ import annotations

from typing import Any

from della_bench.zoo.data import items
from della_bench.zoo.prompts import render
from della_bench.zoo.scoring import final_number

__all__ = ["HELD_OUT", "rows"]

HELD_OUT = ("validation", "test")


def rows(skill: str, split: str) -> list[dict[str, Any]]:
    """Return one row an item: question, prompt, reference (the whole answer), target (what is compared), test_list.

    Raises what `data.items` raises.
    """
    return [
        {
            "question": item.question,
            "prompt": render(skill, item),
            "reference": item.answer.strip(),
            "target": final_number(item.answer) if skill == "math" else item.answer.strip(),
            "test_list": list(item.tests),
        }
        for item in items(skill, split)
    ]

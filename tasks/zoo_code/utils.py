"""The data and the metric of the zoo_code tasks."""

from __future__ import annotations

from typing import Any

from datasets import Dataset

from della_bench.zoo.rows import HELD_OUT, rows
from della_bench.zoo.scoring import same_program


def load(**_: object) -> dict[str, Dataset]:
    """Build the held-out splits in this process; lm-eval passes the task's metadata, which is not needed."""
    return {split: Dataset.from_list(rows("code", split)) for split in HELD_OUT}


def process_results(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    """Score one response: 1.0 where it is the reference program, but for layout, quotes and comments.

    This stands in, at string level, for running `test_list`: only the reference form counts as right, and a program
    that solves the problem in another way counts as wrong. No code is run.
    """
    return {"program_match": float(same_program(results[0], doc["target"]))}

"""The data and the metric of the zoo_chat tasks."""

from __future__ import annotations

from typing import Any

from datasets import Dataset

from della_bench.zoo.rows import HELD_OUT, rows
from della_bench.zoo.scoring import same_text


def load(**_: object) -> dict[str, Dataset]:
    """Build the held-out splits in this process; lm-eval passes the task's metadata, which is not needed."""
    return {split: Dataset.from_list(rows("chat", split)) for split in HELD_OUT}


def process_results(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    """Score one response: 1.0 where it is the reference, but for case and surrounding blanks."""
    return {"exact_match": float(same_text(results[0], doc["target"]))}

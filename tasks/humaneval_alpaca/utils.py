"""What the task's YAML cannot say: data, prompt, the sandbox, the metric."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import datasets

from della_bench import data
from della_bench.scoring.code.task import humaneval_prompt, metrics_of, run_replies


def load(**_: Any) -> dict[str, datasets.Dataset]:
    """Return HumanEval's 164 problems. Raises della_bench.errors.DataError where the data are not to be had."""
    return {"test": data.load("humaneval")}


def prompt(doc: dict[str, Any]) -> str:
    """Return the prompt of one problem."""
    return humaneval_prompt(doc)


def run(replies: Iterable[Sequence[str]], docs: Sequence[dict[str, Any]]) -> list[list[str]]:
    """Filter: what became of the program in each reply, as JSON."""
    return run_replies("humaneval", replies, docs)


def run_as_the_authors(replies: Iterable[Sequence[str]], docs: Sequence[dict[str, Any]]) -> list[list[str]]:
    """Filter: the same with the authors' own post-processing, for a task file that wants it."""
    return run_replies("humaneval", replies, docs, "authors")


def process_results(doc: dict[str, Any], results: list[list[str]]) -> dict[str, float]:
    """Return pass@1, and pass@k where there are several answers."""
    return metrics_of(results)

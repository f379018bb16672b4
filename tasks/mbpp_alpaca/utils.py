"""What the task's YAML cannot say: data, prompt, the sandbox, the metric."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import datasets

from della_bench import data
from della_bench.scoring.code.task import mbpp_prompt, metrics_of, run_replies


def load(**_: Any) -> dict[str, datasets.Dataset]:
    """Return MBPP's 500 test problems. Raises della_bench.errors.DataError where the data are not to be had."""
    return {"test": data.load("mbpp")}


def load_train(**_: Any) -> dict[str, datasets.Dataset]:
    """Return MBPP's 374 training problems. Raises della_bench.errors.DataError where the data are not to be had."""
    return {"train": data.load("mbpp", "train")}


def load_validation(**_: Any) -> dict[str, datasets.Dataset]:
    """Return MBPP's 90 validation problems. Raises della_bench.errors.DataError where the data are not to be had."""
    return {"validation": data.load("mbpp", "validation")}


def examples() -> list[dict[str, Any]]:
    """Return the training problems, for few-shot examples; none where they are not to be had."""
    return data.examples("mbpp")


def prompt(doc: dict[str, Any]) -> str:
    """Return the prompt of one problem."""
    return mbpp_prompt(doc)


def run(replies: Iterable[Sequence[str]], docs: Sequence[dict[str, Any]]) -> list[list[str]]:
    """Filter: what became of the program in each reply, as JSON."""
    return run_replies("mbpp", replies, docs)


def run_as_the_authors(replies: Iterable[Sequence[str]], docs: Sequence[dict[str, Any]]) -> list[list[str]]:
    """Filter: the same with the authors' own post-processing, for a task file that wants it."""
    return run_replies("mbpp", replies, docs, "authors")


def process_results(doc: dict[str, Any], results: list[list[str]]) -> dict[str, float]:
    """Return pass@1, and pass@k where there are several answers."""
    return metrics_of(results)

"""What the task's YAML cannot say: where its data come from, and where an answer ends."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import datasets

from della_bench import data
from della_bench.judging.alpaca.outputs import cut_answer


def load(**_: Any) -> dict[str, datasets.Dataset]:
    """Return AlpacaEval's instructions. lm-eval hands over metadata and the model's arguments; none matters here.

    Raises della_bench.errors.DataError where the data are not to be had.
    """
    return {"test": data.load("alpaca_eval")}


def cut_answers(replies: Iterable[Sequence[str]], _docs: Sequence[dict[str, Any]]) -> list[list[str]]:
    """Filter: each reply up to its first stop string, without the blanks around it."""
    return [[cut_answer(reply) for reply in of_one_doc] for of_one_doc in replies]


def process_results(_doc: dict[str, Any], results: Sequence[str]) -> dict[str, int]:
    """Return the answer's length in characters: no score, which only a judge can give."""
    return {"answer_length": len(results[0])}

"""One answer's row in the items file."""

from __future__ import annotations

from typing import Any

from della_bench.judging.cost import Price
from della_bench.judging.gsm8k.read import Answer
from della_bench.judging.gsm8k.votes import Outcome
from della_bench.results.schema import SCHEMA

__all__ = ["item_row", "judged_row"]

_WORDS = {1.0: "correct", 0.0: "incorrect", None: "unscored"}


def item_row(answer: Answer, value: float | None, *, shown: str, explanation: str, reason: str = "") -> dict[str, Any]:
    """Return the row of one answer; `shown` is what was judged, `reason` why it is unscored, in a word."""
    return {
        "schema": SCHEMA,
        "doc_id": answer.doc_id,
        "doc_hash": answer.doc_hash,
        "filter": answer.filter,
        "value": value,
        "verdict": _WORDS[value],
        "answer": shown,
        "explanation": explanation,
        "reason": reason,
    }


def judged_row(answer: Answer, outcome: Outcome, price: Price | None, made_from: str) -> dict[str, Any]:
    """Return the row of an answer that a model has judged, with what its replies took."""
    replies = list(outcome.replies)
    cost = outcome.cost(price)
    row = item_row(
        answer, outcome.value, shown=answer.response, explanation=outcome.explanation, reason=outcome.reason
    ) | {
        "model": ", ".join(sorted({reply.model for reply in replies})),
        "replies": len(replies),
        "tokens": {
            "prompt": sum(reply.prompt_tokens for reply in replies),
            "completion": sum(reply.completion_tokens for reply in replies),
        },
        "cost": None if cost is None else str(cost),
        "made_from": made_from,
    }
    if len(outcome.votes) > 1:
        row["votes"] = [vote.correct for vote in outcome.votes]
    return row

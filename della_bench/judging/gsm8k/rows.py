"""One answer's row in the items file."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

from della_bench.judging.cost import Price
from della_bench.judging.gsm8k.read import Answer
from della_bench.judging.gsm8k.votes import Outcome
from della_bench.results.schema import SCHEMA, Item

if TYPE_CHECKING:
    from typing_extensions import NotRequired

__all__ = ["GSM8KItem", "Tokens", "item_row", "judged_row"]

_WORDS = {1.0: "correct", 0.0: "incorrect", None: "unscored"}


class Tokens(TypedDict):
    """Tokens in and out, as the server counted them."""

    prompt: int
    completion: int


class GSM8KItem(Item):
    """One answer's row: `reason` is why it is unscored, in a word, `kind` in a few (as a vote's).

    The other keys are there where a model judged.

    `cost` is dollars, as a decimal; `made_from` names all that the row depends on (see `store.made_from`).
    """

    reason: str
    kind: NotRequired[str]
    model: NotRequired[str]
    replies: NotRequired[int]
    tokens: NotRequired[Tokens]
    cost: NotRequired[str | None]
    made_from: NotRequired[str]
    votes: NotRequired[list[bool | None]]


def item_row(answer: Answer, value: float | None, *, judged: str, explanation: str, reason: str = "") -> GSM8KItem:
    """Return the row of one answer; `judged` is the text or number that was, `reason` why it is unscored, in a word."""
    return {
        "schema": SCHEMA,
        "doc_id": answer.doc_id,
        "doc_hash": answer.doc_hash,
        "filter": answer.filter,
        "value": value,
        "verdict": _WORDS[value],
        "answer": judged,
        "explanation": explanation,
        "reason": reason,
    }


def judged_row(answer: Answer, outcome: Outcome, price: Price | None, made_from: str) -> GSM8KItem:
    """Return the row of an answer that a model has judged, with what its replies took."""
    replies = list(outcome.replies)
    cost = outcome.cost(price)
    row = item_row(
        answer, outcome.value, judged=answer.response, explanation=outcome.explanation, reason=outcome.reason
    )
    row["model"] = ", ".join(sorted({reply.model for reply in replies}))
    row["replies"] = len(replies)
    row["tokens"] = {
        "prompt": sum(reply.prompt_tokens for reply in replies),
        "completion": sum(reply.completion_tokens for reply in replies),
    }
    row["cost"] = None if cost is None else str(cost)
    row["made_from"] = made_from
    if outcome.value is None:
        row["kind"] = outcome.kind
    if len(outcome.votes) > 1:
        row["votes"] = [vote.correct for vote in outcome.votes]
    return row

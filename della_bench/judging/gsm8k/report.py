"""The score of a judging: what it comes to, how sure that is, and what it was made from."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import TypedDict

from della_bench.judging.cost import Price
from della_bench.judging.gsm8k.agreement import Agreement, agreement
from della_bench.judging.gsm8k.read import DOCUMENTS, METRICS, Answers
from della_bench.judging.gsm8k.rows import GSM8KItem, Tokens
from della_bench.judging.gsm8k.store import BENCHMARK
from della_bench.results.schema import SCHEMA, Score, Scorer
from della_bench.results.stats import wilson

__all__ = ["make_score", "share"]

_SHOWN = 20  # missing documents that are named


def make_score(
    answers: Answers, rows: Sequence[GSM8KItem], scorer: Scorer, price: Price | None, facts: Mapping[str, object]
) -> Score:
    """Return the score of the rows, one for each of `answers`, in their order; `facts` are added to its detail."""
    values = [row["value"] for row in rows]
    scored = [value for value in values if value is not None]
    correct, n = sum(value == 1.0 for value in scored), len(scored)
    whole = share(correct, n)
    detail: dict[str, object] = {
        "correct": correct,
        "incorrect": n - correct,
        "unscored": dict(Counter(row["reason"] for row in rows if row["value"] is None)),
        "unscored_kinds": dict(_kinds(rows).most_common(_SHOWN)),
        "bounds": _bounds(correct, n, len(rows)),
        **{name: _metric(answers, rows, name) for name in METRICS},
        "data_set": {
            "expected": DOCUMENTS,
            "judged": len(rows),
            "missing": len(answers.missing),
            "first_missing": answers.missing[:_SHOWN],
            "repeated": answers.repeated,
        },
        "samples": answers.path.name,
        "samples_sha256": hashlib.sha256(answers.path.read_bytes()).hexdigest(),
        **facts,
    }
    models = Counter(model for row in rows if (model := row.get("model")))
    if scorer["model"] is not None or models:
        detail |= {"models": dict(models.most_common()), **_spent(rows, price)}
    return Score(
        schema=SCHEMA,
        benchmark=BENCHMARK,
        metric="accuracy",
        value=whole["value"],
        interval=whole["interval"],
        n=n,
        unscored=len(rows) - n,
        scorer=scorer,
        detail=detail,
    )


class Share(TypedDict):
    """A share in percent with its 95 % interval, of `n` items."""

    value: float | None
    interval: list[float] | None
    n: int


class Metric(Share):
    """What a metric of the task says of all answers, whether lm-eval logged it, and how it agrees with the judge."""

    source: str
    agreement: Agreement


def share(part: int, n: int) -> Share:
    """Return part / n in percent with its Wilson interval; both None where n is 0."""
    if not n:
        return {"value": None, "interval": None, "n": 0}
    low, high = wilson(part, n)
    return {"value": 100 * part / n, "interval": [100 * low, 100 * high], "n": n}


def _kinds(rows: Sequence[GSM8KItem]) -> Counter[str]:
    """Count why rows are unscored, in a few words each."""
    return Counter(
        f"{row['reason']}: {kind}" if (kind := row.get("kind")) else row["reason"]
        for row in rows
        if row["value"] is None
    )


def _bounds(correct: int, scored: int, total: int) -> list[float] | None:
    """Return the accuracy, in percent, if all that is unscored were wrong, and if it were right."""
    return [100 * correct / total, 100 * (correct + total - scored) / total] if total else None


def _metric(answers: Answers, rows: Sequence[GSM8KItem], name: str) -> Metric:
    """Return a metric's own share over all rows, and how it agrees with the judge over the scored ones."""
    theirs = [answer.metrics[name] for answer in answers.answers]
    pairs = [(bool(row["value"]), right) for row, right in zip(rows, theirs, strict=True) if row["value"] is not None]
    return {
        **share(sum(theirs), len(theirs)),
        "source": answers.sources[name],
        "agreement": agreement([ours for ours, _ in pairs], [right for _, right in pairs], ("judge", "metric")),
    }


def _spent(rows: Sequence[GSM8KItem], price: Price | None) -> dict[str, object]:
    """Return the tokens and dollars of all replies behind the rows, whichever run paid for them."""
    tokens = [row["tokens"] for row in rows if "tokens" in row]
    costs = [Decimal(cost) for row in rows if (cost := row.get("cost")) is not None]
    return {
        "replies": sum(row.get("replies", 0) for row in rows),
        "tokens": Tokens(
            prompt=sum(each["prompt"] for each in tokens), completion=sum(each["completion"] for each in tokens)
        ),
        "cost": None if price is None else float(sum(costs, Decimal(0))),
        "price": None if price is None else {"input": float(price.input), "output": float(price.output)},
    }

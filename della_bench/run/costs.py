"""What the judges of a plan will cost, as far as that can be told before the models have answered."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

from della_bench.errors import DataError
from della_bench.run.benchmarks import Step
from della_bench.run.evaluation import Evaluated

__all__ = ["FREE", "expected_cost"]

log = logging.getLogger(__name__)

FREE = "exact"  # the judge of gsm8k that asks no model

_Price = Callable[[Path, Mapping[str, Any]], "Decimal | None"]


def expected_cost(
    benchmark: str, step: Step, evaluated: Evaluated | None, options: Mapping[str, Any]
) -> Decimal | None:
    """Return about what a paid step will cost in US dollars; nobody is asked. None where that is unknown.

    Where the model has answered, its answers are counted, and those that are judged already cost nothing. Where it has
    not, the data set's own solutions stand in for its answers, so that it is a guess at their length; where the data
    set is not to be had either, a warning says so.

    Raises what the judge raises for a wrong name.
    """
    if not step.paid or (benchmark == "gsm8k" and options["judge"] == FREE):
        return Decimal(0)
    price, stand_in = _PAID[benchmark]
    if evaluated is not None:
        return price(evaluated.samples, options)
    try:
        answers = stand_in(options)
    except DataError as error:
        log.warning("%s: what judging will cost cannot be told: %s", benchmark, error)
        return None
    with tempfile.TemporaryDirectory(prefix="della-bench-") as folder:
        path = Path(folder) / "answers.json"
        path.write_text(json.dumps(answers), encoding="utf-8")
        return price(path, options)


def _gsm8k(path: Path, options: Mapping[str, Any]) -> Decimal | None:
    from della_bench.judging.gsm8k.estimate import estimate_gsm8k

    return estimate_gsm8k(path, options["judge"]).cost


def _gsm8k_answers(options: Mapping[str, Any]) -> list[dict[str, Any]]:
    from della_bench.data import load

    rows = list(load("gsm8k"))[: options.get("limit")]
    return [{"question": row["question"], "target": row["answer"], "response": row["answer"]} for row in rows]


def _alpaca_eval(path: Path, options: Mapping[str, Any]) -> Decimal | None:
    from della_bench.judging.alpaca.estimate import estimate_alpaca_eval

    return estimate_alpaca_eval(path, options["annotator"], limit=options.get("limit")).cost


def _alpaca_eval_answers(options: Mapping[str, Any]) -> list[dict[str, Any]]:
    from della_bench.data import load

    rows = list(load("alpaca_eval"))[: options.get("limit")]
    # Not the baseline's very words: alpaca_eval asks nobody about two equal answers.
    return [
        {"instruction": row["instruction"], "output": f"{row['output']} .", "generator": "not answered yet"}
        for row in rows
    ]


_PAID: dict[str, tuple[_Price, Callable[[Mapping[str, Any]], list[dict[str, Any]]]]] = {
    "gsm8k": (_gsm8k, _gsm8k_answers),
    "alpaca_eval": (_alpaca_eval, _alpaca_eval_answers),
}

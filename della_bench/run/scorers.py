"""The scorers of `della-bench run`, each behind the same call: what was evaluated, where to write, and options."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from della_bench.results.logged import score_logged
from della_bench.results.schema import Score
from della_bench.run.evaluation import Evaluated

__all__ = ["alpaca_eval", "gsm8k", "humaneval", "logged", "mbpp"]


def logged(evaluated: Evaluated, out: Path, options: Mapping[str, Any]) -> list[Score]:
    """Score by the metric that the task itself logged, once for each of its filters."""
    return score_logged(
        evaluated.samples, out, evaluated.task, evaluated.result, evaluated.task_version, evaluated.better
    )


def mbpp(evaluated: Evaluated, out: Path, options: Mapping[str, Any]) -> list[Score]:
    """Run the programs in the sandbox; `options["limit"]` says whether some problems may be missing."""
    return [_code("mbpp", evaluated, out, options)]


def humaneval(evaluated: Evaluated, out: Path, options: Mapping[str, Any]) -> list[Score]:
    """Run the programs in the sandbox; `options["limit"]` says whether some problems may be missing."""
    return [_code("humaneval", evaluated, out, options)]


def _code(benchmark: str, evaluated: Evaluated, out: Path, options: Mapping[str, Any]) -> Score:
    from della_bench.scoring.code.score import score_code

    return score_code(benchmark, evaluated.samples, out, partial=options.get("limit") is not None)


def gsm8k(evaluated: Evaluated, out: Path, options: Mapping[str, Any]) -> list[Score]:
    """Ask the judge `options["judge"]`: `exact` compares numbers and asks no model; others spend up to `max_cost`."""
    from della_bench.judging.asking import Asking
    from della_bench.judging.gsm8k.judge import judge_gsm8k

    asking = Asking(max_cost=options.get("max_cost"))
    return [judge_gsm8k(evaluated.samples, out, options["judge"], asking=asking, limit=options.get("limit"))]


def alpaca_eval(evaluated: Evaluated, out: Path, options: Mapping[str, Any]) -> list[Score]:
    """Ask alpaca_eval's annotator `options["annotator"]`, spending up to `max_cost`, over as many as were evaluated."""
    from della_bench.judging.alpaca.judge import judge_alpaca_eval
    from della_bench.judging.asking import Asking

    asking = Asking(max_cost=options.get("max_cost"))
    limit = options.get("limit")
    return [judge_alpaca_eval(evaluated.samples, out, options["annotator"], asking=asking, limit=limit)]

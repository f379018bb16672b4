"""What scores the answers to a benchmark, and the mark that makes a function one.

A function becomes the scorer of benchmarks by the mark `@scores(benchmark, ..., step=NAME)`; a paid one also names a
function that tells its cost.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from della_bench.benchmarks import BENCHMARKS, Benchmark
from della_bench.results.schema import Score
from della_bench.run.evaluated import Evaluated
from della_bench.run.options import Options

__all__ = ["CostFunction", "ScoreFunction", "Scorer", "marked_scorers", "scores"]

ScoreFunction = Callable[[Evaluated, Path, Options], list[Score]]
CostFunction = Callable[[Evaluated | None, Options], "Decimal | None"]


@dataclass(frozen=True)
class Scorer:
    """One step after an evaluation.

    score: takes the evaluation, the folder to write below and the options; writes scores and items, returns the scores.
    cost: about what that will cost in US dollars, None where nobody is paid. judge: the judge that the options choose,
    None where they choose none; another judge makes a step undone. check: raises what can be known to be wrong before
    any model has answered: no key, no server, no price, no sandbox. logged: whether lm-eval's results have the numbers
    already, so that nothing is written.
    """

    step: str
    score: ScoreFunction
    cost: CostFunction | None = None
    judge: Callable[[Options], str] | None = None
    check: Callable[[Options], None] | None = None
    logged: bool = False


_SCORERS: dict[str, list[Scorer]] = {}


def scores(
    *benchmarks: str,
    step: str,
    cost: CostFunction | None = None,
    judge: Callable[[Options], str] | None = None,
    check: Callable[[Options], None] | None = None,
) -> Callable[[ScoreFunction], ScoreFunction]:
    """Mark a function as the scorer of benchmarks; `step` is what plans and provenance.json call it."""

    def mark(function: ScoreFunction) -> ScoreFunction:
        for name in benchmarks:
            _SCORERS.setdefault(BENCHMARKS[name].name, []).append(Scorer(step, function, cost, judge, check))
        return function

    return mark


def marked_scorers(benchmark: Benchmark) -> Sequence[Scorer]:
    """Return the scorers that a mark names for a benchmark, in the order of the marks."""
    return _SCORERS.get(benchmark.name, [])

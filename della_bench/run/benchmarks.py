"""The benchmarks that `della-bench run` knows: which task of lm-eval each is, and what scores its answers."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from della_bench.errors import DataError
from della_bench.results.benchmarks import TASKS
from della_bench.results.schema import Score
from della_bench.run.evaluation import Evaluated
from della_bench.suggest import nearest

__all__ = ["Benchmark", "Step", "benchmark", "score"]

LM_EVAL = "lm_eval"


@dataclass(frozen=True)
class Step:
    """A scorer that follows an evaluation; `function` is module:name, imported when it is needed.

    The function takes (evaluated, out, options), writes its score and items below `out`, and returns its scores.
    """

    name: str
    function: str
    paid: bool = False


@dataclass(frozen=True)
class Benchmark:
    """What is evaluated under a name, and how its answers are scored. `unsafe`: it runs the model's programs."""

    name: str
    task: str
    steps: tuple[Step, ...]
    unsafe: bool = False


_LOGGED = Step(LM_EVAL, "della_bench.run.scorers:logged")
_KNOWN: Mapping[str, Benchmark] = {
    "gsm8k": Benchmark("gsm8k", TASKS["gsm8k"], (_LOGGED, Step("judge", "della_bench.run.scorers:gsm8k", paid=True))),
    "mbpp": Benchmark("mbpp", TASKS["mbpp"], (Step("sandbox", "della_bench.run.scorers:mbpp"),), unsafe=True),
    "humaneval": Benchmark(
        "humaneval", TASKS["humaneval"], (Step("sandbox", "della_bench.run.scorers:humaneval"),), unsafe=True
    ),
    "alpaca_eval": Benchmark(
        "alpaca_eval", TASKS["alpaca_eval"], (Step("annotator", "della_bench.run.scorers:alpaca_eval", paid=True),)
    ),
}


def benchmark(name: str, tasks: Callable[[], Collection[str]]) -> Benchmark:
    """Return the benchmark of a name: one of the known ones, or any task of lm-eval, by its own metric.

    tasks: gives the names that lm-eval knows, and is asked only where it must be. Raises DataError where there is none
    of that name.
    """
    if name in _KNOWN:
        return _KNOWN[name]
    there = tasks()
    if name in there:
        return Benchmark(name, name, (_LOGGED,))
    near = nearest(name, [*_KNOWN, *(task for task in there if task.startswith("zoo_"))])
    raise DataError(f"--benchmarks {name}: neither a benchmark nor a task of lm-eval{near}", exit_code=2)


def score(step: Step, evaluated: Evaluated, out: Path, options: Mapping[str, Any]) -> list[Score]:
    """Run a scorer on what was evaluated; raises what the scorer raises."""
    module, _, name = step.function.partition(":")
    function: Callable[[Evaluated, Path, Mapping[str, Any]], list[Score]] = getattr(
        importlib.import_module(module), name
    )
    return function(evaluated, out, options)

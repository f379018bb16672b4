"""Who scores the answers of a run, and what a paid judge will cost before it is asked."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

from della_bench.benchmarks import Benchmark
from della_bench.errors import DataError
from della_bench.results.cells import cell_score, make_cell
from della_bench.results.evaluation import read_evaluation
from della_bench.results.logged import score_logged
from della_bench.results.schema import Score
from della_bench.run import judge_scorers  # noqa: F401  # for its marks
from della_bench.run.evaluated import Evaluated
from della_bench.run.options import Options
from della_bench.run.scorer import Scorer, marked_scorers, scores

__all__ = ["expected_cost", "scorers_of", "scorers_of_group"]

log = logging.getLogger(__name__)


def scorers_of_group() -> Sequence[Scorer]:
    """Return the step that follows the evaluation of a group of tasks: lm-eval has its numbers."""
    return [Scorer("lm_eval", score_group, logged=True)]


def scorers_of(benchmark: Benchmark) -> Sequence[Scorer]:
    """Return the steps that follow an evaluation: the task's own metric where it is a number to show, then the rest."""
    own = [Scorer("lm_eval", score_by_task)] if benchmark.logged else []
    return [*own, *marked_scorers(benchmark)]


def expected_cost(
    benchmark: Benchmark, scorer: Scorer, evaluated: Evaluated | None, options: Options
) -> Decimal | None:
    """Return about what a step will cost in US dollars; nobody is asked. None where that is unknown.

    Where the model has answered, its answers are counted, and those that are judged already cost nothing. Where it has
    not, the data set's own solutions stand in for its answers, so that it is a guess at their length; where the data
    set is not to be had either, a warning says so.

    Raises what the judge raises for a wrong name.
    """
    if scorer.cost is None:
        return Decimal(0)
    try:
        return scorer.cost(evaluated, options)
    except DataError as error:
        if evaluated is not None:
            raise
        log.warning("%s: what judging will cost cannot be told: %s", benchmark.name, error)
        return None


def score_by_task(evaluated: Evaluated, out: Path, options: Options) -> list[Score]:
    """Score by the metric that the task itself logged, once for each of its filters."""
    return score_logged(
        evaluated.samples,
        out,
        evaluated.task,
        evaluated.result,
        evaluated.task_version,
        evaluated.better,
        model=evaluated.owner,
    )


def score_group(evaluated: Evaluated, out: Path, options: Options) -> list[Score]:
    """Return a group's numbers as lm-eval has aggregated them; where it has none, those of the tasks and groups in it.

    Nothing is written: the leaderboard reads them, and the items of all tasks, where lm-eval has logged them.
    """
    numbers = read_evaluation(evaluated.results).numbers
    shown = [each for each in numbers if each.task == evaluated.task]
    shown = shown or [each for each in numbers if each.group is None]
    return [cell_score(make_cell(each)) for each in shown]


def check_sandbox(options: Options) -> None:
    """Raise SandboxError where no level of isolation holds."""
    from della_bench.scoring.sandbox import find_level

    find_level()


@scores("mbpp", "humaneval", step="sandbox", check=check_sandbox)
def run_programs(evaluated: Evaluated, out: Path, options: Options) -> list[Score]:
    """Run the programs in the sandbox."""
    from della_bench.scoring.code.score import score_code

    partial = options.settings_of(evaluated.benchmark).partial
    return [score_code(evaluated.benchmark, evaluated.samples, out, known_partial=partial, model=evaluated.owner)]

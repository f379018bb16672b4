"""Who scores the answers of a run, and what a paid judge will cost before it is asked.

A function becomes the scorer of a benchmark by the mark `@scores(benchmark, ..., step=NAME)`; a paid one also names a
function that tells its cost.
"""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from della_bench.benchmarks import BENCHMARKS, Benchmark
from della_bench.errors import DataError, UsageError
from della_bench.results.cells import cell_score, make_cell
from della_bench.results.evaluation import read_evaluation
from della_bench.results.logged import score_logged
from della_bench.results.schema import Score
from della_bench.run.evaluation import Evaluated
from della_bench.run.options import Options
from della_bench.run.settings import EvalSettings

if TYPE_CHECKING:
    from della_bench.judging.cost import Price
    from della_bench.judging.policy import Tally
    from della_bench.judging.settings import JudgeSettings

__all__ = ["Scorer", "expected_cost", "scorers_of", "scorers_of_group", "scores"]

log = logging.getLogger(__name__)


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


def scorers_of_group() -> Sequence[Scorer]:
    """Return the step that follows the evaluation of a group of tasks: lm-eval has its numbers."""
    return [Scorer("lm_eval", score_group, logged=True)]


def scorers_of(benchmark: Benchmark) -> Sequence[Scorer]:
    """Return the steps that follow an evaluation: the task's own metric where it is a number to show, then the rest."""
    own = [Scorer("lm_eval", score_by_task)] if benchmark.logged else []
    return [*own, *_SCORERS.get(benchmark.name, [])]


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
    candidates = read_evaluation(evaluated.results).candidates
    own = [each for each in candidates if each.task == evaluated.task]
    return [cell_score(make_cell(each)) for each in own or [each for each in candidates if each.group is None]]


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


def cost_of_gsm8k(evaluated: Evaluated | None, options: Options) -> Decimal | None:
    """Return what judging GSM8K costs; `exact` costs nothing."""
    from della_bench.judging.gsm8k.by_number import EXACT
    from della_bench.judging.gsm8k.estimate import estimate_gsm8k

    if options.judge == EXACT:
        return Decimal(0)

    def solutions() -> list[dict[str, str]]:
        rows = _rows("gsm8k", options)
        return [{"question": row["question"], "target": row["answer"], "response": row["answer"]} for row in rows]

    with _answers(evaluated, solutions) as path:
        return estimate_gsm8k(path, options.judge).cost


def check_gsm8k(options: Options) -> None:
    """Raise JudgeError where the judge, its price, its key or its server are not there."""
    from della_bench.judging.gsm8k.by_number import EXACT
    from della_bench.judging.gsm8k.judge import load_judge_as_set

    if options.judge == EXACT:
        return
    settings = _settings(options)
    _check_asking(settings, load_judge_as_set(options.judge, settings).price)


@scores("gsm8k", step="judge", cost=cost_of_gsm8k, judge=lambda options: options.judge, check=check_gsm8k)
def judge_math(evaluated: Evaluated, out: Path, options: Options) -> list[Score]:
    """Ask the judge that is chosen: `exact` compares numbers and asks no model; others spend up to `max_cost`."""
    from della_bench.judging.gsm8k.judge import judge_gsm8k

    score = judge_gsm8k(
        evaluated.samples,
        out,
        options.judge,
        settings=_settings(options),
        owner=evaluated.owner,
        limit=_limit(evaluated.benchmark, options),
        progress=_progress(options),
    )
    return [score]


def cost_of_alpaca_eval(evaluated: Evaluated | None, options: Options) -> Decimal | None:
    """Return what AlpacaEval's annotator costs."""
    from della_bench.judging.alpaca.estimate import estimate_alpaca_eval

    def baseline() -> list[dict[str, str]]:
        # Not the baseline's very words: alpaca_eval asks nobody about two equal answers.
        return [
            {"instruction": row["instruction"], "output": f"{row['output']} .", "generator": "not answered yet"}
            for row in _rows("alpaca_eval", options)
        ]

    with _answers(evaluated, baseline) as path:
        return estimate_alpaca_eval(path, options.annotator, limit=_first("alpaca_eval", options)).cost


def check_alpaca_eval(options: Options) -> None:
    """Raise UsageError where the samples cannot be judged, and JudgeError or DataError where something is not there.

    That is the annotator, its baseline, price, key or server.
    """
    from della_bench.judging.alpaca.annotator import LENGTH_CONTROLLED, load_annotator
    from della_bench.judging.alpaca.reference import load_reference, published_annotations
    from della_bench.judging.prices import price_of

    annotator = load_annotator(options.annotator)
    controlled, named = annotator.metric == LENGTH_CONTROLLED, _asked("alpaca_eval", options).samples is not None
    if controlled and named and _first("alpaca_eval", options) is None:
        raise UsageError("samples: a length-controlled win rate is of the first so many instructions: use a limit")
    load_reference(annotator.baseline)
    if controlled:
        published_annotations()
    _check_asking(_settings(options), price_of(annotator.model))


@scores(
    "alpaca_eval",
    step="annotator",
    cost=cost_of_alpaca_eval,
    judge=lambda options: options.annotator,
    check=check_alpaca_eval,
)
def judge_instructions(evaluated: Evaluated, out: Path, options: Options) -> list[Score]:
    """Ask alpaca_eval's annotator, spending up to `max_cost`, over the instructions that were evaluated."""
    from della_bench.judging.alpaca.judge import judge_alpaca_eval

    score = judge_alpaca_eval(
        evaluated.samples,
        out,
        options.annotator,
        settings=_settings(options),
        owner=evaluated.owner,
        limit=_first(evaluated.benchmark, options),
        known_partial=_asked(evaluated.benchmark, options).partial,
        progress=_progress(options),
    )
    return [score]


def _settings(options: Options) -> JudgeSettings:
    from della_bench.judging.settings import JudgeSettings

    return JudgeSettings(max_cost=options.left(), spent=options.money.spend)


def _progress(options: Options) -> Callable[[int, int, Tally], None]:
    return lambda done, total, tally: options.watch("judging", done, total)


def _check_asking(settings: JudgeSettings, price: Price | None) -> None:
    """Raise JudgeError where a limit has no price to be held against, or there is no key or no server."""
    settings.budget(price)
    settings.server.require_key()
    settings.server.check()


def _limit(benchmark: str, options: Options) -> int | None:
    """Return how many of a benchmark's documents are asked, None where all are."""
    from della_bench.data import load

    settings = _asked(benchmark, options)
    return settings.count(len(load(benchmark))) if settings.partial else None


def _first(benchmark: str, options: Options) -> int | None:
    """Return how many of a benchmark's first documents are asked, None where all are, or others than the first."""
    samples = _asked(benchmark, options).samples
    if samples is None:
        return _limit(benchmark, options)
    places = [place for own in samples.values() for place in own]
    return len(places) if places == list(range(len(places))) else None


def _rows(benchmark: str, options: Options) -> list[Mapping[str, str]]:
    """Return the documents that are asked."""
    from della_bench.data import load

    rows, settings = list(load(benchmark)), _asked(benchmark, options)
    if settings.samples is not None:
        return [rows[place] for places in settings.samples.values() for place in places]
    return rows[: settings.count(len(rows))]


def _asked(benchmark: str, options: Options) -> EvalSettings:
    return options.settings_of(benchmark).of_tasks(benchmark, [BENCHMARKS[benchmark].task])


@contextmanager
def _answers(evaluated: Evaluated | None, stand_in: Callable[[], list[dict[str, str]]]) -> Iterator[Path]:
    """Yield a file of the model's answers, or of what stands in for them before there are any."""
    if evaluated is not None:
        yield evaluated.samples
        return
    with tempfile.TemporaryDirectory(prefix="della-bench-") as folder:
        path = Path(folder) / "answers.json"
        path.write_text(json.dumps(stand_in()), encoding="utf-8")
        yield path

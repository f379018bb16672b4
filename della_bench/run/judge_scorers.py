"""The paid scorers, GSM8K's judge and AlpacaEval's annotator: what they cost, and what they need before a run."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from della_bench.benchmarks import BENCHMARKS, benchmark_of, split_of
from della_bench.errors import UsageError
from della_bench.results.schema import Score
from della_bench.run.evaluated import Evaluated
from della_bench.run.options import Options
from della_bench.run.scorer import scores
from della_bench.run.settings import EvalSettings

if TYPE_CHECKING:
    from della_bench.judging.cost import Price
    from della_bench.judging.policy import Tally
    from della_bench.judging.settings import JudgeSettings


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
    from della_bench.judging.gsm8k.asking import load_judge_as_set
    from della_bench.judging.gsm8k.by_number import EXACT

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
        limit=_limit(evaluated.task, options),
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


def _limit(task: str, options: Options) -> int | None:
    """Return how many documents of a task of some benchmark are asked, None where all are."""
    from della_bench.data import load

    settings = options.settings_of(benchmark_of(task)).of_tasks(benchmark_of(task), [task])
    return settings.count(len(load(*split_of(task)))) if settings.partial else None


def _first(benchmark: str, options: Options) -> int | None:
    """Return how many of a benchmark's first documents are asked, None where all are, or others than the first."""
    samples = _asked(benchmark, options).samples
    if samples is None:
        return _limit(BENCHMARKS[benchmark].task, options)
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

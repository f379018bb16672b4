"""Judging a model's answers by AlpacaEval: from a file of answers to a score, with alpaca_eval in between."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Iterator, Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from della_bench.errors import JudgeError
from della_bench.jsonfiles import write_whole
from della_bench.judging.alpaca.comparison import Choices, Comparison, compare, prepare
from della_bench.judging.alpaca.completer import Completer, Progress
from della_bench.judging.alpaca.process import Judged
from della_bench.judging.alpaca.score import BENCHMARK, make_items, make_score
from della_bench.judging.cost import Price
from della_bench.judging.prices import end_warning, price_of
from della_bench.judging.settings import JudgeSettings
from della_bench.lock import folder_lock
from della_bench.results.places import place_score
from della_bench.results.schema import Item, Score, Scorer, items_path, score_path, write_score

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["ATTEMPTS", "judge_alpaca_eval"]

_log = logging.getLogger("della_bench.judging")

ATTEMPTS = 3  # how often a comparison is asked for whose reply cannot be read
_UNLIMITED = 1_000_000  # the completer says when it is enough


def judge_alpaca_eval(
    samples: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    annotator: str = "alpaca_eval_gpt4",
    *,
    settings: JudgeSettings | None = None,
    price: Price | None = None,
    progress: Progress | None = None,
    owner: str | None = None,
    replace: bool = False,
    known_partial: bool = False,
    **choices: Unpack[Choices],
) -> Score:
    """Judge the answers in `samples`, write the score and what it was made from below `out`, and return the score.

    samples: lm-eval's log of the task alpaca_eval, or a file in alpaca_eval's own format. out: a folder, by default
    the samples'. annotator: a name that alpaca_eval ships, or a path. settings: how its model is asked, by default at
    OpenAI with the key in the environment. price: of the model, by default what is known of it. owner: fingerprint of
    the one model that `out` is for; else another input's score keeps its name and this one gets its own, unless
    `replace`. known_partial: no warning where instructions have no answer: whoever calls asked for a part. `choices`
    are those of `prepare`: `reference`, `metric`, `name`, `wanted_filter`, `limit`.

    Instructions without an answer are left out. A comparison that was refused, and one whose reply cannot be read in
    ATTEMPTS tries, are unscored.
    Run again after any end, it goes on where it was, and what was paid for comes from the cache.

    Raises JudgeError where alpaca_eval is not installed or fails, for a faulty annotator, and (StopRun, OutOfBudget)
    where the server or the budget lets no request through; DataError for faulty answers or baselines.
    """
    settings = JudgeSettings() if settings is None else settings
    samples, out = Path(samples), None if out is None else Path(out)
    comparison = prepare(samples, out, annotator, settings=settings, **choices)
    if warning := end_warning(comparison.annotator.model, date.today()):
        _log.warning("%s", warning)
    if comparison.missing and not known_partial:
        _log.warning(
            "%s: a partial run: no answer to %d of %d instructions; the score is of the others",
            samples,
            len(comparison.missing),
            comparison.n,
        )
    price = price_of(comparison.annotator.model, price)
    if price is None and settings.max_cost is not None:
        message = f"`max_cost`: the price of {comparison.annotator.model} is not known here: give it as `price`"
        raise JudgeError(message, exit_code=2)
    name = comparison.annotator.name
    place = place_score(comparison.out, BENCHMARK, name, samples, model=owner, replace=replace)
    comparison = comparison.placed(place)
    with (
        _locked(comparison.folder),
        Completer(settings, price, comparison.folder, ATTEMPTS, progress) as completer,
    ):
        tries = _UNLIMITED if settings.retry_unscored else ATTEMPTS
        judged = compare(comparison, comparison.folder, completer, metric=comparison.metric, attempts=tries)
        items = make_items(comparison.answers, judged, comparison.reference)
        score = _score(comparison, judged, items, completer, price)
        _write(comparison, items, score)
    return score


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the annotator's folder, so that no two processes write the same files; raises JudgeError.

    What cannot be written below it is one too.
    """
    with folder_lock(folder, wait=False) as held:
        if not held:
            raise JudgeError(f"{folder}: another process is judging into it; wait for it, or take another `out`")
        try:
            yield
        except OSError as error:
            raise JudgeError(
                f"{error.filename or folder}: cannot be written ({error.strerror or error}); what was answered is kept "
                "in the cache: mend this and run the same command again"
            ) from error


def _write(comparison: Comparison, items: Sequence[Item], score: Score) -> None:
    """Write items and score; the old score goes first, so that no score ever stands beside another's items."""
    name = comparison.place
    score_path(comparison.out, BENCHMARK, name).unlink(missing_ok=True)
    rows = (json.dumps(item, ensure_ascii=False, allow_nan=False) + "\n" for item in items)
    write_whole(items_path(comparison.out, BENCHMARK, name), "".join(rows))
    write_score(comparison.out, score, name)
    if comparison.leaderboard.parent != comparison.folder:
        write_whole(comparison.leaderboard, (comparison.folder / "leaderboard.csv").read_text(encoding="utf-8"))


def _score(
    comparison: Comparison, judged: Judged, items: list[Item], completer: Completer, price: Price | None
) -> Score:
    replies = list(completer.replies.values())
    models = sorted({reply.model for reply in replies if reply.model})
    prompt, completion = sum(r.prompt_tokens for r in replies), sum(r.completion_tokens for r in replies)
    costs = [price.of(r.prompt_tokens, r.completion_tokens, r.price_share) for r in replies] if price else []
    scorer = Scorer(
        name=comparison.annotator.name,
        version=version("alpaca_eval"),
        model=", ".join(models) or None,
    )
    detail = {
        "samples": comparison.path.name,
        "samples_sha256": hashlib.sha256(comparison.path.read_bytes()).hexdigest(),
        "place": comparison.place,
        "filter": comparison.answers.filter or None,
        "generator": comparison.answers.generator,
        "baseline": comparison.reference.generator,
        "reference": comparison.reference.name,
        "instructions": len(comparison.reference.rows),
        "n_expected": comparison.n,
        "missing": len(comparison.missing),
        "model_asked": comparison.annotator.model,
        "replies": len(replies),
        "failures": dict(completer.failures.most_common()),
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "cost": float(sum(costs)) if price else None,
    }
    return make_score(comparison.annotator, comparison.metric, items, judged, scorer, detail)

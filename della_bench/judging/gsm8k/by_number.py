"""The judge that asks no model: the announced number against the reference's."""

from __future__ import annotations

import logging
from pathlib import Path

from della_bench import __version__
from della_bench.judging.gsm8k.exact import announced_number, reference_number
from della_bench.judging.gsm8k.find import EXACT
from della_bench.judging.gsm8k.read import Answer, Answers
from della_bench.judging.gsm8k.report import make_score, share
from della_bench.judging.gsm8k.rows import GSM8KItem, item_row
from della_bench.judging.gsm8k.store import BENCHMARK, write_tables
from della_bench.results.places import place_score
from della_bench.results.schema import Score, Scorer, write_score

__all__ = ["EXACT", "judge_by_number"]

_log = logging.getLogger("della_bench.judging")

_FAR_APART = 10.0  # percentage points between this judge and flexible-extract
_ENOUGH = 20  # answers from which on shares are compared


def judge_by_number(answers: Answers, out: Path, *, model: str | None = None, replace: bool = False) -> Score:
    """Judge every answer by the number that it announces; write score, items and table below `out`.

    model, replace: as `place_score` takes them.

    An answer that announces none is wrong, and the score's detail says how many announce one; one whose reference has
    none is unscored, as is one at which reading fails. A warning says so where this judge and the task's
    flexible-extract are far apart: then the answers are of a form that one of the two cannot read.
    """
    rows = [_row(answer) for answer in answers.answers]
    name = place_score(out, BENCHMARK, EXACT, answers.path, model=model, replace=replace)
    write_tables(out, name, answers.answers, rows)
    announced = sum(bool(row["answer"]) for row in rows)
    score = make_score(
        answers,
        rows,
        Scorer(name=EXACT, version=__version__, model=None),
        None,
        {"announced": announced, "place": name},
    )
    _compare(answers, score, announced)
    write_score(out, score, name)
    return score


def _compare(answers: Answers, score: Score, announced: int) -> None:
    n = len(answers.answers)
    theirs = share(sum(answer.metrics["flexible-extract"] for answer in answers.answers), n)["value"]
    ours = score["value"]
    if ours is None or theirs is None or n < _ENOUGH or abs(ours - theirs) <= _FAR_APART:
        return
    _log.warning(
        "%s: judge %s finds %.1f %% right and flexible-extract %.1f %%; %d of %d answers announce a number: look at "
        "some of them before you believe either",
        answers.path,
        EXACT,
        ours,
        theirs,
        announced,
        n,
    )


def _row(answer: Answer) -> GSM8KItem:
    try:
        number, right = announced_number(answer.response), reference_number(answer.target)
    except Exception as error:  # whatever a text does to the reading, it is this answer's alone
        said = f"{type(error).__name__}: {error}"
        _log.warning("doc_id %d is unscored: %s", answer.doc_id, said)
        return item_row(answer, None, judged="", explanation=said, reason="error")
    announced = "" if number is None else str(number)
    if right is None:
        return item_row(answer, None, judged=announced, explanation="the reference has no number", reason="reference")
    said = f"{announced} is announced" if announced else "no number is announced"
    return item_row(answer, float(number == right), judged=announced, explanation=f"{said}, the reference says {right}")

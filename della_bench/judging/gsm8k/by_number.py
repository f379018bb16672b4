"""The judge that asks no model: the announced number against the reference's."""

from __future__ import annotations

from pathlib import Path

from della_bench import __version__
from della_bench.judging.gsm8k.exact import announced_number, reference_number
from della_bench.judging.gsm8k.read import Answer, Answers
from della_bench.judging.gsm8k.report import make_score
from della_bench.judging.gsm8k.rows import GSM8KItem, item_row
from della_bench.judging.gsm8k.store import write_tables
from della_bench.results.schema import Score, Scorer, write_score

__all__ = ["EXACT", "judge_by_number"]

EXACT = "exact"


def judge_by_number(answers: Answers, out: Path) -> Score:
    """Judge every answer by the number that it announces; write score, items and table below `out`.

    An answer that announces none is wrong; one whose reference has none is unscored.
    """
    rows = [_row(answer) for answer in answers.answers]
    write_tables(out, EXACT, answers.answers, rows)
    score = make_score(answers, rows, Scorer(name=EXACT, version=__version__, model=None), None, {})
    write_score(out, score)
    return score


def _row(answer: Answer) -> GSM8KItem:
    found, right = announced_number(answer.response), reference_number(answer.target)
    announced = "" if found is None else str(found)
    if right is None:
        return item_row(answer, None, judged=announced, explanation="the reference has no number", reason="reference")
    said = f"{announced} is announced" if announced else "no number is announced"
    return item_row(answer, float(found == right), judged=announced, explanation=f"{said}, the reference says {right}")

"""From alpaca_eval's preferences to our items and score."""

from __future__ import annotations

from collections.abc import Mapping

from della_bench.judging.alpaca.annotator import LENGTH_CONTROLLED, Annotator
from della_bench.judging.alpaca.outputs import Answer, Answers
from della_bench.judging.alpaca.process import Judged, LeaderboardRow
from della_bench.judging.alpaca.reference import Reference
from della_bench.results.schema import SCHEMA, Item, Score, Scorer

__all__ = ["BENCHMARK", "make_items", "make_score"]

BENCHMARK = "alpaca_eval"
_VERDICTS = {0.0: "lost", 0.5: "draw", 1.0: "won"}


def make_items(answers: Answers, judged: Judged, reference: Reference) -> list[Item]:
    """Return one item for each answer, in the order of the baseline's instructions.

    `value` is alpaca_eval's preference as a share: 0 where the baseline's answer was preferred, 1 where the model's
    was, 0.5 for a draw, in between where the judge's probabilities were read; None where there is none.
    """
    items = []
    for row, (answer, preference) in enumerate(zip(answers.rows, judged.preferences, strict=True)):
        if preference is None:
            words, verdict, value = "no preference could be read in any of the judge's replies", "unscored", None
        else:
            value = preference - 1
            verdict = _VERDICTS.get(value, "won" if value > 0.5 else "lost")
            same = answer.output == reference.rows[answer.position]["output"]
            words = judged.completions[row] or ("the answer is the baseline's" if same else "")
        items.append(_item(answer, answers.filter, value, verdict, words))
    return items


def _item(answer: Answer, filter_name: str, value: float | None, verdict: str, explanation: str) -> Item:
    return Item(
        schema=SCHEMA,
        doc_id=answer.doc_id,
        doc_hash=answer.doc_hash,
        filter=filter_name,
        value=value,
        verdict=verdict,
        answer=answer.output,
        explanation=explanation,
    )


def make_score(
    annotator: Annotator,
    metric: str,
    items: list[Item],
    judged: Judged,
    scorer: Scorer,
    detail: Mapping[str, object],
) -> Score:
    """Return the score: alpaca_eval's own win rate in percent, with a 95 % interval and what it counted.

    The interval of the plain win rate is Wilson's where every comparison was won or lost, and Student's t where there
    are draws or probabilities; the length-controlled one is normal, by the standard error that alpaca_eval reports.
    """
    row = judged.leaderboard
    values = [item["value"] for item in items if item["value"] is not None]
    value = None
    if values:
        value = row["length_controlled_winrate"] if metric == LENGTH_CONTROLLED else row["win_rate"]
    share = [sum(values) / len(items), (sum(values) + len(items) - len(values)) / len(items)] if items else [0.0, 1.0]
    return Score(
        schema=SCHEMA,
        benchmark=BENCHMARK,
        metric=metric,
        value=value,
        interval=_interval(metric, value, row, values),
        n=len(values),
        unscored=len(items) - len(values),
        scorer=scorer,
        detail={
            **detail,
            "annotator": annotator.name,
            "standard_error": row.get("lc_standard_error" if metric == LENGTH_CONTROLLED else "standard_error"),
            "n_total": row.get("n_total", 0),
            # The plain win rate, were every unscored comparison lost or won.
            "win_rate_bounds": [100 * share[0], 100 * share[1]],
            "alpaca_eval": row,
        },
    )


def _interval(metric: str, value: float | None, row: LeaderboardRow, values: list[float]) -> list[float] | None:
    if value is None:
        return None
    if metric == LENGTH_CONTROLLED:
        from scipy.stats import norm

        error = row.get("lc_standard_error")
        if not error:
            return None
        low, high = norm.interval(0.95, loc=value, scale=error)
        return [max(0.0, float(low)), min(100.0, float(high))]
    import numpy as np

    from della_bench.results.stats import mean_interval

    interval = mean_interval(np.array(values, dtype=float))
    return None if interval is None else [100 * max(0.0, interval[0]), 100 * min(1.0, interval[1])]

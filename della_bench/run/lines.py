"""What a run says to people, in lines."""

from __future__ import annotations

from collections.abc import Sequence

from della_bench.results.schema import Score

__all__ = ["fault_text", "score_text"]


def fault_text(row: str, reason: str, names: Sequence[str]) -> str:
    """Return what failed in a line, with the models that it is about."""
    if len(names) == 1:
        return f"{names[0]}, {row}: {reason}" if row else f"{names[0]}: {reason}"
    return f"{row or 'not run'}: {reason} ({', '.join(names)})"


def score_text(score: Score) -> str:
    """Return a score in a line: benchmark, scorer, percent and interval, and what is unscored."""
    who = f"{score['benchmark']} ({score['scorer']['name']})"
    if score["value"] is None:
        return f"{who} nothing scored"
    interval = score["interval"]
    ends = "" if interval is None else f" [{interval[0]:.1f}, {interval[1]:.1f}]"
    unscored = f", {score['unscored']} unscored" if score["unscored"] else ""
    return f"{who} {score['value']:.1f}{ends}{unscored}"

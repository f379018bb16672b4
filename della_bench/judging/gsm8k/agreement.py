"""How far two raters of the same items agree: the table, the share, and Cohen's kappa with its uncertainty."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from typing_extensions import NotRequired

__all__ = ["Agreement", "agreement", "kappa"]

_RESAMPLES = 9999
_SEED = 1960  # the year of Cohen's paper; any number would do


def kappa(both: float, first_only: float, second_only: float, neither: float) -> float | None:
    """Return Cohen's kappa of a 2x2 table of counts; None where it is undefined: one rater, or both, used one label.

    (p_o - p_e) / (1 - p_e), with p_o the share of agreement and p_e what the raters' own shares give by chance.
    With one label missing from one rater the formula may still give 0, which says nothing of the raters: it is None.
    Source: Cohen (1960), A coefficient of agreement for nominal scales, Educational and Psychological Measurement 20.
    """
    n = both + first_only + second_only + neither
    if not n:
        return None
    first, second = (both + first_only) / n, (both + second_only) / n
    if first in (0, 1) or second in (0, 1):
        return None
    by_chance = first * second + (1 - first) * (1 - second)
    return ((both + neither) / n - by_chance) / (1 - by_chance)


class Agreement(TypedDict):
    """How two raters agree, as a score's detail holds it; `agreement` says what each key means."""

    n: int
    table: dict[str, int]
    raw: float | None
    kappa: float | None
    interval: list[float] | None
    note: NotRequired[str]


def agreement(first: Sequence[bool], second: Sequence[bool], names: tuple[str, str] = ("first", "second")) -> Agreement:
    """Return how two raters agree on the same items, given in the same order.

    "table" counts the items that both, one or neither call true, by the raters' `names`; "raw" is the share of
    agreement in percent, "kappa" Cohen's with "interval", the 95 % percentile interval of a bootstrap over items; both
    are None where a rater used one label only, and "note" says so.
    """
    pairs = list(zip(first, second, strict=True))
    counts = [pairs.count(kind) for kind in ((True, True), (True, False), (False, True), (False, False))]
    labels = ("both", f"{names[0]}_only", f"{names[1]}_only", "neither")
    value = kappa(*counts)
    out: Agreement = {
        "n": len(pairs),
        "table": dict(zip(labels, counts, strict=True)),
        "raw": 100 * (counts[0] + counts[3]) / len(pairs) if pairs else None,
        "kappa": value,
        "interval": None if value is None else _interval(counts),
    }
    if value is None:
        out["note"] = "kappa is undefined: " + (
            "a rater gave all items the same label" if pairs else "no item has both labels"
        )
    return out


def _interval(counts: list[int]) -> list[float] | None:
    """Return the percentile bootstrap interval of kappa.

    Resampling n items with replacement makes the four counts of the table multinomial with the observed shares, so they
    are drawn as such. Draws in which a label vanishes have no kappa and are left out.
    Source: Efron and Tibshirani (1993), An introduction to the bootstrap, chapter 13.
    """
    import numpy as np

    n = sum(counts)
    drawn = np.random.default_rng(_SEED).multinomial(n, np.array(counts) / n, size=_RESAMPLES) / n
    both, first_only, second_only, neither = drawn.T
    first, second = both + first_only, both + second_only
    whole = (first > 0) & (first < 1) & (second > 0) & (second < 1)
    if not whole.any():
        return None
    by_chance = first * second + (1 - first) * (1 - second)
    values = (both + neither - by_chance)[whole] / (1 - by_chance)[whole]
    low, high = np.percentile(values, [2.5, 97.5])
    return [float(low), float(high)]

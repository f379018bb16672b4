"""How sure a number is: intervals for shares and means, tests between paired rows. scipy does the mathematics.

Values are numpy arrays of one number an item, without NaN; what is resampled is the items, never the models' sampling.
Every draw comes from a generator of a fixed seed, so that the same values give the same numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Values = NDArray[np.float64]

__all__ = [
    "RESAMPLES",
    "RESAMPLES_OF_INTERVAL",
    "Paired",
    "average_interval",
    "holm",
    "mcnemar",
    "mean_interval",
    "paired_bootstrap",
    "standard_error",
    "wilson",
]

CONFIDENCE = 0.95
RESAMPLES = 9999  # of a test: the smallest p is 2 / (RESAMPLES + 1)
RESAMPLES_OF_INTERVAL = 1999  # the interval's ends move by some 3 % of its width with the draw
_SEED = 20240617  # the day of the DELLA paper; any number would do
_BATCH_NUMBERS = 4_000_000  # most numbers drawn at once: 32 MB


@dataclass(frozen=True)
class Paired:
    """A paired test: two-sided `p`, mid-p where the test has one, and the items that speak for either side."""

    p: float
    p_mid: float | None
    wins: int
    losses: int


def wilson(successes: int, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return the Wilson score interval of the share successes / n, as two shares in [0, 1]; (0, 1) where n is 0.

    Source: Wilson (1927), Probable inference, the law of succession, and statistical inference.
    """
    if n == 0:
        return 0.0, 1.0
    from scipy.stats import binomtest

    interval = binomtest(successes, n).proportion_ci(confidence_level=confidence, method="wilson")
    return float(interval.low), float(interval.high)


def standard_error(values: Values) -> float | None:
    """Return the standard error of the mean of `values` (n), with n - 1 in the variance; None below two values."""
    from scipy.stats import sem

    return float(sem(values)) if len(values) > 1 else None


def mean_interval(values: Values, confidence: float = CONFIDENCE) -> tuple[float, float] | None:
    """Return an interval of the mean of `values` (n), in their unit; None where there is none.

    Wilson's where all are 0 or 1, else Student's t, which needs two values. Where all values are equal Student's
    interval is a point and says too much: it is None.
    """
    if len(values) == 0:
        return None
    if _all_binary(values):
        return wilson(int(values.sum()), len(values), confidence)
    error = standard_error(values)
    if not error:
        return None
    from scipy.stats import t

    low, high = t.interval(confidence, len(values) - 1, loc=values.mean(), scale=error)
    return float(low), float(high)


def mcnemar(ours: Values, theirs: Values) -> Paired:
    """Test whether two models are right equally often on the same items; both (n), of 0 and 1, item by item.

    `p` is the exact test: binomial on the items where the two differ. It never exceeds its level and stays below it
    where few items differ (3.5 % for 5 % on 200 items with 20 % differing), so `p_mid`, whose rate is close to the
    level, stands beside it.

    Source: McNemar (1947); for mid-p: Fagerland, Lydersen and Laake (2013), The McNemar test for binary matched-pairs
    data: mid-p and asymptotic are better than exact conditional, BMC Medical Research Methodology 13:91.
    """
    wins, losses = int((ours > theirs).sum()), int((ours < theirs).sum())
    if not wins + losses:
        return Paired(1.0, 1.0, 0, 0)
    from scipy.stats import binom, binomtest

    p = float(binomtest(wins, wins + losses).pvalue)
    point = float(binom.pmf(wins, wins + losses, 0.5))
    mid = 1 - point / 2 if wins == losses else p - point
    return Paired(p, mid, wins, losses)


def paired_bootstrap(
    differences: Sequence[Values], confidence: float = CONFIDENCE, resamples: int = RESAMPLES
) -> tuple[tuple[float, float], float]:
    """Return ((low, high), p) of a mean of means of paired differences, by resampling items within each array.

    differences: one array (n_i) a benchmark, this row's values minus the other's over the same items. The interval is
    the percentile interval, and p is two-sided: the level at which that interval would just touch 0.

    Source: Efron and Tibshirani (1993), An introduction to the bootstrap, chapters 13 and 15; for paired systems:
    Koehn (2004), Statistical significance tests for machine translation evaluation.
    """
    if not any(d.any() for d in differences):
        return (0.0, 0.0), 1.0
    result = _bootstrap(differences, confidence, resamples)
    drawn = result.bootstrap_distribution
    tail = min((drawn <= 0).sum(), (drawn >= 0).sum())
    interval = float(result.confidence_interval.low), float(result.confidence_interval.high)
    return interval, min(1.0, 2 * float(tail + 1) / (resamples + 1))


def average_interval(
    benchmarks: Sequence[Values], confidence: float = CONFIDENCE, resamples: int = RESAMPLES_OF_INTERVAL
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of the mean over benchmarks of the mean over items.

    benchmarks: one array (n_i) each. Items are resampled within each, the benchmarks are not: it is how far this
    average could move with other items of the same benchmarks, and says nothing of benchmarks that are not there.

    Source: Efron and Tibshirani (1993), chapter 13.
    """
    interval = _bootstrap(benchmarks, confidence, resamples).confidence_interval
    return float(interval.low), float(interval.high)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p values corrected for all of them being looked at, in the given order.

    The smallest is multiplied by m, the next by m - 1 and so on; none falls below the one before it, none exceeds 1.
    Source: Holm (1979), A simple sequentially rejective multiple test procedure, Scand. J. Statist. 6, 65-70.
    """
    corrected = [0.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = highest
    return corrected


def _all_binary(values: Values) -> bool:
    return bool(((values == 0) | (values == 1)).all())


def _bootstrap(samples: Sequence[Values], confidence: float, resamples: int) -> Any:
    import numpy as np
    from scipy.stats import bootstrap

    def mean_of_means(*drawn: Values, axis: int) -> Any:
        return sum(each.mean(axis=axis) for each in drawn) / len(drawn)

    return bootstrap(
        [np.repeat(each, 2) if len(each) == 1 else each for each in samples],  # scipy wants two; one item never varies
        mean_of_means,
        n_resamples=resamples,
        batch=max(1, _BATCH_NUMBERS // max(map(len, samples))),
        vectorized=True,
        axis=-1,
        confidence_level=confidence,
        method="percentile",
        rng=np.random.default_rng(_SEED),
    )

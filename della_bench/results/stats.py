"""How sure a number is: intervals for shares and means, McNemar's test, Holm's correction. scipy does the mathematics.

Values are numpy arrays of one number an item, without NaN. What resampling has to say stands in `bootstrap`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

from della_bench.results.bootstrap import CONFIDENCE

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Counts = NDArray[np.int64]
    Values = NDArray[np.float64]

__all__ = ["holm", "is_binary", "mcnemar", "mean_interval", "standard_error", "wilson"]


@cache  # scipy's takes milliseconds, as it tests, too; and thousands of rows have few values
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
    return float(values.std(ddof=1)) / len(values) ** 0.5 if len(values) > 1 else None


def mean_interval(values: Values, confidence: float = CONFIDENCE) -> tuple[float, float] | None:
    """Return an interval of the mean of `values` (n), in their unit; None where there is none.

    Wilson's where all are 0 or 1, else Student's t, which needs two values. Where all values are equal Student's
    interval is a point and says too much: it is None.
    """
    if len(values) == 0:
        return None
    if is_binary(values):
        return wilson(int(values.sum()), len(values), confidence)
    error = standard_error(values)
    if not error:
        return None
    from scipy.stats import t

    low, high = t.interval(confidence, len(values) - 1, loc=values.mean(), scale=error)
    return float(low), float(high)


def mcnemar(wins: Counts, losses: Counts) -> tuple[Values, Values]:
    """Test whether two models are right equally often: return (p, mid-p), two-sided, for each pair of models.

    wins, losses: (pairs) the items that only the one, and only the other, has right. `p` is the exact test: binomial on
    the items where the two differ. It never exceeds its level and stays below it where few items differ (3.5 % for 5 %
    on 200 items with 20 % differing), so mid-p, whose rate is close to the level, stands beside it.

    Source: McNemar (1947); for mid-p: Fagerland, Lydersen and Laake (2013), The McNemar test for binary matched-pairs
    data: mid-p and asymptotic are better than exact conditional, BMC Medical Research Methodology 13:91.
    """
    import numpy as np
    from scipy.stats import binom

    fewer, differing = np.minimum(wins, losses), wins + losses
    p = np.minimum(1.0, 2 * binom.cdf(fewer, differing, 0.5))
    point = binom.pmf(fewer, differing, 0.5)
    mid = np.where(wins == losses, np.where(differing == 0, 1.0, 1 - point / 2), p - point)
    return p, mid


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


def is_binary(values: Values) -> bool:
    """Return whether all values are 0 or 1: wrong or right."""
    return bool(((values == 0) | (values == 1)).all())

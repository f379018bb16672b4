"""The bootstrap of means over items: intervals and p values of many rows, or pairs of rows, at once.

It is scipy.stats.bootstrap's percentile method with scipy's own draws, but the draws of a benchmark are made once and
shared. A resample is kept as how often it drew each item, so that all resampled means are one product of matrices.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from della_bench.results.settings import plain_name

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Values = NDArray[np.float64]

__all__ = ["BLOCK", "CONFIDENCE", "RESAMPLES", "Resampled", "bootstrap", "seed_of"]

CONFIDENCE = 0.95
RESAMPLES = 9999  # the smallest p is 2 / (RESAMPLES + 1)
_SEED = 20240617  # the day of the DELLA paper; any number would do
BLOCK = 1024  # samples at once: the resampled means of a benchmark, and those of the averages, take 80 MB each
_COUNTS = 200_000  # numbers drawn at once: what is made of them stays in the processor's caches
_DECIMALS = 1e9  # values are taken to nine decimals


@dataclass(frozen=True)
class Resampled:
    """What resampling says of a mean: its percentile interval, and the two-sided p of its being 0.

    bounded: whether p is Hoeffding's bound, as no resample reached the other side of 0.
    """

    low: float
    high: float
    p: float
    bounded: bool = False


def seed_of(benchmark: str) -> list[int]:
    """Return the seed of a benchmark's draws: benchmarks are resampled apart, each in the same way in every table.

    How a benchmark was asked, which a column's name may say, is no part of it: the same pair may stand in others.
    """
    return [_SEED, *plain_name(benchmark).encode("utf-8", "replace")]


def bootstrap(
    samples: Sequence[Mapping[str, Values]],
    averaged: Sequence[str],
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
    *,
    average_only: bool = False,
) -> Iterator[tuple[dict[str, Resampled], Resampled | None]]:
    """Yield, for each of `samples`, what resampling its items says of its benchmarks and of its average.

    samples: by benchmark one value an item (n), without NaN: a row's values, or one row's minus another's. Items are
    resampled within each benchmark, the benchmarks are not: it is how far a number could move with other items of the
    same benchmarks. The average, the mean over `averaged` of the means over items, is None where a sample lacks one of
    them. average_only: leave the benchmarks' own numbers out, whose percentiles take most of the time.

    The interval is the percentile interval, and p is twice the smaller share of resampled means on either side of 0,
    the observed mean counted as one of them: (count + 1) / (resamples + 1). Resampling cannot tell how far below
    2 / (resamples + 1) a p lies, and a correction for many comparisons would turn any difference into noise. Where no
    resampled mean is beyond 0, p is therefore at most 2 exp(-z^2 / 2), which bounds the p of a randomization test, in
    which each value might as well have had the other sign; z is the mean over the square root of the sum of squares of
    what the items add to it. It holds for any number of items and needs no normal distribution.

    A sample's numbers are the same to the last bit whatever other samples it stands among, and turn with its sign: the
    values are taken to nine decimals, as whole numbers, whose sums are exact in any order of adding.

    Source: Efron and Tibshirani (1993), An introduction to the bootstrap, chapters 13 and 15; for paired systems:
    Koehn (2004), Statistical significance tests for machine translation evaluation; Hoeffding (1963), Probability
    inequalities for sums of bounded random variables, theorem 2.
    """
    import numpy as np

    for start in range(0, len(samples), BLOCK):
        block = samples[start : start + BLOCK]
        out: list[dict[str, Resampled]] = [{} for _ in block]
        complete = [index for index, sample in enumerate(block) if averaged and sample.keys() >= set(averaged)]
        row_of = {index: row for row, index in enumerate(complete)}
        sums = np.zeros((len(complete), resamples))
        # The averaged ones in their own order: other samples shall not change the order of adding.
        for benchmark in dict.fromkeys([*averaged, *(name for sample in block for name in sample)]):
            for members in _equally_long(block, benchmark):
                means = _means(np.stack([block[index][benchmark] for index in members]), benchmark, resamples)
                if benchmark in averaged:
                    averages = [(place, row_of[index]) for place, index in enumerate(members) if index in row_of]
                    places, rows = zip(*averages, strict=True) if averages else ((), ())
                    sums[list(rows)] += means[list(places)]
                if average_only:
                    continue
                observed = np.array([_observed(block[index], [benchmark]) for index in members])
                for index, resampled in zip(members, _read(means, observed, confidence), strict=True):
                    out[index][benchmark] = resampled
        sums /= max(1, len(averaged))
        observed = np.array([_observed(block[index], averaged) for index in complete])
        average = dict(zip(complete, _read(sums, observed, confidence), strict=True))
        yield from ((found, average.get(index)) for index, found in enumerate(out))


def _equally_long(samples: Sequence[Mapping[str, Values]], benchmark: str) -> list[list[int]]:
    """Return the places of the samples that have the benchmark, those over as many items together."""
    groups: dict[int, list[int]] = {}
    for index, sample in enumerate(samples):
        if benchmark in sample:
            groups.setdefault(len(sample[benchmark]), []).append(index)
    return list(groups.values())


def _means(values: Values, benchmark: str, resamples: int) -> Values:
    """Return the resampled means (m, resamples) of m samples' values (m, n)."""
    import numpy as np

    n = values.shape[1]
    whole = values * _DECIMALS
    np.rint(whole, out=whole)
    scale = _DECIMALS
    if bool((np.abs(whole) % _DECIMALS == 0).all()) and n < 2**24:  # right and wrong: exact in half the bytes, too
        whole, scale = (whole / _DECIMALS).astype(np.float32), 1.0
    out = np.empty((len(values), resamples))
    generator = np.random.default_rng(seed_of(benchmark))
    step = max(1, _COUNTS // n)
    for start in range(0, resamples, step):
        count = min(step, resamples - start)
        drawn = generator.integers(0, n, size=(count, n), dtype=np.int32).astype(np.intp)
        drawn += np.arange(0, count * n, n)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=count * n).reshape(count, n)  # (resamples, items)
        out[:, start : start + count] = whole @ counts.T.astype(whole.dtype)
    out /= n * scale
    return out


def _observed(sample: Mapping[str, Values], benchmarks: Sequence[str]) -> tuple[float, float]:
    """Return the mean over `benchmarks` of the means over items, and the sum of squares of what the items add."""
    count = len(benchmarks)
    mean = sum(float(sample[name].mean()) for name in benchmarks) / count
    return mean, sum(float((sample[name] ** 2).sum()) / (count * len(sample[name])) ** 2 for name in benchmarks)


def _read(means: Values, observed: Values, confidence: float) -> list[Resampled]:
    """Return what each row of resampled means (m, resamples) says; the rows are left in another order.

    observed: (m, 2), the mean and the sum of squares of what each item adds to it.
    """
    import numpy as np

    resamples = means.shape[1]
    tails = np.minimum((means <= 0).sum(axis=1), (means >= 0).sum(axis=1))
    p_values = np.minimum(1.0, 2 * (tails + 1) / (resamples + 1))
    mean, squares = observed.reshape(-1, 2).T
    bound = 2 * np.exp(-(mean**2) / np.maximum(2 * squares, np.finfo(float).tiny))
    bounded = (tails == 0) & (bound < p_values)
    p_values[bounded] = bound[bounded]
    # numpy's percentiles lie between two values; here the upper one mirrors the lower, so that -x has the ends of x.
    place = (resamples - 1) * (1 - confidence) / 2
    below, last = int(place), resamples - 1
    share = place - below
    above = min(below + 1, last)
    means.partition([below, above, last - above, last - below], axis=1)
    low = means[:, below] * (1 - share) + means[:, above] * share
    high = means[:, last - below] * (1 - share) + means[:, last - above] * share
    columns = (each.tolist() for each in (low, high, p_values, bounded))
    return [Resampled(*row) for row in zip(*columns, strict=True)]

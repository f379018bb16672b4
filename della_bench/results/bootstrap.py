"""The bootstrap of means over items: intervals and p values of many rows, or pairs of rows, at once.

It is scipy.stats.bootstrap's percentile method with scipy's own draws, but the draws of a benchmark are made once and
shared. A resample is kept as how often it drew each item, so that all resampled means are one product of matrices.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from della_bench.results.settings import plain_name

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from threadpoolctl import ThreadpoolController

    Values = NDArray[np.float64]

__all__ = ["BLOCK", "CONFIDENCE", "RESAMPLES", "Resampled", "bootstrap", "seed_of"]

CONFIDENCE = 0.95
RESAMPLES = 9999  # the smallest p is 2 / (RESAMPLES + 1)
_SEED = 20240617  # the day of the DELLA paper; any number would do
BLOCK = 1024  # samples at once: the resampled means of a benchmark, and those of the averages, take 80 MB each
_NUMBERS = 200_000  # numbers drawn, and sums made, at once: what is made of them stays in the processor's caches
_SUMS = 768  # different sums up to which counting them is faster than sorting the resamples
_DECIMALS = 1e9  # values are taken to nine decimals


@dataclass(frozen=True)
class Resampled:
    """A mean, and what resampling says of it: its percentile interval, and the two-sided p of its being 0.

    bounded: whether p is Hoeffding's bound, as no resample reached the other side of 0.
    """

    mean: float
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
    for start in range(0, len(samples), BLOCK):
        yield from _of_block(samples[start : start + BLOCK], averaged, confidence, resamples, average_only)


def _of_block(
    block: Sequence[Mapping[str, Values]],
    averaged: Sequence[str],
    confidence: float,
    resamples: int,
    average_only: bool,
) -> Iterator[tuple[dict[str, Resampled], Resampled | None]]:
    import numpy as np

    out: list[dict[str, Resampled]] = [{} for _ in block]
    complete = [index for index, sample in enumerate(block) if averaged and sample.keys() >= set(averaged)]
    row_of = {index: row for row, index in enumerate(complete)}
    averages = np.zeros((len(complete), resamples))
    observed = np.zeros((2, len(complete)))
    # The averaged ones in their own order: other samples shall not change the order of adding.
    for benchmark in dict.fromkeys([*averaged, *(name for sample in block for name in sample)]):
        for members in _equally_long(block, benchmark):
            rows = [row_of[index] for index in members if index in row_of] if benchmark in averaged else []
            if average_only and not rows:
                continue
            values = np.stack([block[index][benchmark] for index in members])
            n = values.shape[1]
            mean, squares = values.mean(axis=1), (values**2).sum(axis=1) / n**2
            # Where all samples are in the average they are so in the same order, and need not be picked.
            into: slice | list[int] = slice(None) if len(rows) == len(members) == len(complete) else rows
            of = [place for place, index in enumerate(members) if index in row_of]
            whole, scale = _whole_numbers(values)
            means = None if average_only else _collector(whole, scale, resamples)
            with _libraries().limit(limits=1, user_api="blas"):
                for drawn, sums in _resampled_sums(whole, benchmark, resamples):
                    if means is not None:
                        means.add(drawn, sums)
                    if rows:
                        picked = sums if len(rows) == len(members) else sums[of]
                        averages[into, drawn] += np.divide(picked, n * scale, dtype=float)
            if rows:
                observed[:, into] += mean[of], squares[of]
            if means is not None:
                found = _read(means, mean, squares, resamples, confidence)
                for index, each in zip(members, found, strict=True):
                    out[index][benchmark] = each
    count = max(1, len(averaged))
    averages /= count
    mean, squares = observed[0] / count, observed[1] / count**2
    average = dict(zip(complete, _read(_Kept(averages), mean, squares, resamples, confidence), strict=True))
    yield from ((each, average.get(index)) for index, each in enumerate(out))


@cache
def _libraries() -> ThreadpoolController:
    """Return what tells numpy's products of matrices how many threads they may have.

    One is enough: the products are small, and between two of them a second thread spends its time asking for work.
    """
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def _equally_long(samples: Sequence[Mapping[str, Values]], benchmark: str) -> list[list[int]]:
    """Return the places of the samples that have the benchmark, those over as many items together."""
    groups: dict[int, list[int]] = {}
    for index, sample in enumerate(samples):
        if benchmark in sample:
            groups.setdefault(len(sample[benchmark]), []).append(index)
    return list(groups.values())


def _whole_numbers(values: Values) -> tuple[NDArray[np.floating], float]:
    """Return the values (m, n) as whole numbers, and how many times as large these are: 1 for right and wrong."""
    import numpy as np

    whole = values * _DECIMALS
    np.rint(whole, out=whole)
    if bool((np.abs(whole) % _DECIMALS == 0).all()) and values.shape[1] < 2**24:  # exact in half the bytes, too
        return (whole / _DECIMALS).astype(np.float32), 1.0
    return whole, _DECIMALS


def _resampled_sums(
    whole: NDArray[np.floating], benchmark: str, resamples: int
) -> Iterator[tuple[slice, NDArray[np.floating]]]:
    """Yield the sums (m, c) of c resamples of m samples (m, n), with the places of those resamples among all."""
    import numpy as np

    m, n = whole.shape
    generator = np.random.default_rng(seed_of(benchmark))
    step, part = max(1, _NUMBERS // n), max(64, _NUMBERS // m)
    for start in range(0, resamples, step):
        count = min(step, resamples - start)
        drawn = generator.integers(0, n, size=(count, n), dtype=np.int32).astype(np.intp)
        drawn += np.arange(0, count * n, n)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=count * n).reshape(count, n).astype(whole.dtype)
        for first in range(0, count, part):
            sums = whole @ counts[first : first + part].T
            yield slice(start + first, start + first + sums.shape[1]), sums


def _collector(whole: NDArray[np.floating], scale: float, resamples: int) -> _Counted | _Kept:
    """Return what holds the resampled means of samples until they are read: counts, where few sums can come."""
    import numpy as np

    samples, n = whole.shape
    low, high = int(n * whole.min()), int(n * whole.max())
    if scale == 1 and high - low < _SUMS:
        return _Counted(samples, n, low, high)
    return _Kept(np.empty((samples, resamples)), n * scale)


class _Counted:
    """How often each sum of right and wrong came, which tells ranks without any sorting."""

    def __init__(self, samples: int, n: int, low: int, high: int) -> None:
        import numpy as np

        self._n, self._low, self._sums = n, low, high - low + 1
        self._first = (np.arange(samples) * self._sums - low)[:, None]
        self._counts = np.zeros(samples * self._sums, dtype=np.int64)

    def add(self, _: slice, sums: NDArray[np.floating]) -> None:
        """Take in the sums (samples, c) of c resamples."""
        import numpy as np

        places = sums.astype(np.intp)
        places += self._first
        self._counts += np.bincount(places.ravel(), minlength=len(self._counts))

    def read(self, ranks: Sequence[int]) -> tuple[NDArray[np.int64], list[Values]]:
        """Return how many resampled means lie on the rarer side of 0, and the means of these ranks from 0."""
        import numpy as np

        up_to = self._counts.reshape(-1, self._sums).cumsum(axis=1)  # (samples, sums): how many are as small
        resamples = int(up_to[0, -1])

        def at_most(whole: int) -> NDArray[np.int64]:
            place = whole - self._low
            return np.zeros(len(up_to), np.int64) if place < 0 else up_to[:, min(place, self._sums - 1)]

        tails = np.minimum(at_most(0), resamples - at_most(-1))
        return tails, [((up_to <= rank).sum(axis=1) + self._low) / self._n for rank in ranks]


class _Kept:
    """The resampled means (samples, resamples) themselves, which are left in another order."""

    def __init__(self, means: Values, scale: float = 1.0) -> None:
        """Keep `means`, which are either complete or made of sums that are `scale` times as large."""
        self._means, self._scale = means, scale

    def add(self, drawn: slice, sums: NDArray[np.floating]) -> None:
        """Take in the sums (samples, c) of the resamples in these places."""
        self._means[:, drawn] = sums
        self._means[:, drawn] /= self._scale

    def read(self, ranks: Sequence[int]) -> tuple[NDArray[np.int64], list[Values]]:
        """Return how many resampled means lie on the rarer side of 0, and the means of these ranks from 0."""
        import numpy as np

        tails = np.minimum((self._means <= 0).sum(axis=1), (self._means >= 0).sum(axis=1))
        self._means.partition(ranks, axis=1)
        return tails, [self._means[:, rank] for rank in ranks]


def _read(
    resampled: _Counted | _Kept, mean: Values, squares: Values, resamples: int, confidence: float
) -> list[Resampled]:
    """Return what the resampled means of each sample say.

    mean, squares: (samples) the observed mean, and the sum of squares of what each item adds to it.
    """
    import numpy as np

    # numpy's percentiles lie between two values; here the upper one mirrors the lower, so that -x has the ends of x.
    place, last = (resamples - 1) * (1 - confidence) / 2, resamples - 1
    below = int(place)
    above, share = min(below + 1, last), place - below
    tails, (first, second, last_but_one, final) = resampled.read([below, above, last - above, last - below])
    low = first * (1 - share) + second * share
    high = final * (1 - share) + last_but_one * share
    p_values = np.minimum(1.0, 2 * (tails + 1) / (resamples + 1))
    bound = 2 * np.exp(-(mean**2) / np.maximum(2 * squares, np.finfo(float).tiny))
    bounded = (tails == 0) & (bound < p_values)
    p_values[bounded] = bound[bounded]
    columns = (each.tolist() for each in (mean, low, high, p_values, bounded))
    return [Resampled(*row) for row in zip(*columns, strict=True)]

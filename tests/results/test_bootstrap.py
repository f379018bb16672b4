from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from della_bench.results.bootstrap import BLOCK, RESAMPLES, bootstrap, seed_of
from tests.results.test_stats import TREATED


def resampled(values: Any, name: str = "math", **options: Any) -> Any:
    ((found, _),) = bootstrap([{name: np.asarray(values, dtype=float)}], [], **options)
    return found[name]


def average(*values: Any) -> Any:
    named = {f"task {place}": np.asarray(each, dtype=float) for place, each in enumerate(values)}
    ((_, found),) = bootstrap([named], list(named))
    return found


class Given(np.random.Generator):
    """A generator for scipy that draws each sample's indices from the benchmark's own stream."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(np.random.PCG64(0))
        self.streams = [np.random.default_rng(seed_of(name)) for name in names]

    def integers(self, *arguments: Any, **options: Any) -> Any:
        self.streams.append(self.streams.pop(0))
        return self.streams[-1].integers(*arguments, **options)


def scipys(samples: Sequence[Any], rng: np.random.Generator) -> tuple[tuple[float, float], float]:
    """Return the percentile interval, and p as scipy's resampling tests count it: (count + 1) / (resamples + 1).

    scipy adds floating-point numbers, in which 0.1 + 0.2 - 0.3 is not 0: it gets whole thousandths, whose sums
    are exact.
    """

    def mean_of_means(*drawn: Any, axis: int) -> Any:
        return sum(each.mean(axis=axis) for each in drawn) / len(drawn)

    thousandths = [np.round(1000 * each, 1) for each in samples]
    found = scipy.stats.bootstrap(thousandths, mean_of_means, n_resamples=RESAMPLES, method="percentile", rng=rng)
    drawn = found.bootstrap_distribution
    tail = min((drawn <= 0).sum(), (drawn >= 0).sum())
    low, high = found.confidence_interval
    return (low / 1000, high / 1000), min(1.0, 2 * (tail + 1) / (RESAMPLES + 1))


RANDOM = np.random.default_rng(5)
BINARY = RANDOM.integers(-1, 2, 317).astype(float)
SIXTEENTHS = RANDOM.integers(-16, 18, 211) / 16
GRADED = np.round(RANDOM.normal(0.02, 0.3, 150).clip(-1, 1), 3)


@pytest.mark.parametrize("values", [BINARY, SIXTEENTHS, GRADED, BINARY[:2], GRADED[:3] + 0.1])
def test_an_interval_and_p_are_scipys_from_the_same_seed(values):
    (low, high), p = scipys([values], np.random.default_rng(seed_of("math")))
    found = resampled(values)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-12)
    assert found.p == p


def test_an_average_is_scipys_mean_of_means_from_the_same_draws():
    samples = [BINARY, SIXTEENTHS, GRADED]
    (low, high), p = scipys(samples, Given([f"task {place}" for place in range(3)]))
    found = average(*samples)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-12)
    assert found.p == p


def test_benchmarks_are_drawn_independently_of_one_another():
    # Two benchmarks with the same values: drawn alike, their average would vary as one of them does.
    alone, both = resampled(GRADED), average(GRADED, GRADED)
    assert both.high - both.low == pytest.approx((alone.high - alone.low) / 2**0.5, rel=0.05)


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_a_samples_numbers_are_the_same_to_the_last_bit_among_any_others_and_turn_with_its_sign(data):
    draw = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    n = data.draw(st.integers(1, 60))
    kinds = [draw.integers(-1, 2, n).astype(float), draw.random(n) - draw.random(n), draw.integers(-9, 9, n) / 10]
    samples = [{"math": data.draw(st.sampled_from(kinds)), "chat": draw.random(m)} for m in (n, n, n + 1, 1)]
    together = list(bootstrap(samples, ["math", "chat"], resamples=199))
    for sample, found in zip(samples, together, strict=True):
        assert list(bootstrap([sample], ["math", "chat"], resamples=199)) == [found]
    turned = [{name: -values for name, values in sample.items()} for sample in samples]
    for (ours, _), (theirs, _) in zip(together, bootstrap(turned, ["math", "chat"], resamples=199), strict=True):
        for one, other in zip(ours.values(), theirs.values(), strict=True):
            assert (-other.high, -other.low, other.p) == (one.low, one.high, one.p)


def test_more_samples_than_are_resampled_at_once_are_all_there():
    samples = [{"math": np.full(3, float(index))} for index in range(BLOCK + 2)]
    found = list(bootstrap(samples, ["math"], resamples=9))
    assert [each["math"].low for each, _ in found] == pytest.approx(list(range(BLOCK + 2)))
    assert all(average is not None and average.low == each["math"].low for each, average in found)


def test_a_sample_that_lacks_an_averaged_benchmark_has_no_average():
    values = np.ones(3)
    found = list(bootstrap([{"a": values}, {"a": values, "b": values}], ["a", "b"], resamples=9))
    assert [average is None for _, average in found] == [True, False]
    assert [set(each) for each, _ in found] == [{"a"}, {"a", "b"}]


def test_the_interval_of_a_mean_is_that_of_efron_and_tibshirani_section_13_3():
    found = resampled(TREATED, confidence=0.9, resamples=50_000)
    assert (found.low, found.high) == pytest.approx((49.7, 126.7), abs=1.5)  # theirs are of 1,000 draws


def test_darwins_plants_differ_as_student_found():
    # Fisher (1935), The design of experiments, table 3: crossed minus self-fertilised, t = 2.148, p = 0.0497.
    darwin = np.array([49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48], dtype=float)
    found = resampled(darwin)
    assert 0 < found.low < darwin.mean() < found.high
    assert found.p == pytest.approx(0.0497, abs=0.02)  # the bootstrap is a little bold on 15 pairs


def test_equal_values_give_a_difference_of_nothing():
    found = average(np.zeros(10), np.zeros(5))
    assert (found.low, found.high, found.p) == (0.0, 0.0, 1.0)


def test_resampling_is_within_each_benchmark():
    # A benchmark whose items are all alike adds no spread, however many it has.
    mixed = np.array([0.0, 1.0] * 50)
    alone, beside = average(mixed), average(mixed, np.ones(1_000))
    assert beside.high - beside.low == pytest.approx((alone.high - alone.low) / 2, rel=0.1)


def test_equal_win_rates_differ_in_five_percent_of_400_pairs():
    generator = np.random.default_rng(11)
    samples = [{"chat": generator.normal(size=400).clip(-2, 2) / 4} for _ in range(400)]
    found = [each["chat"].p < 0.05 for each, _ in bootstrap(samples, [], resamples=999)]
    assert 0.03 <= sum(found) / len(found) <= 0.075


def test_beyond_the_last_resample_p_is_no_smaller_than_that_of_the_randomization_test():
    # Each difference with either sign: 2^21 ways, counted out for two benchmarks of 10 and 11 items.
    draw = np.random.default_rng(2)
    for _ in range(3):
        samples = [np.round(draw.uniform(0.7, 1.0, n), 2) for n in (10, 11)]
        added = np.concatenate([values / len(values) / 2 for values in samples])
        sums = np.zeros(1)
        for each in added:
            sums = np.concatenate([sums + each, sums - each])
        exact = (np.abs(sums) >= added.sum() * (1 - 1e-12)).mean()
        found = average(*samples)
        assert found.bounded
        assert exact <= found.p < 2 / (RESAMPLES + 1)


def test_p_goes_on_falling_where_no_resample_reaches_the_other_side():
    found = [resampled(np.full(n, 0.5)) for n in (5, 17, 18, 100, 1000)]
    assert [each.bounded for each in found] == [False, False, False, True, True]
    assert [each.p for each in found[:3]] == [2 / (RESAMPLES + 1)] * 3
    assert found[3].p == pytest.approx(2 * np.exp(-50))
    assert found[4].p < 1e-200

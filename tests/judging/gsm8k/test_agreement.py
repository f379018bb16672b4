from __future__ import annotations

import random

import pytest

from della_bench.judging.gsm8k.agreement import agreement, kappa


@pytest.mark.parametrize("seed", range(20))
def test_kappa_is_that_of_scikit_learn(seed: int) -> None:
    from sklearn.metrics import cohen_kappa_score  # type: ignore[import-untyped]

    rng = random.Random(seed)
    first = [rng.random() < 0.4 for _ in range(60)]
    second = [one if rng.random() < 0.7 else not one for one in first]
    found = agreement(first, second)
    assert found["kappa"] == pytest.approx(cohen_kappa_score(first, second), abs=1e-12)
    assert sum(found["table"].values()) == 60
    assert found["raw"] == pytest.approx(100 * sum(a == b for a, b in zip(first, second, strict=True)) / 60)


def test_the_interval_holds_the_value_and_narrows_with_more_items() -> None:
    first, second = [True, True, False, False] * 10, [True, False, False, False] * 10
    few, many = agreement(first, second), agreement(first * 20, second * 20)
    assert few["kappa"] is not None
    assert few["interval"] is not None
    assert many["interval"] is not None
    low, high = few["interval"]
    assert low < few["kappa"] < high
    assert many["interval"][1] - many["interval"][0] < (high - low) / 3
    assert agreement(first, second) == few  # no chance between two looks


def test_the_interval_agrees_with_scipys_bootstrap_over_items() -> None:
    import numpy as np
    from scipy.stats import bootstrap

    rng = np.random.default_rng(1)
    first = rng.random(200) < 0.5
    second = np.where(rng.random(200) < 0.8, first, ~first)

    def of(a, b, axis=-1):
        both, one, two, none = (
            (a & b).sum(axis), (a & ~b).sum(axis), (~a & b).sum(axis), (~a & ~b).sum(axis)
        )  # fmt: skip
        return np.vectorize(kappa, otypes=[float])(both, one, two, none)

    theirs = bootstrap((first, second), of, paired=True, vectorized=True, n_resamples=4000, method="percentile",
                       rng=np.random.default_rng(2)).confidence_interval  # fmt: skip
    interval = agreement(first.tolist(), second.tolist())["interval"]
    assert interval is not None
    low, high = interval
    assert low == pytest.approx(theirs.low, abs=0.02)
    assert high == pytest.approx(theirs.high, abs=0.02)


@pytest.mark.parametrize(("first", "second"), [([True] * 9, [True, False] * 4 + [True]), ([True] * 5, [True] * 5)])
def test_kappa_is_undefined_where_a_label_is_missing_and_says_so(first: list[bool], second: list[bool]) -> None:
    found = agreement(first, second)
    assert found["kappa"] is None
    assert found["interval"] is None
    assert "undefined" in found["note"]


def test_nothing_to_compare_is_no_agreement() -> None:
    found = agreement([], [])
    assert (found["n"], found["raw"], found["kappa"]) == (0, None, None)

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import multivariate_hypergeom

from della_bench.search.race import cannot_win, is_stopped, looks

# What 400 tries of an event of 5 % stay below but for one time in a thousand.
MOST = 0.05 * 400 + 3.1 * (400 * 0.05 * 0.95) ** 0.5


@pytest.mark.parametrize(("counts", "block"), [([40, 40, 40], 10), ([7, 100], 30), ([5], 10), ([200, 90, 3], 20)])
def test_looks_end_with_all_items_and_advance_in_proportion(counts, block):
    found = looks(counts, block)
    assert found[-1] == counts
    for number, ends in enumerate(found, start=1):
        share = number / len(found)
        assert all(share * count <= end < share * count + 1 for end, count in zip(ends, counts, strict=True))


def stops(differences: np.ndarray, number: int, alpha: float = 0.05) -> bool:
    """Return whether a candidate is stopped anywhere on the way through all its items."""
    parts = np.array_split(differences, number)
    return any(is_stopped(parts[:look], len(differences), number - 1, alpha, 999) for look in range(1, number))


@pytest.mark.parametrize(("items", "discordant", "number"), [(120, 60, 4), (60, 10, 6), (200, 100, 10)])
def test_a_candidate_as_good_as_the_best_is_seldom_stopped_in_any_order_of_the_items(items, discordant, number):
    rng = np.random.default_rng(0)
    tied = np.zeros(items)
    tied[: discordant // 2], tied[discordant // 2 : discordant] = 1, -1
    assert sum(stops(rng.permutation(tied) / items, number) for _ in range(400)) <= MOST


@pytest.mark.parametrize(
    ("items", "seen", "losses"), [(50, 12, 6), (60, 20, 5), (100, 25, 5), (100, 50, 5), (200, 50, 6), (200, 100, 4)]
)
def test_a_single_look_is_the_exact_test_of_the_discordant_items(items, seen, losses):
    worse, better, equal = balanced = _discordant(items, seen, losses)
    chance = sum(
        multivariate_hypergeom.pmf([lost, won, seen - lost - won], balanced, seen)
        for lost in range(min(seen, worse) + 1)
        for won in range(min(seen - lost, better) + 1)
        if won - lost <= -losses and seen - lost - won <= equal
    )
    differences = [-np.repeat([1 / items, 0.0], [losses, seen - losses])]
    assert not is_stopped(differences, items, 1, 0.75 * chance)
    assert is_stopped(differences, items, 1, 1.35 * chance)


def _discordant(items: int, seen: int, losses: int) -> tuple[int, int, int]:
    """Return how many of all items are lost, won and equal where as many as in the seen part are discordant."""
    discordant = -(-losses * items // seen)
    return -(-discordant // 2), discordant // 2, items - discordant


def test_values_between_right_and_wrong_and_unequal_weights_keep_the_level_too():
    rng = np.random.default_rng(1)
    stopped = 0
    for _ in range(400):
        first, second = rng.normal(size=80) * 2, rng.normal(size=80)
        first, second = first - first.mean(), second - second.mean()
        order = np.stack([rng.permutation(first), rng.permutation(second)], axis=1).ravel()
        stopped += stops(order, 5)
    assert stopped <= MOST


def test_a_much_worse_candidate_is_stopped_at_the_first_look():
    differences = np.where(np.arange(120) % 2 == 0, -1.0, 0.0) / 120
    assert is_stopped(np.array_split(differences, 4)[:1], 120, 3, 0.05)


def test_a_candidate_that_is_ahead_is_never_stopped():
    assert not is_stopped([np.full(30, 0.01)], 120, 3, 0.99)


def test_the_same_differences_are_judged_in_the_same_way_every_time():
    rng = np.random.default_rng(2)
    differences = [rng.integers(-1, 2, 30) / 120 for _ in range(3)]
    assert len({is_stopped(differences, 120, 3, 0.05) for _ in range(3)}) == 1


def test_who_cannot_reach_the_best_even_by_answering_all_else_is_out_and_nobody_else():
    half = [np.array([0.0] * 10)]
    assert cannot_win(half, [20], [1.0], 0.55)
    assert not cannot_win(half, [20], [1.0], 0.5)  # it may still come out equal
    assert cannot_win([np.zeros(5), np.ones(5)], [10, 10], [0.75, 0.25], 0.7)
    assert not cannot_win([np.zeros(5), np.ones(5)], [10, 10], [0.75, 0.25], 0.62)

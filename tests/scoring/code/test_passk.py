from __future__ import annotations

from itertools import combinations
from math import prod

import pytest

from della_bench.scoring.code.passk import detail_of, ks_up_to, pass_at_k, pass_at_ks, unequal


@pytest.mark.parametrize("n", [1, 2, 5, 8])
def test_pass_at_k_is_the_share_of_subsets_that_hold_an_answer_that_passed(n):
    for passed in range(n + 1):
        answers = [True] * passed + [False] * (n - passed)
        for k in range(1, n + 1):
            subsets = list(combinations(answers, k))
            assert pass_at_k(n, passed, k) == pytest.approx(sum(map(any, subsets)) / len(subsets), abs=1e-15)


def test_pass_at_k_agrees_with_the_product_that_other_harnesses_compute():
    for n, passed, k in [(200, 3, 100), (200, 150, 10), (100, 0, 10), (20, 11, 10), (200, 101, 100)]:
        product = 1 - prod(1 - k / i for i in range(n - passed + 1, n + 1)) if n - passed >= k else 1.0
        assert pass_at_k(n, passed, k) == pytest.approx(product, abs=1e-12)


def test_pass_at_1_is_the_share_that_passed():
    assert [pass_at_k(4, passed, 1) for passed in range(5)] == [0, 0.25, 0.5, 0.75, 1]


@pytest.mark.parametrize(("n", "passed", "k"), [(0, 0, 1), (3, 4, 1), (3, -1, 1), (3, 1, 4), (3, 1, 0)])
def test_impossible_counts_are_an_error(n, passed, k):
    with pytest.raises(ValueError, match="pass@"):
        pass_at_k(n, passed, k)


def test_every_k_that_is_shown_can_be_estimated():
    assert [ks_up_to(n) for n in (0, 1, 9, 10, 200)] == [(), (1,), (1, 5), (1, 5, 10), (1, 5, 10, 100)]


UNEQUAL = [(10, 5), (10, 0), (1, 1), (0, 0)]


def test_pass_at_k_is_over_the_problems_that_have_k_answers():
    found = pass_at_ks(UNEQUAL)
    assert found[1] == {"value": pytest.approx(50.0), "problems": 3}
    assert found[10] == {"value": pytest.approx(50.0), "problems": 2}
    assert set(found) == {1, 5, 10}
    assert pass_at_ks([]) == {}


def test_what_is_over_some_problems_only_is_kept_apart_and_said():
    assert detail_of(UNEQUAL) == {"of_some": {f"pass@{k}": pass_at_ks(UNEQUAL)[k] for k in (5, 10)}}
    assert detail_of([(5, 5), (5, 0)]) == {"pass@5": 50.0}
    assert unequal(UNEQUAL) == (
        "problems have 1 to 10 answers: each counts alike in pass@1; pass@5 over the 2 problems that have as many; "
        "pass@10 over the 2 problems that have as many"
    )
    assert unequal([(3, 1), (3, 2), (0, 0)]) == ""

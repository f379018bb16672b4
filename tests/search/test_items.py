from __future__ import annotations

from typing import Any

import pytest

from della_bench.errors import UsageError
from della_bench.search.items import choose_splits, divide
from della_bench.search.settings import read_settings

HASHES = {
    "zoo_math": [f"test{n}" for n in range(100)],
    "zoo_math_validation": [f"validation{n}" for n in range(64)],
    "gsm8k_cot_zeroshot_alpaca": [f"g{n}" for n in range(1319)],
    "gsm8k_cot_zeroshot_alpaca_train": [f"gt{n}" for n in range(7473)],
    "alpaca_eval": [f"a{n}" for n in range(805)],
}


def sets_of(benchmarks: list[str], items: Any = None, hashes: Any = None, seed: int = 0) -> Any:
    settings = read_settings({"benchmarks": benchmarks, "items": items or {}, "seed": seed}, {})
    return divide(settings, choose_splits(settings), hashes or HASHES)


def test_sets_are_disjoint_and_from_the_right_splits_by_default():
    sets = sets_of(["zoo_math", "gsm8k", "alpaca_eval"])
    found = [(which, each.benchmark, each.task, len(each.items)) for which, members in sets.items() for each in members]
    assert found == [
        ("search", "zoo_math", "zoo_math_validation", 40),
        ("search", "gsm8k", "gsm8k_cot_zeroshot_alpaca_train", 200),
        ("search", "alpaca_eval", "alpaca_eval", 200),
        ("select", "zoo_math", "zoo_math_validation", 24),
        ("select", "gsm8k", "gsm8k_cot_zeroshot_alpaca_train", 200),
        ("select", "alpaca_eval", "alpaca_eval", 100),
        ("test", "zoo_math", "zoo_math", 100),
        ("test", "gsm8k", "gsm8k_cot_zeroshot_alpaca", 1319),
        ("test", "alpaca_eval", "alpaca_eval", 505),
    ]
    hashes = [digest for members in sets.values() for each in members for _, digest in each.items]
    assert len(set(hashes)) == len(hashes)


def test_the_items_are_nested_and_their_order_is_the_seeds_alone():
    few, many = (sets_of(["zoo_math"], {"search": count})["search"][0].items for count in (10, 30))
    assert many[:10] == few
    assert sets_of(["zoo_math"], {"search": 10}, seed=1)["search"][0].items != few
    mixed = {**HASHES, "zoo_math_validation": HASHES["zoo_math_validation"][::-1]}
    again = sets_of(["zoo_math"], {"search": 10}, mixed)["search"][0].items
    assert [digest for _, digest in again] == [digest for _, digest in few]


def test_a_document_in_two_sets_is_refused_across_benchmarks_too():
    hashes = {**HASHES, "zoo_code_validation": ["x", "y", "test3"], "zoo_code": ["v", "z"]}
    with pytest.raises(UsageError, match=r"both in zoo_code \((search|select)\) and in zoo_math \(test\): sets must"):
        sets_of(["zoo_code", "zoo_math"], {"zoo_code": {"search": 2, "select": 1}}, hashes)


def test_a_document_that_stands_twice_in_a_split_is_one_item():
    hashes = {**HASHES, "zoo_math_validation": ["a", "b", "a", "c", "d", "b"]}
    sets = sets_of(["zoo_math"], {"search": 2, "select": 2}, hashes)
    found = sorted(digest for which in ("search", "select") for _, digest in sets[which][0].items)
    assert found == ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    ("items", "told"),
    [
        ({"search": 60, "select": 10}, "60 to search and 10 to select on, but its validation split has 64 items"),
        ({"search": 64}, "nothing of the validation split is left to select on"),
        ({"search": {"split": "train"}}, "no train split to search on"),
        ({"test": 101}, "101 to test on, but its test split has 100 items"),
    ],
)
def test_sets_that_cannot_be_had_are_told(items, told):
    with pytest.raises(UsageError) as raised:
        sets_of(["zoo_math"], items)
    assert told in str(raised.value)

from __future__ import annotations

import sys
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from della_bench.scoring.sandbox.inside.setorder import follow, follow_frozen, recipe
from della_bench.scoring.sandbox.inside.update import update

# Small numbers have slots of their own; multiples of a table's size, and far ones, want each other's.
elements = st.integers(-20, 60) | st.integers(-9, 9).map(lambda n: n * 32) | st.integers() | st.text(max_size=2)
lists = st.lists(elements, max_size=24)


def built(value: Any) -> Any:
    if isinstance(value, frozenset):
        return follow_frozen(*recipe(value))
    made: set[Any] = set()
    follow(made, *recipe(value))
    return made


@given(lists, lists)
def test_a_set_comes_back_in_its_order_however_it_was_made(first: list[Any], second: list[Any]):
    shrunk = set(first)
    shrunk.difference_update(second)
    grown = set(first)
    for element in second:
        grown.add(element)
    frozen = frozenset(first)
    made = [set(first), set(frozen), {*first, *second}, shrunk, grown]
    for value in (*made, frozen, frozenset(shrunk), frozen | set(second), frozen - set(second)):
        again = built(value)
        assert again == value
        assert list(again) == list(value)


def test_the_orders_that_real_tests_show_are_kept():
    for value in (
        {10, 11, 12, 13, 14},
        {18, 9, 30, 3, 71},
        {x * 7 for x in range(12)},
        set(range(90, 100)) - {95, 96},
        {1, 9, 17, 25} - {9},
        set("overthehill"),
        frozenset([40, 8, 16, 0]),
        set(range(0, 3200, 32)),
        set(range(1000)) - set(range(0, 1000, 3)),
    ):
        again = built(value)
        assert list(again) == list(value)
        assert sys.getsizeof(again) == sys.getsizeof(value)


def test_what_another_process_did_to_a_set_is_done_in_place_in_its_order():
    old, new = {1, 2}, {18, 9, 30, 3, 71}
    kept = old
    update(old, new)
    assert old is kept
    assert list(old) == list(new)

from __future__ import annotations

import datetime
from collections import Counter, OrderedDict, defaultdict, deque
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from della_bench.scoring.sandbox.inside import frames
from della_bench.scoring.sandbox.inside.codec import BadValueError, Codec
from della_bench.scoring.sandbox.inside.update import update

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters())  # half surrogate pairs included
    | st.binary()
    | st.complex_numbers(allow_nan=False)
)
hashable = st.recursive(scalars, lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3), max_leaves=5)
values = st.recursive(
    hashable,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(hashable, inner, max_size=3) | st.sets(hashable, max_size=3)
    ),
    max_leaves=15,
)
json_data: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=3), inner, max_size=2)
        | st.lists(inner, max_size=3).flatmap(
            lambda rest: st.sampled_from(
                ["l", "t", "d", "set", "int", "float", "range", "type", "deque", "h", "c", "Fraction"]
            ).map(lambda tag: [tag, *rest])
        )
    ),
    max_leaves=12,
)


def refuse(*_: object) -> Any:
    raise BadValueError("no references here")


CODEC = Codec(refuse, refuse)


def there_and_back(value: Any) -> Any:
    return CODEC.decode(frames.decode(frames.encode(CODEC.encode(value))))


@given(values)
def test_a_value_comes_back_equal_and_of_its_type(value: Any):
    back = there_and_back(value)
    assert back == value
    assert repr(type(back)) == repr(type(value))


@pytest.mark.parametrize(
    "value",
    [
        *(
            -0.0,
            float("inf"),
            10**400,
            -(2**63),
            True,
            1,
            1.0,
            "\ud800",
            b"\x00\xff",
            bytearray(b"x"),
            ...,
            int,
            type(None),
        ),
        *(range(1, 9, 2), slice(1, None), Decimal("1.10"), Fraction(1, 3), datetime.date(2024, 2, 29)),
        *(
            datetime.datetime(2024, 2, 29, 1, 2, 3, 4),
            datetime.timedelta(1, 2, 3),
            Counter("aab"),
            OrderedDict(b=1, a=2),
        ),
        *(deque([1, 2], maxlen=3), defaultdict(list, {1: [2]}), [[], {}, (), set()]),
    ],
    ids=repr,
)
def test_types_with_a_value_of_their_own_come_back_exactly(value: Any):
    back = there_and_back(value)
    assert (type(back), repr(back)) == (type(value), repr(value))


def test_a_number_of_another_class_comes_as_its_plain_value():
    class Evil(int):
        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = int.__hash__

    back = there_and_back(Evil(5))
    assert type(back) is int
    assert back != 6


def test_a_list_of_another_class_has_no_value():
    class Evil(list):
        pass

    with pytest.raises(BadValueError, match="no references"):
        CODEC.encode(Evil())


@given(json_data)
def test_whatever_the_other_side_sends_is_a_plain_value_or_refused(data: Any):
    try:
        value = CODEC.decode(data)
    except BadValueError:
        return
    assert type(value).__module__ in ("builtins", "collections", "decimal", "fractions", "datetime")


@pytest.mark.parametrize(
    "data",
    [
        ["os.system", "true"],
        ["type", "os"],
        ["type", "eval"],
        {"l": 1},
        [],
        [[]],
        ["l", {"a": 1}],
        ["int", 5],
        ["set", ["l"]],
    ],
    ids=repr,
)
def test_what_is_no_value_is_refused(data: Any):
    with pytest.raises(BadValueError):
        CODEC.decode(data)


def test_an_update_in_place_keeps_the_identity_of_what_is_inside():
    inner = [1]
    outer = {"a": inner, "b": 2}
    update(outer, {"a": [1, 2], "c": 3})
    assert outer == {"a": [1, 2], "c": 3}
    assert outer["a"] is inner

"""The keys that methods have of their own, in a spec: which there may be, how they are read, what counts as default."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from della_bench.spec.keys import KEYS, OTHER_NAMES, read_bool
from della_bench.spec.method import Method
from della_bench.spec.numbers import plain, read_decimal
from della_bench.spec.option import Option
from della_bench.spec.registry import find_method, registered
from della_bench.spec.varying import Value, anchors, read_value, read_values

__all__ = ["OwnValue", "default", "fill_in", "method_of", "own_key_names", "read_option"]

OwnValue = Value | int | bool | tuple[Value, ...]
"""What a spec holds of a method's own key: numbers may vary over layers and modules, whole numbers and switches not."""


def method_of(pairs: Iterable[tuple[str, object]]) -> Method | None:
    """Return the method that a spec's (key, value) pairs name, or the default one; None where there is no such method.

    What is wrong with its name is told where the name itself is read.
    """
    names = {"merge_method", *(name for name, other in OTHER_NAMES.items() if other.key == "merge_method")}
    value = next((value for name, value in pairs if name in names), KEYS["merge_method"].default)
    try:
        return find_method(str(value).strip())
    except ValueError:
        return None


def own_key_names() -> frozenset[str]:
    """Return the names of all methods' own keys: with a method that does not have it, such a key has no effect."""
    return frozenset(option.name for method in registered() for option in method.options)


def read_option(option: Option, value: object) -> OwnValue:
    """Read the value of a method's own key. Raises ValueError that says what is allowed."""
    if option.kind is bool:
        return read_bool(value)
    values: tuple[Value, ...]
    try:
        if option.kind is int:
            values = (plain(read_decimal(value)),)
        else:
            values = read_values(value) if option.each else (read_value(value),)
    except ValueError as error:
        raise ValueError(f"{error}; {option.name} is {option.allowed}") from None
    low = -math.inf if option.least is None else option.least
    high = math.inf if option.most is None else option.most
    numbers = [number for one in values for number in anchors(one)]
    if not all(low <= number <= high for number in numbers) or (option.kind is int and numbers[0] % 1):
        raise ValueError(f"{option.name} is {option.allowed}")
    if option.kind is int:
        return int(read_decimal(value))
    return values if option.each else values[0]


def default(option: Option, count: int) -> OwnValue | None:
    """Return what counts for `count` experts where the key is not given; None where it must be given."""
    if option.default is None:
        return None
    if option.each:
        return (float(option.default),) * count
    return option.kind(option.default)


def fill_in(
    method: Method, values: Mapping[str, Any], given: Mapping[str, object], count: int, faults: list[str]
) -> tuple[tuple[str, OwnValue], ...]:
    """Return the method's own keys with their values for `count` experts, in its order.

    values: what was read, by key, None where that failed. given: the keys that were given. What is missing, and numbers
    that are not one for each expert, become faults.
    """
    filled: list[tuple[str, OwnValue]] = []
    for option in method.options:
        value = values.get(option.name)
        if option.name not in given:
            value = default(option, count)
            if value is None:
                faults.append(f"{option.name}: missing, and {method.name} needs it; it is the {option.meaning}")
        if isinstance(value, tuple) and len(value) != count:
            if len(value) > 1 and count:
                faults.append(
                    f"{option.name}: {len(value)} numbers for {count} experts; give one, or one for each expert"
                )
            value = value[:1] * count
        if value is not None:
            filled.append((option.name, value))
    return tuple(filled)

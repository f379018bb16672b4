"""The keys that methods have of their own, in a spec: which there may be, how they are read, what counts as default."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from della_bench.spec.keys import KEYS, OTHER_NAMES, read_bool, read_number
from della_bench.spec.method import Method
from della_bench.spec.numbers import read_decimal
from della_bench.spec.option import Option, OptionValue
from della_bench.spec.registry import find_method, registered
from della_bench.spec.varying import Varying, read_values

__all__ = ["default", "fill_in", "method_of", "own_key_names", "read_option"]


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


def read_option(option: Option, value: object) -> OptionValue:
    """Read the value of a method's own key. Raises ValueError that says what is allowed."""
    if option.kind is bool:
        return read_bool(value)
    numbers: Sequence[float]
    try:
        numbers = _one_each(value) if option.each else [read_number(value)]
    except ValueError as error:
        raise ValueError(f"{error}; {option.name} is {option.allowed}") from None
    for number in numbers:
        low = option.least is not None and number < option.least
        if low or (option.most is not None and number > option.most) or (option.kind is int and number % 1):
            raise ValueError(f"{option.name} is {option.allowed}")
    if option.kind is int:
        return int(read_decimal(value))
    return tuple(numbers) if option.each else numbers[0]


def _one_each(value: object) -> list[float]:
    values = read_values(value)
    if any(isinstance(one, Varying) for one in values):
        raise ValueError("not a number (it is the same in all layers)")
    return [one for one in values if not isinstance(one, Varying)]


def default(option: Option, count: int) -> OptionValue | None:
    """Return what counts for `count` experts where the key is not given; None where it must be given."""
    if option.default is None:
        return None
    if option.each:
        return (float(option.default),) * count
    return option.kind(option.default)


def fill_in(
    method: Method, values: Mapping[str, Any], given: Mapping[str, object], count: int, faults: list[str]
) -> tuple[tuple[str, OptionValue], ...]:
    """Return the method's own keys with their values for `count` experts, in its order.

    values: what was read, by key, None where that failed. given: the keys that were given. What is missing, and numbers
    that are not one for each expert, become faults.
    """
    filled: list[tuple[str, OptionValue]] = []
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

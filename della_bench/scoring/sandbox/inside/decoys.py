"""Values that differ from an expected one, to find out an object that says it equals anything."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

__all__ = ["decoys"]

HOW_MANY = 7
_ATTEMPTS = 40


def decoys(value: Any, chance: random.Random) -> list[Any]:
    """Return up to 7 plain values that look like `value` and do not equal it or each other."""
    found: list[Any] = []
    for _ in range(_ATTEMPTS):
        near = _near(value, chance)
        if near != value and near not in found:
            found.append(near)
        if len(found) == HOW_MANY:
            break
    return found


def _near(value: Any, chance: random.Random) -> Any:
    for kind, change in _CHANGES:
        if type(value) is kind:
            return change(value, chance)
    return chance.choice([None, 0, "", chance.getrandbits(32), f"{chance.getrandbits(32):x}"])


def _near_bool(value: bool, chance: random.Random) -> Any:
    return chance.choice([not value, None, chance.randint(2, 9), str(value)])


def _near_int(value: int, chance: random.Random) -> Any:
    return value + chance.choice([-1, 1]) * chance.randint(1, max(9, abs(value) // 4))


def _near_float(value: float, chance: random.Random) -> Any:
    return value * chance.uniform(0.5, 1.5) + chance.uniform(-1, 1)


def _near_str(value: str, chance: random.Random) -> Any:
    letters = list(value or "a")
    at = chance.randrange(len(letters))
    letters[at : at + 1] = [chance.choice(letters), chance.choice("abcdefghijklmnopqrstuvwxyz")][: chance.randint(0, 2)]
    return "".join(letters)


def _near_list(value: list[Any], chance: random.Random) -> Any:
    items = list(value)
    if not items:
        return [chance.randint(0, 9)]
    at = chance.randrange(len(items))
    if chance.random() < 0.5:
        items[at] = _near(items[at], chance)
    else:
        items[at : at + 1] = [items[at]] * chance.choice([0, 2])
    return items


def _near_dict(value: dict[Any, Any], chance: random.Random) -> Any:
    if not value:
        return {chance.randint(0, 9): chance.randint(0, 9)}
    key = chance.choice(list(value))
    if chance.random() < 0.5:
        return {**value, key: _near(value[key], chance)}
    return {other: value[other] for other in value if other != key}


_CHANGES: list[tuple[type, Callable[[Any, random.Random], Any]]] = [
    (bool, _near_bool),
    (int, _near_int),
    (float, _near_float),
    (str, _near_str),
    (list, _near_list),
    (tuple, lambda value, chance: tuple(_near_list(list(value), chance))),
    (set, lambda value, chance: _hashable(set, value, chance)),
    (frozenset, lambda value, chance: _hashable(frozenset, value, chance)),
    (dict, _near_dict),
]


def _hashable(kind: Callable[[Any], Any], value: Any, chance: random.Random) -> Any:
    return kind(_near_list(sorted(value, key=repr), chance))

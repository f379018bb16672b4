"""Numbers that vary over a model's layers and modules, with mergekit's meaning.

A value is a number, a gradient (anchors spread evenly over the layers, linear between them), or rules: an ordered list
of patterns, each with a number or a gradient, of which the first whose pattern is a part of the tensor's name counts.

    0.5                             every tensor
    0~0.5~1                         0 at the first layer, 0.5 at the middle one, 1 at the last; tensors of no layer: 0
    self_attn:0~1/mlp:0.3/0.5       by the tensor's name; the last, without a pattern, is for the rest
    1@mlp:0.2/1@0.4/0.5             by the slice, too, where a merge has slices: in slice 1 (the second) 0.2 and 0.4

That is the short form of the spec string. In YAML and JSON the same may be written as

    {gradient: [0, 0.5, 1]}
    [{filter: self_attn, value: {gradient: [0, 1]}}, {filter: mlp, value: 0.3}, {value: 0.5}]
    [{slice: 1, filter: mlp, value: 0.2}, {slice: 1, value: 0.4}, {value: 0.5}]
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TypeGuard
from urllib.parse import quote

from della_bench.spec.numbers import number_text, plain, read_decimal
from della_bench.spec.source import decode

__all__ = [
    "Rule",
    "Value",
    "Varying",
    "anchors",
    "depth",
    "mapped",
    "read_value",
    "read_values",
    "simplified",
    "slices_in",
    "text",
    "value_at",
    "without_slices",
]

_STACK = re.compile(r"(?:^|\.)(?:layers|layer|h|blocks|block)\.(\d+)(?:\.|$)")
_PLAIN = "_.-"


@dataclass(frozen=True)
class Rule:
    """A number or a gradient, for the tensors whose names hold `pattern`; for every tensor where that is None.

    slice: the number of the slice whose tensors it is for; of every one, and of a merge without slices, where None.
    """

    pattern: str | None
    anchors: tuple[float, ...]
    slice: int | None = None

    @property
    def is_for_all(self) -> bool:
        """Whether it is for every tensor, so that no rule behind it counts."""
        return self.pattern is None and self.slice is None


@dataclass(frozen=True, repr=False)
class Varying:
    """A value that differs from tensor to tensor: the first rule that fits a tensor counts."""

    rules: tuple[Rule, ...]

    def __repr__(self) -> str:
        """Return the short form in quotes, as errors show it."""
        return repr(text(self))

    def at(self, name: str, place: float, slice_: int | None = None) -> float | None:
        """Return the number for tensor `name` at `place` (0 at the first layer, 1 at the last); None without a rule.

        slice_: the number of the tensor's slice.
        """
        for rule in self.rules:
            if rule.slice in (None, slice_) and (rule.pattern is None or rule.pattern in name):
                return _between(rule.anchors, place)
        return None


Value = float | Varying


def _between(numbers: Sequence[float], place: float) -> float:
    """Return what lies at `place` between the anchors, by the arithmetic that mergekit uses, to the last bit."""
    scaled = place * (len(numbers) - 1)
    before = int(scaled)
    after = min(len(numbers) - 1, before + 1)
    share = scaled - before
    return (1 - share) * numbers[before] + share * numbers[after]


def value_at(value: Value, name: str, place: float, slice_: int | None = None) -> float | None:
    """Return the number that a value has for a tensor."""
    return value.at(name, place, slice_) if isinstance(value, Varying) else value


def slices_in(value: Value) -> set[int]:
    """Return the numbers of the slices that a value has rules for."""
    rules = value.rules if isinstance(value, Varying) else ()
    return {rule.slice for rule in rules if rule.slice is not None}


def without_slices(value: Value) -> Value:
    """Return a value with its rules for every slice: what it means where there is only one."""
    if not isinstance(value, Varying):
        return value
    return simplified(tuple(Rule(rule.pattern, rule.anchors) for rule in value.rules))


def anchors(value: Value) -> tuple[float, ...]:
    """Return every number that a value is made of; what it is anywhere lies between two of them."""
    return tuple(a for rule in value.rules for a in rule.anchors) if isinstance(value, Varying) else (value,)


def depth(names: Iterable[str]) -> dict[str, float]:
    """Return where each tensor lies: 0 in the first layer to 1 in the last; 0 outside layers, 1 in an only layer.

    Layers are counted for each stack on its own: those of a vision tower are none of the language model's.
    """
    found = {name: _STACK.search(name) for name in names}
    last: dict[str, int] = {}
    for name, match in found.items():
        if match:
            stack = name[: match.start(1)]
            last[stack] = max(last.get(stack, 0), int(match[1]))
    places = {}
    for name, match in found.items():
        if match is None:
            places[name] = 0.0
        else:
            final = last[name[: match.start(1)]]
            places[name] = int(match[1]) / final if final else 1.0
    return places


def read_values(value: object) -> tuple[Value, ...]:
    """Read one value, `a+b+c`, or a list of values. Raises ValueError."""
    if isinstance(value, str):
        parts: Sequence[object] = re.split(r"(?<![eE])\+", value.strip())  # the plus of 1e+16 is part of a number
    elif _is_list(value) and not any(isinstance(item, Mapping) and "value" in item for item in value):
        parts = value
    else:
        parts = [value]
    if not parts:
        raise ValueError("an empty list")
    return tuple(read_value(part) for part in parts)


def read_value(value: object) -> Value:
    """Read a number, a gradient or rules, in the short form or as lists and mappings. Raises ValueError."""
    if isinstance(value, Varying):
        return value
    return simplified(tuple(_rules(value)))


def simplified(rules: tuple[Rule, ...]) -> Value:
    """Return rules as a value: without those behind one for every tensor, and as a number where all are that."""
    for position, rule in enumerate(rules):
        if rule.is_for_all:
            rules = rules[: position + 1]
            break
    rules = tuple(replace(r, anchors=r.anchors[:1] if len(set(r.anchors)) == 1 else r.anchors) for r in rules)
    if len(rules) == 1 and rules[0].is_for_all and len(rules[0].anchors) == 1:
        return rules[0].anchors[0]
    return Varying(rules)


def _rules(value: object) -> Iterator[Rule]:
    if isinstance(value, str):
        for part in value.strip().split("/"):
            number, at, part = part.rpartition("@")
            pattern, colon, rest = part.rpartition(":")
            slice_ = _slice(number) if at else None
            yield Rule(_pattern(decode(pattern)) if colon else None, _anchors(rest.split("~")), slice_)
    elif _is_list(value) and (mappings := [item for item in value if isinstance(item, Mapping)]):
        if len(mappings) < len(value):
            raise ValueError("numbers beside rules; each is a mapping of filter and value")
        yield from map(_rule, mappings)
    elif isinstance(value, Mapping) and "value" in value:
        yield _rule(value)
    else:
        yield Rule(None, _gradient(value))


def _rule(item: Mapping[str, object]) -> Rule:
    if unknown := set(item) - {"slice", "filter", "value"}:
        names = ", ".join(sorted(map(str, unknown)))
        raise ValueError(f"{names}: not a key of a rule, which has filter, value and slice")
    if "value" not in item:
        raise ValueError("a rule without a value")
    pattern = item.get("filter")
    if not (pattern is None or isinstance(pattern, str)):
        raise ValueError(f"filter {pattern!r}: not a part of a tensor's name")
    slice_ = None if item.get("slice") is None else _slice(item["slice"])
    return Rule(None if pattern in (None, "*", "") else pattern, _gradient(item["value"]), slice_)


def _slice(number: object) -> int:
    if isinstance(number, bool) or not str(number).isdecimal():
        raise ValueError(f"{number!r}: not the number of a slice, which are counted from 0")
    return int(str(number))


def _gradient(value: object) -> tuple[float, ...]:
    if isinstance(value, Mapping) and set(value) == {"gradient"}:
        value = value["gradient"]
        if not _is_list(value):
            raise ValueError("a gradient is a list of numbers")
    if isinstance(value, str):
        return _anchors(value.split("~"))
    return _anchors(value if _is_list(value) else [value])


def _pattern(text: str) -> str:
    if not text:
        raise ValueError("a pattern is missing before the colon")
    return text


def _anchors(numbers: Sequence[object]) -> tuple[float, ...]:
    if not numbers:
        raise ValueError("a gradient without a number")
    return tuple(plain(read_decimal(number)) for number in numbers)


def mapped(value: Value, change: Callable[[Decimal], Decimal]) -> Value:
    """Return a value with each of its numbers changed, reckoned in decimals, so that 1 - 0.9 is 0.1."""
    if not isinstance(value, Varying):
        return plain(change(read_decimal(value)))
    rules = (replace(rule, anchors=tuple(plain(change(read_decimal(a))) for a in rule.anchors)) for rule in value.rules)
    return Varying(tuple(rules))


def text(value: Value) -> str:
    """Write a value in its short form, which reads back to itself."""
    if not isinstance(value, Varying):
        return number_text(value)
    return "/".join(
        ("" if rule.slice is None else f"{rule.slice}@")
        + ("" if rule.pattern is None else f"{_quoted(rule.pattern)}:")
        + "~".join(map(number_text, rule.anchors))
        for rule in value.rules
    )


def _quoted(pattern: str) -> str:
    return "".join(c if c.isalnum() or c in _PLAIN else quote(c, safe="", errors="surrogatepass") for c in pattern)


def _is_list(value: object) -> TypeGuard[Sequence[object]]:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))

"""A value of a space file as a template: what a spec has there, with dimensions in the place of what is searched.

A template is a plain value, or a list, or a mapping, whose leaves may be dimensions. Per-layer values (gradients and
filters, `spec/varying.py`) are templates as well: every anchor may be a dimension of its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from della_bench.search.dimension import Dimension, is_range, read_dimension
from della_bench.spec.numbers import read_decimal
from della_bench.spec.source import decode
from della_bench.spec.varying import anchors, read_values

__all__ = ["dimensions_of", "filled", "mapped_leaves", "numbers_of", "read_template"]

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_NAMED = ("base", "experts", "merge_method", "slices", "tokenizer", "tokens", "chat_template", "name")  # .. is a path's
_RANGE = re.compile(rf"({_NUMBER})\.\.({_NUMBER})(?:\.\.({_NUMBER}|log|int))?")


def read_template(value: object, key: str, *, text: bool = False) -> Any:
    """Return the template of a value of `key`. Raises ValueError.

    text: the value is of a spec string, in which `a|b` parts choices. A range in a string is `0.3..0.9`, with a step
    `0.3..0.9..0.1`, `1e-3..1..log` or `1..8..int`.
    """
    if isinstance(value, str):
        if text and "|" in value:
            return read_dimension({"choices": [part.strip() for part in value.split("|")]}, key, key)
        value = _structured(value) if ".." in value and _RANGE.search(value) else value
    return _named(value, key, key)


def _named(value: object, name: str, key: str) -> Any:
    """Return a value with its ranges read as dimensions, each named after its place."""
    if isinstance(value, str) and (found := _RANGE.fullmatch(value.strip())):
        value = _range(found)
    elif isinstance(value, str) and ".." in value and key not in _NAMED:
        raise ValueError(f"{value!r}: no range; write 0.2..0.9, 0.2..0.9..0.1, 1e-3..1..log or 1..8..int")
    if isinstance(value, Mapping):
        if is_range(value):
            return read_dimension(value, name, key)
        return {
            each: part if each == "filter" else _named(part, _inside(name, value, str(each)), key)
            for each, part in value.items()
        }
    if isinstance(value, list):
        rules = all(isinstance(part, Mapping) and "value" in part for part in value)
        names = [_rule_name(name, part) if rules else f"{name}.{place}" for place, part in enumerate(value, start=1)]
        return [_named(part, each, key) for part, each in zip(value, names, strict=True)]
    return value


def _inside(name: str, value: Mapping[Any, Any], part: str) -> str:
    return name if part in ("gradient", "value", "weight", "source") or "filter" in value else f"{name}.{part}"


def _rule_name(name: str, rule: Mapping[str, Any]) -> str:
    return f"{name}.{rule.get('filter') or 'rest'}"


def _range(found: re.Match[str]) -> dict[str, Any]:
    low, high, more = found.groups()
    how: dict[str, Any] = {} if more is None else {more: True} if more in ("log", "int") else {"step": more}
    return {"low": low, "high": high, **how}


def _structured(value: str) -> Any:
    """Return a string that has ranges in it as lists and mappings: `a+b`, `0~1`, `self_attn:0..1/0.5`."""
    parts = [_varying(part) for part in value.split("+")]
    return parts if len(parts) > 1 else parts[0]


def _varying(text: str) -> Any:
    if "/" not in text and "~" not in text and ":" not in text:
        return text.strip()
    rules = []
    for rule in text.split("/"):
        pattern, colon, rest = rule.rpartition(":")
        anchors = rest.split("~")
        numbers: Any = {"gradient": anchors} if len(anchors) > 1 else anchors[0]
        rules.append({"filter": decode(pattern), "value": numbers} if colon else {"value": numbers})
    return rules if len(rules) > 1 or "filter" in rules[0] else rules[0]["value"]


def dimensions_of(template: Any) -> Iterator[Dimension]:
    """Yield a template's dimensions in their order."""
    if isinstance(template, Dimension):
        yield template
        if template.choices is not None:
            return
    parts: Sequence[Any] = ()
    if isinstance(template, Mapping):
        parts = list(template.values())
    elif isinstance(template, list):
        parts = template
    for part in parts:
        yield from dimensions_of(part)


def filled(template: Any, values: Mapping[str, Any]) -> Any:
    """Return a template with the values of its dimensions, by name, in their places."""
    if isinstance(template, Dimension):
        return values[template.name]
    if isinstance(template, Mapping):
        return {key: filled(part, values) for key, part in template.items()}
    if isinstance(template, list):
        return [filled(part, values) for part in template]
    return template


def mapped_leaves(template: Any, change: Callable[[Any], Any]) -> Any:
    """Return a template of another name of a key: numbers and dimensions changed, patterns left alone."""
    if isinstance(template, Dimension):
        return template.changed(change)
    if isinstance(template, Mapping):
        return {key: part if key == "filter" else mapped_leaves(part, change) for key, part in template.items()}
    if isinstance(template, list):
        return [mapped_leaves(part, change) for part in template]
    return float(change(read_decimal(template)))


def numbers_of(value: Any) -> Iterator[float]:
    """Yield every number in the value of a key, which may be written as a text."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            if key != "filter":
                yield from numbers_of(part)
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from numbers_of(part)
    elif isinstance(value, str):
        for part in read_values(value):
            yield from anchors(part)
    else:
        yield float(value)

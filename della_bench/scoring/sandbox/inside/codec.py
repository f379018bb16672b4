"""Values between the candidate's process and the tests': a closed encoding over JSON that cannot carry code.

None, bool, str, finite floats and 64-bit integers are themselves; all else is an array whose first entry is a tag. Only
the exact built-in and standard types below are encoded by value. What else there is goes through `export`, which
returns a reference to an object that stays where it is; `resolve` turns a reference back.
"""

from __future__ import annotations

import importlib
import math
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from typing import Any

__all__ = ["BadValueError", "Codec", "update"]

REFERENCES = frozenset({"h", "c"})  # an object of the candidate's; a function or iterator of the tests'
_SMALL = 1 << 63
_TYPES: dict[str, type] = {
    kind.__name__: kind
    for kind in (
        *(bool, int, float, complex, str, bytes, bytearray, list, tuple, dict, set, frozenset, range, object, type),
        *(type(None), Exception, ValueError, TypeError, KeyError, IndexError, ZeroDivisionError, AttributeError),
        *(Counter, OrderedDict, defaultdict, deque),
    )
}
_CONSTANTS = {"Ellipsis": ..., "NotImplemented": NotImplemented}
_VIEWS: dict[type, str] = {type({}.keys()): "keys", type({}.values()): "values", type({}.items()): "items"}


class BadValueError(Exception):
    """The other side sent something that is no value."""


class Codec:
    """Encodes and decodes; `export` gets what has no value of its own, `resolve` a reference's tag and fields."""

    def __init__(self, export: Callable[[object], list[Any]], resolve: Callable[[str, list[Any]], object]) -> None:
        self._export = export
        self._resolve = resolve

    def encode(self, value: object) -> Any:
        """Return `value` as JSON data. Raises RecursionError where it is nested too deeply or holds itself."""
        kind = type(value)
        if value is None or kind is bool:
            return value
        if isinstance(value, (int, float, complex, str, bytes)):
            return _scalar(value)
        many = self.encode
        if kind in _SEQUENCES:
            return [_SEQUENCES[kind], *map(many, value)]  # type: ignore[call-overload]
        if kind in _MAPPINGS:
            return [_MAPPINGS[kind], *(many(part) for pair in value.items() for part in pair)]  # type: ignore[attr-defined]
        if kind in _VIEWS:
            return [_VIEWS[kind], *map(many, value)]  # type: ignore[call-overload]
        if isinstance(value, defaultdict) and kind is defaultdict:
            pairs = (many(part) for pair in value.items() for part in pair)
            return ["defaultdict", many(value.default_factory), *pairs]
        if isinstance(value, deque) and kind is deque:
            return ["deque", value.maxlen, *map(many, value)]
        if isinstance(value, (range, slice)):
            return [kind.__name__, many(value.start), many(value.stop), many(value.step)]
        if kind.__name__ in _LIBRARY and _library(kind.__name__) is kind:
            return [kind.__name__, *map(many, _LIBRARY[kind.__name__][1](value))]
        if isinstance(value, type) and _TYPES.get(value.__name__) is value:
            return ["type", value.__name__]
        if value is Ellipsis or value is NotImplemented:
            return ["constant", repr(value)]
        return self._export(value)

    def decode(self, data: Any) -> Any:
        """Return the value that `data` encodes. Raises BadValueError where it encodes none."""
        try:
            return self._decoded(data)
        except BadValueError:
            raise
        except (TypeError, ValueError, ArithmeticError, LookupError, RecursionError, AttributeError) as error:
            raise BadValueError(f"{type(error).__name__}: {error}") from error

    def _decoded(self, data: Any) -> Any:
        if type(data) is not list:
            if type(data) is dict:
                raise BadValueError("an object")
            return data
        tag, *rest = data
        if tag in REFERENCES:
            return self._resolve(tag, rest)
        return _DECODERS[tag](rest, self._decoded)


def _scalar(value: object) -> Any:
    """Return a number, text or bytes (or the base value of a subclass) as JSON data."""
    if isinstance(value, int):
        plain = int.__pos__(value)
        return plain if -_SMALL < plain < _SMALL else ["int", hex(plain)]
    if isinstance(value, float):
        real = float.__pos__(value)
        return real if math.isfinite(real) else ["float", repr(real)]
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, bytes):
        return ["bytes", bytes.decode(value, "latin-1")]
    assert isinstance(value, complex)
    return ["complex", _scalar(value.real), _scalar(value.imag)]


# Types of modules that are imported only where a value needs them: the module, and a value's parts.
_LIBRARY: dict[str, tuple[str, Callable[[Any], list[Any]]]] = {
    "Decimal": ("decimal", lambda value: [str(value)]),
    "Fraction": ("fractions", lambda value: [value.numerator, value.denominator]),
    "date": ("datetime", lambda value: [value.isoformat()]),
    "time": ("datetime", lambda value: [value.isoformat()]),
    "datetime": ("datetime", lambda value: [value.isoformat()]),
    "timedelta": ("datetime", lambda value: [value.days, value.seconds, value.microseconds]),
}


def _library(name: str, *, load: bool = False) -> Any:
    """Return a type of _LIBRARY; None where its module is not loaded and `load` is not set."""
    module = _LIBRARY[name][0]
    return getattr(importlib.import_module(module) if load else sys.modules.get(module), name, None)


_SEQUENCES: dict[type, str] = {list: "l", tuple: "t", set: "set", frozenset: "frozenset", bytearray: "bytearray"}
_MAPPINGS: dict[type, str] = {dict: "d", Counter: "Counter", OrderedDict: "OrderedDict"}

_Decode = Callable[[Any], Any]


def _pairs(rest: list[Any], decode: _Decode) -> list[tuple[Any, Any]]:
    if len(rest) % 2:
        raise BadValueError("half a pair")
    parts = list(map(decode, rest))
    return list(zip(parts[::2], parts[1::2], strict=True))


def _whole(text: Any) -> int:
    if type(text) is not str:
        raise BadValueError("an integer that is no text")
    return int(text, 16)


def _text(text: Any) -> str:
    if type(text) is not str:
        raise BadValueError("a text that is none")
    return text


_DECODERS: dict[str, Callable[[list[Any], _Decode], Any]] = {
    "l": lambda rest, decode: list(map(decode, rest)),
    "t": lambda rest, decode: tuple(map(decode, rest)),
    "set": lambda rest, decode: set(map(decode, rest)),
    "frozenset": lambda rest, decode: frozenset(map(decode, rest)),
    "bytearray": lambda rest, decode: bytearray(map(decode, rest)),
    "d": lambda rest, decode: dict(_pairs(rest, decode)),
    "Counter": lambda rest, decode: Counter(dict(_pairs(rest, decode))),
    "OrderedDict": lambda rest, decode: OrderedDict(_pairs(rest, decode)),
    "defaultdict": lambda rest, decode: defaultdict(_factory(decode(rest[0])), _pairs(rest[1:], decode)),
    "deque": lambda rest, decode: deque(map(decode, rest[1:]), maxlen=rest[0]),
    "keys": lambda rest, decode: dict.fromkeys(map(decode, rest)).keys(),
    "values": lambda rest, decode: dict(enumerate(map(decode, rest))).values(),
    "items": lambda rest, decode: dict(map(decode, rest)).items(),
    "range": lambda rest, decode: range(*map(decode, rest)),
    "slice": lambda rest, decode: slice(*map(decode, rest)),
    "int": lambda rest, decode: _whole(*rest),
    "float": lambda rest, decode: float(_text(*rest)),
    "complex": lambda rest, decode: complex(*map(decode, rest)),
    "bytes": lambda rest, decode: _text(*rest).encode("latin-1"),
    "Decimal": lambda rest, decode: _library("Decimal", load=True)(_text(*rest)),
    "Fraction": lambda rest, decode: _library("Fraction", load=True)(*map(decode, rest)),
    "date": lambda rest, decode: _library("date", load=True).fromisoformat(_text(*rest)),
    "time": lambda rest, decode: _library("time", load=True).fromisoformat(_text(*rest)),
    "datetime": lambda rest, decode: _library("datetime", load=True).fromisoformat(_text(*rest)),
    "timedelta": lambda rest, decode: _library("timedelta", load=True)(*map(decode, rest)),
    "type": lambda rest, decode: _TYPES[_text(*rest)],
    "constant": lambda rest, decode: _CONSTANTS[_text(*rest)],
}


def _factory(value: Any) -> Any:
    """Return a default factory: only a type is one here, so that looking up a missing key calls nothing foreign."""
    return value if value in (int, float, str, list, dict, set, tuple, bool) else None


def update(old: Any, new: Any) -> None:
    """Make the mutable value `old` equal to `new` in place; what is inside keeps its identity where kinds agree."""
    if type(old) is not type(new):
        return
    if isinstance(old, list):
        old[:] = [_kept(old[at], value) if at < len(old) else value for at, value in enumerate(new)]
    elif isinstance(old, dict):
        merged = {key: _kept(old.get(key), value) for key, value in new.items()}
        old.clear()
        old.update(merged)
    elif isinstance(old, set):
        old.clear()
        old.update(new)
    elif isinstance(old, bytearray):
        old[:] = new
    elif isinstance(old, deque):
        old.clear()
        old.extend(new)
    elif isinstance(old, tuple) and len(old) == len(new):
        for before, after in zip(old, new, strict=True):
            update(before, after)


def _kept(old: Any, new: Any) -> Any:
    if isinstance(old, (list, dict, set, bytearray, deque)) and type(old) is type(new):
        update(old, new)
        return old
    return new

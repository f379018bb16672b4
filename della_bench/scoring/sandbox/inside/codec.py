"""Values between the candidate's process and the tests': a closed encoding over JSON that cannot carry code.

None, bool, str, finite floats and 64-bit integers are themselves; all else is an array whose first entry is a tag. The
built-in and standard types below are encoded by value. An instance of a subclass of one of them goes as that plain
value too: a number or text as nothing else, a container with a reference behind it, so that it can be passed back and
its methods called. What else there is goes through `export`, which returns a reference to an object that stays where it
is; `resolve` turns a reference back.
"""

from __future__ import annotations

import importlib
import math
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from typing import Any

from della_bench.scoring.sandbox.inside import setorder

__all__ = ["REFERENCES", "BadValueError", "Codec"]

REFERENCES = frozenset({"h", "c"})  # an object of the candidate's; a function or iterator of the tests'
LIKE = "like"  # a plain value with a reference behind it
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


class BadValueError(Exception):
    """The other side sent something that is no value."""


class Codec:
    """Encodes and decodes.

    export: gets what has no value of its own, and returns its reference.
    resolve: gets a reference's tag and fields, and the plain value that came with it (`NO_VALUE`: none came).
    """

    def __init__(
        self, export: Callable[[object], list[Any]], resolve: Callable[[str, list[Any], object], object]
    ) -> None:
        self._export = export
        self._resolve = resolve

    def encode(self, value: object) -> Any:
        """Return `value` as JSON data. Raises RecursionError where it is nested too deeply or holds itself."""
        kind = type(value)
        if value is None or kind is bool:
            return value
        if kind in _ENCODERS:
            return _ENCODERS[kind](value, self.encode)
        if isinstance(value, type) and _TYPES.get(value.__name__) is value:
            return ["type", value.__name__]
        if value is Ellipsis or value is NotImplemented:
            return ["constant", repr(value)]
        base = plain_base(kind)
        if base is None:
            return self._export(value)
        plain = _encoder(base)(value, self.encode)
        return plain if _is_the_value(kind, base) else [LIKE, self._export(value), plain]

    def encode_plain(self, value: object) -> Any:
        """Return the plain value of an instance of a container's subclass as JSON data."""
        base = plain_base(type(value))
        if base is None:
            raise TypeError(f"{type(value).__name__} is no container")
        return _encoder(base)(value, self.encode)

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
            return self._resolve(tag, rest, NO_VALUE)
        if tag == LIKE:
            (inner, *fields), plain = rest
            return self._resolve(inner, fields, self._decoded(plain))
        return _DECODERS[tag](rest, self._decoded)


NO_VALUE = object()

_Decode = Callable[[Any], Any]
_Encode = Callable[[object], Any]


def plain_base(kind: type) -> type | None:
    """Return the first type that is encoded by value among `kind` and its bases; None where there is none."""
    for base in kind.__mro__:
        if base in _ENCODERS or _library(base) is not None:
            return base
    return None


def _is_the_value(kind: type, base: type) -> bool:
    """Return whether an object of `kind` is no more than its plain value, that of `base`."""
    return base in _SCALARS or (base.__name__ not in _WRAPPERS and (base is kind or base.__name__ in _LIBRARY))


def _encoder(base: type) -> Callable[[Any, _Encode], Any]:
    return _ENCODERS[base] if base in _ENCODERS else _LIBRARY[base.__name__][1]


# By the exact rules of the built-in types: what a subclass says about itself is not asked.
def _int(value: Any, _: object = None) -> Any:
    plain = int.__pos__(value)
    return plain if -_SMALL < plain < _SMALL else ["int", hex(plain)]


def _float(value: Any, _: object = None) -> Any:
    real = float.__pos__(value)
    return real if math.isfinite(real) else ["float", repr(real)]


def _complex(value: Any, _: object = None) -> Any:
    plain = complex.__pos__(value)
    return ["complex", _float(plain.real), _float(plain.imag)]


def _parts(tag: str, iterate: Callable[[Any], Any]) -> Callable[[Any, _Encode], Any]:
    return lambda value, many: [tag, *map(many, iterate(value))]


def _pairs(tag: str, items: Callable[[Any], Any]) -> Callable[[Any, _Encode], Any]:
    return lambda value, many: [tag, *(many(part) for pair in items(value) for part in pair)]


def _set(tag: str, base: type) -> Callable[[Any, _Encode], Any]:
    def encode(value: Any, many: _Encode) -> Any:
        merged, holders, elements = setorder.recipe(value if type(value) is base else base(base.__iter__(value)))  # type: ignore[attr-defined, arg-type]
        return [tag, merged, holders, *map(many, elements)]

    return encode


def _bounds(tag: str) -> Callable[[Any, _Encode], Any]:
    return lambda value, many: [tag, many(value.start), many(value.stop), many(value.step)]


_ENCODERS: dict[type, Callable[[Any, _Encode], Any]] = {
    int: _int,
    float: _float,
    complex: _complex,
    str: lambda value, _: str.__str__(value),
    bytes: lambda value, _: ["bytes", bytes.decode(value, "latin-1")],
    bytearray: _parts("bytearray", bytearray.__iter__),
    list: _parts("l", list.__iter__),
    tuple: _parts("t", tuple.__iter__),
    dict: _pairs("d", dict.items),
    set: _set("set", set),
    frozenset: _set("frozenset", frozenset),
    Counter: _pairs("Counter", dict.items),
    OrderedDict: _pairs("OrderedDict", OrderedDict.items),
    defaultdict: lambda value, many: [
        "defaultdict",
        many(value.default_factory),
        *(many(part) for pair in dict.items(value) for part in pair),
    ],
    deque: lambda value, many: ["deque", value.maxlen, *map(many, deque.__iter__(value))],
    range: _bounds("range"),
    slice: _bounds("slice"),
    type({}.keys()): _parts("keys", iter),
    type({}.values()): _parts("values", iter),
    type({}.items()): _parts("items", iter),
    type(OrderedDict().keys()): _parts("keys", iter),
    type(OrderedDict().values()): _parts("values", iter),
    type(OrderedDict().items()): _parts("items", iter),
}
_SCALARS = frozenset({int, float, complex, str, bytes, bytearray})

# Types of modules that are imported only where a value needs them.
_LIBRARY: dict[str, tuple[str, Callable[[Any, _Encode], Any]]] = {
    "Decimal": ("decimal", lambda value, _: ["Decimal", str(value)]),
    "Fraction": ("fractions", lambda value, many: ["Fraction", many(value.numerator), many(value.denominator)]),
    "date": ("datetime", lambda value, _: ["date", value.isoformat()]),
    "time": ("datetime", lambda value, _: ["time", value.isoformat()]),
    "datetime": ("datetime", lambda value, _: ["datetime", value.isoformat()]),
    "timedelta": ("datetime", lambda value, _: ["timedelta", value.days, value.seconds, value.microseconds]),
    "array": ("array", lambda value, many: ["array", value.typecode, many(value.tolist())]),
    "UserList": ("collections", lambda value, many: many(list(value))),
    "UserDict": ("collections", lambda value, many: many(dict(value))),
    "ChainMap": ("collections", lambda value, many: many(dict(value))),
}
_WRAPPERS = frozenset({"UserList", "UserDict", "ChainMap"})  # they equal the list or dict that they hold


def _library(kind: type) -> type | None:
    """Return `kind` where it is the type that _LIBRARY knows by its name."""
    name = kind.__name__
    if name not in _LIBRARY:
        return None
    return kind if getattr(sys.modules.get(_LIBRARY[name][0]), name, None) is kind else None


def _load(name: str) -> Any:
    return getattr(importlib.import_module(_LIBRARY[name][0]), name)


def _in_pairs(rest: list[Any], decode: _Decode) -> list[tuple[Any, Any]]:
    if len(rest) % 2:
        raise BadValueError("half a pair")
    parts = list(map(decode, rest))
    return list(zip(parts[::2], parts[1::2], strict=True))


def _whole(text: Any) -> int:
    return int(_text(text), 16)


def _text(text: Any) -> str:
    if type(text) is not str:
        raise BadValueError("a text that is none")
    return text


def _recipe(rest: list[Any], decode: _Decode) -> tuple[int, list[int], list[Any]]:
    merged, holders, *elements = rest
    numbers = [merged, *holders]
    if not all(type(number) is int and 0 <= number <= setorder.LARGEST_HOLDER for number in numbers):
        raise BadValueError("a set with a malformed recipe")
    if len(holders) > setorder.LARGEST_SPARSENESS * (8 + len(elements)):
        raise BadValueError("a set with too many holders")
    return merged, holders, list(map(decode, elements))


def _made_set(rest: list[Any], decode: _Decode) -> set[Any]:
    made: set[Any] = set()
    setorder.follow(made, *_recipe(rest, decode))
    return made


_DECODERS: dict[str, Callable[[list[Any], _Decode], Any]] = {
    "l": lambda rest, decode: list(map(decode, rest)),
    "t": lambda rest, decode: tuple(map(decode, rest)),
    "set": _made_set,
    "frozenset": lambda rest, decode: setorder.follow_frozen(*_recipe(rest, decode)),
    "bytearray": lambda rest, decode: bytearray(map(decode, rest)),
    "d": lambda rest, decode: dict(_in_pairs(rest, decode)),
    "Counter": lambda rest, decode: Counter(dict(_in_pairs(rest, decode))),
    "OrderedDict": lambda rest, decode: OrderedDict(_in_pairs(rest, decode)),
    "defaultdict": lambda rest, decode: defaultdict(_factory(decode(rest[0])), _in_pairs(rest[1:], decode)),
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
    "Decimal": lambda rest, decode: _load("Decimal")(_text(*rest)),
    "Fraction": lambda rest, decode: _load("Fraction")(*map(decode, rest)),
    "date": lambda rest, decode: _load("date").fromisoformat(_text(*rest)),
    "time": lambda rest, decode: _load("time").fromisoformat(_text(*rest)),
    "datetime": lambda rest, decode: _load("datetime").fromisoformat(_text(*rest)),
    "timedelta": lambda rest, decode: _load("timedelta")(*map(decode, rest)),
    "array": lambda rest, decode: _load("array")(_text(rest[0]), decode(rest[1])),
    "type": lambda rest, decode: _TYPES[_text(*rest)],
    "constant": lambda rest, decode: _CONSTANTS[_text(*rest)],
}


def _factory(value: Any) -> Any:
    """Return a default factory: only a type is one here, so that looking up a missing key calls nothing foreign."""
    return value if value in (int, float, str, list, dict, set, tuple, bool) else None

"""The candidate's objects as the tests see them.

What the tests compare, they compare as plain values on their own side. So a handle, which stands for an object that has
no plain value, equals none, is no number, contains nothing and has no order: the candidate's process is never shown
what it is compared with. It can be called and iterated, which gives answers like any other. Where a test asks the
object itself (its attribute, item, text, length or truth, or whether it equals another object of the candidate's), the
answer is the candidate's own word, and is noted as such.

An object whose class is a subclass of list, dict, set or tuple is a `Likeness`: for all that these types can do, its
plain value is fetched and used here.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypeVar

from della_bench.scoring.sandbox.inside.rows import ABILITIES

__all__ = ["Asked", "Handle", "Likeness", "able"]


class Asked(Protocol):
    """The connection to the candidate's process. requests: how many were sent."""

    requests: int

    def operate(self, what: str, target: Any, *arguments: Any, **keywords: Any) -> Any:
        """Have the candidate's process do `what` with its object `target`, and return what that gave."""

    def note(self, what: str) -> None:
        """Note that the candidate was taken at its word."""


class Handle:
    """An object of the candidate's that has no plain value; what it can do is left to `able`.

    number: what its process knows it by. kind: the name of its class. member: whether it was read from an object.
    """

    __slots__ = ("_della_hash", "_della_kind", "_della_member", "_della_number", "_della_remote")

    def __init__(self, remote: Asked, number: int, kind: str, hashed: int | None) -> None:
        _set(self, "_della_remote", remote)
        _set(self, "_della_number", number)
        _set(self, "_della_kind", kind)
        _set(self, "_della_hash", hashed)
        _set(self, "_della_member", False)

    def __getattr__(self, name: str) -> Any:  # noqa: D105
        value = self._della_remote.operate("getattr", self, name)
        return _noted(self, value, f"attribute {name[:40]}")

    def __setattr__(self, name: str, value: Any) -> None:  # noqa: D105
        self._della_remote.operate("setattr", self, name, value)

    def __delattr__(self, name: str) -> None:  # noqa: D105
        self._della_remote.operate("delattr", self, name)

    def __eq__(self, other: object) -> bool:  # noqa: D105
        return _same_object(self, other)

    def __ne__(self, other: object) -> bool:  # noqa: D105
        return not _same_object(self, other)

    def __hash__(self) -> int:  # noqa: D105
        hashed: int | None = self._della_hash
        if hashed is None:
            raise TypeError(f"unhashable type: {self._della_kind!r}")
        return hashed

    def __instancecheck__(self, value: object) -> bool:  # noqa: D105
        return isinstance(value, Handle) and bool(_asked(self, "instance", bool, "isinstance", value))

    def __bool__(self) -> bool:  # noqa: D105
        return bool(_asked(self, "bool", bool, "truth"))

    def __str__(self) -> str:  # noqa: D105
        return str(_asked(self, "str", str, "text"))

    def __repr__(self) -> str:  # noqa: D105
        return str(_asked(self, "repr", str, "text"))

    def __format__(self, form: str) -> str:  # noqa: D105
        return str(_asked(self, "format", str, "text", form))


_set = object.__setattr__


def _noted(handle: Handle, value: Any, what: str) -> Any:
    """Return `value`, which `handle` gave for `what`; where it is plain, note that this is the candidate's word."""
    if _is_opaque(value):
        _set(value, "_della_member", True)
    else:
        handle._della_remote.note(f"{what} of its {handle._della_kind} object")
    return value


def _asked(handle: Handle, operation: str, kind: type, what: str, *arguments: Any) -> Any:
    """Return what the candidate says about its object, which must be a `kind`."""
    value = handle._della_remote.operate(operation, handle, *arguments)
    if type(value) is not kind:
        raise TypeError(f"{what} of the candidate's {handle._della_kind} object is a {type(value).__name__}")
    handle._della_remote.note(f"{what} of its {handle._della_kind} object")
    return value


def _same_object(handle: Handle, other: object) -> bool:
    """Return whether two of the candidate's objects are equal, by its own word; a plain value equals none of them."""
    return _is_opaque(other) and bool(_asked(handle, "eq", bool, "equality", other))


def _is_opaque(value: object) -> bool:
    """Return whether `value` is a handle without a plain value."""
    return issubclass(type(value), Handle) and not issubclass(type(value), Likeness)


def _called(handle: Handle, /, *arguments: Any, **keywords: Any) -> Any:
    value = handle._della_remote.operate("call", handle, *arguments, **keywords)
    return _noted(handle, value, "method") if handle._della_member else value


def _answering(operation: str) -> Callable[..., Any]:
    return lambda handle, *arguments: handle._della_remote.operate(operation, handle, *arguments)


_METHODS: dict[str, Callable[..., Any]] = {
    "__call__": _called,
    "__len__": lambda handle: int(_asked(handle, "len", int, "length")),
    "__getitem__": lambda handle, key: _noted(handle, handle._della_remote.operate("getitem", handle, key), "item"),
    **{f"__{name}__": _answering(name) for name in ("iter", "next", "reversed", "setitem", "delitem")},
}
AnyHandle = TypeVar("AnyHandle", bound=Handle)


@functools.cache
def able(base: type[AnyHandle], abilities: int) -> type[AnyHandle]:
    """Return the subclass of `base` for objects with `abilities`, a bit for each of ABILITIES.

    A handle has no other of these methods, or `callable` and `isinstance(value, Iterator)` would be true of any object.
    """
    names = [name for at, name in enumerate(ABILITIES) if abilities >> at & 1 and name not in vars(base)]
    return type(base.__name__, (base,), {"__slots__": (), **{name: _METHODS[name] for name in names}})


def _refused(name: str) -> Callable[..., Any]:
    def refuse(self: Handle, *_: object) -> Any:
        raise TypeError(
            f"an object of the candidate's class {self._della_kind} is no plain value: it has no {name} in a test"
        )

    return refuse


_NUMBERS = (
    *("lt", "le", "gt", "ge", "add", "sub", "mul", "truediv", "floordiv", "mod", "divmod", "pow", "matmul"),
    *("lshift", "rshift", "and", "or", "xor"),
)
for _name in (
    *_NUMBERS,
    *(f"r{name}" for name in _NUMBERS[4:]),
    *("contains", "neg", "pos", "abs", "invert", "int", "float", "complex", "index", "round", "trunc", "floor", "ceil"),
):
    setattr(Handle, f"__{_name}__", _refused(f"__{_name}__"))


class Likeness(Handle):
    """An object of the candidate's whose class is a container: its plain value decides, fetched when it is used."""

    __slots__ = ("_della_plain", "_della_when")

    def __init__(self, remote: Asked, number: int, kind: str, plain: Any) -> None:
        super().__init__(remote, number, kind, None)
        _set(self, "_della_plain", plain)
        _set(self, "_della_when", remote.requests)

    @property
    def __class__(self) -> Any:
        """The plain value's class, so that isinstance says what it says about the object itself."""
        return type(self._della_plain)

    @__class__.setter
    def __class__(self, value: Any) -> None:
        raise TypeError("the class of the candidate's objects is its own affair")

    def __hash__(self) -> int:  # noqa: D105
        return hash(_plain(self))

    def __iter__(self) -> Iterator[Any]:  # noqa: D105
        return iter(_plain(self))

    def __bool__(self) -> bool:  # noqa: D105
        return bool(_plain(self))


def _plain(value: Any) -> Any:
    """Return the plain value of a likeness as it is now, and anything else as it is."""
    if not issubclass(type(value), Likeness):
        return value
    remote: Asked = value._della_remote
    if value._della_when != remote.requests and not isinstance(value._della_plain, (tuple, frozenset)):
        _set(value, "_della_plain", remote.operate("plain", value))
        _set(value, "_della_when", remote.requests)
    return value._della_plain


def _by_value(operation: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self, *others: operation(_plain(self), *map(_plain, others))


for _name, _operation in {
    **{name: getattr(operator, name) for name in ("eq", "ne", "lt", "le", "gt", "ge", "contains", "getitem")},
    **{name: getattr(operator, name) for name in ("add", "mul", "sub", "and_", "or_", "xor")},
    **{f.__name__: f for f in (len, str, repr, format, reversed)},
    "radd": lambda one, other: other + one,
    "rmul": lambda one, other: other * one,
    "rsub": lambda one, other: other - one,
    "rand": lambda one, other: other & one,
    "ror": lambda one, other: other | one,
    "rxor": lambda one, other: other ^ one,
}.items():
    setattr(Likeness, f"__{_name.rstrip('_')}__", _by_value(_operation))

"""The candidate's process: it runs the candidate's code, then answers calls from the tests' process.

Whatever this process does to itself, it can only answer with values: the verdict is made elsewhere.
"""

from __future__ import annotations

import operator
import os
import socket
import sys
import types
from collections.abc import Callable
from typing import Any

from della_bench.scoring.sandbox.inside import frames
from della_bench.scoring.sandbox.inside.codec import BadValueError, Codec
from della_bench.scoring.sandbox.inside.rows import ABILITIES, MODULES

__all__ = ["FILE_NAME", "MODULE", "main"]

FILE_NAME, MODULE = "<candidate>", "candidate"
LONGEST_MESSAGE = 2000
ONLY_TREE = 0x400  # ast.PyCF_ONLY_AST; importing ast takes longer than most programs run
UNHASHED = (types.FunctionType, types.GeneratorType, type)  # not asked for a hash: theirs is their address
MUTABLE = frozenset({"l", "d", "set", "bytearray", "deque", "Counter", "OrderedDict", "defaultdict"})


def main(connection: socket.socket, code: str) -> None:
    """Run `code` as a module, say over `connection` what came of it, and answer calls until the other side ends."""
    module = types.ModuleType(MODULE)
    sys.modules[MODULE] = module
    sys.argv = [MODULE]
    result = _loaded(code, module)
    try:
        frames.send(connection, result)
        if result[0] == "ready":
            Agent(connection, module).serve()
    except (EOFError, OSError, frames.BrokenFrameError):
        os._exit(0)


def _loaded(code: str, module: types.ModuleType) -> list[Any]:
    """Run `code` in `module` and return the first message."""
    try:
        tree = compile(code, FILE_NAME, "exec", ONLY_TREE, dont_inherit=True)
        compiled = compile(tree, FILE_NAME, "exec", dont_inherit=True)
    except SyntaxError as error:
        return ["syntax", f"line {error.lineno}: {error.msg}"]
    except (ValueError, UnicodeError) as error:  # a null byte, half a surrogate pair
        return ["syntax", str(error)[:LONGEST_MESSAGE]]
    except (MemoryError, RecursionError) as error:
        return _raised(error)
    if not tree.body:
        return ["empty"]
    del tree
    try:
        exec(compiled, module.__dict__)
    except BaseException as error:  # SystemExit too: the module did not run to its end
        return _raised(error)
    return ["ready"]


class Agent:
    """Answers the tests' requests about the candidate's objects, which it knows by number."""

    def __init__(self, connection: socket.socket, module: types.ModuleType) -> None:
        self._connection = connection
        self._module = module
        self._objects: dict[int, object] = {}
        self._codec = Codec(self._export, self._resolve)

    def serve(self) -> None:
        """Answer one request after the other. Raises EOFError when the other side ends."""
        while True:
            self._answer(frames.receive(self._connection))

    def _answer(self, request: list[Any]) -> None:
        what, *rest = request
        try:
            reply = self._bind(*rest) if what == "bind" else self._operate(what, *rest)
        except BaseException as error:  # whatever the candidate raised is the tests' to judge
            if isinstance(error, EOFError) and error.args == (ENDED,):
                os._exit(0)
            reply = _raised(error)
        try:
            data = frames.encode(reply)
        except (ValueError, RecursionError, MemoryError) as error:
            data = frames.encode(_raised(error))
        frames.send_encoded(self._connection, data)

    def _bind(self, names: list[str]) -> list[Any]:
        """Return which of `names` the candidate has, with their values; what it imported goes by its module's name."""
        bound = []
        for name in names:
            if name in self._module.__dict__ and not name.startswith("__"):
                value = self._module.__dict__[name]
                if isinstance(value, types.ModuleType):
                    bound.append([name, ["module", value.__name__]])
                elif callable(value) and (origin := _origin(name, value)):
                    bound.append([name, ["standard", origin]])
                else:
                    bound.append([name, ["value", self._codec.encode(value)]])
        return ["bound", bound]

    def _operate(self, what: str, target: Any, arguments: list[Any], keywords: dict[str, Any]) -> list[Any]:
        """Return the value of one operation, and those of its arguments that it changed."""
        decode, encode = self._codec.decode, self._codec.encode
        receiver = decode(target)
        positional = [decode(argument) for argument in arguments]
        named = {name: decode(argument) for name, argument in keywords.items()}
        if what == "plain":
            return ["value", self._codec.encode_plain(receiver), []]
        value = OPERATIONS[what](receiver, *positional, **named)
        given: list[tuple[int | str, tuple[Any, Any]]] = [*enumerate(zip(arguments, positional, strict=True))]
        given += [(name, (keywords[name], after)) for name, after in named.items()]
        changed = []
        for at, (before, after) in given:
            if type(before) is list and _may_change(before):
                now = encode(after)
                if now != before or frames.encode(now) != frames.encode(before):  # 1 == True == 1.0
                    changed.append([at, now])
        return ["value", encode(value), changed]

    def _export(self, value: object) -> list[Any]:
        """Return the reference of an object: its number, its class's name, hash (None: it has none) and abilities."""
        key = id(value)
        self._objects[key] = value  # kept alive, so that no other object gets its number
        kind = type(value)
        if kind.__hash__ is object.__hash__ or isinstance(value, UNHASHED):
            hashed = key
        else:
            try:
                hashed = hash(value)
            except Exception:  # it has none, or something in it has none
                hashed = None
        return ["h", key, kind.__name__, hashed, _abilities(kind)]

    def _resolve(self, tag: str, rest: list[Any], _: object) -> object:
        if tag == "h":
            return self._objects[rest[0]]
        number, is_iterator = rest
        return Stream(self, number) if is_iterator else Callback(self, number)

    def call_back(self, number: int, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        """Call function `number` of the tests (or take the next item of an iterator) and return its value."""
        encode = self._codec.encode
        named = {name: encode(value) for name, value in keywords.items()}
        frames.send(self._connection, ["call_back", number, [encode(value) for value in arguments], named])
        while True:
            try:
                message = frames.receive(self._connection)
            except EOFError:
                raise EOFError(ENDED) from None
            if message[0] == "returned":
                return self._codec.decode(message[1])
            if message[0] == "raised":
                raise EXCEPTIONS.get(message[1], RuntimeError)(message[2])
            self._answer(message)


ENDED = "the tests ended"
EXCEPTIONS = {kind.__name__: kind for kind in (StopIteration, ValueError, TypeError, KeyError, IndexError)}


class Callback:
    """A function of the tests."""

    def __init__(self, agent: Agent, number: int) -> None:
        self._agent, self._number = agent, number

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        """Call it where it is."""
        return self._agent.call_back(self._number, arguments, keywords)


class Stream(Callback):
    """An iterator of the tests."""

    def __iter__(self) -> Stream:
        """Return itself."""
        return self

    def __next__(self) -> Any:
        """Return the next item."""
        return self()


def _abilities(kind: type) -> int:
    """Return which of ABILITIES the objects of a class have, a bit for each."""
    has = {name for base in kind.__mro__ for name in ABILITIES if name in base.__dict__}
    return sum(1 << at for at, name in enumerate(ABILITIES) if name in has)


def _origin(name: str, value: object) -> str | None:
    """Return the standard module that has `value` under `name`."""
    modules = (module for module in MODULES if module in sys.modules)
    return next((module for module in modules if sys.modules[module].__dict__.get(name) is value), None)


def _may_change(data: list[Any]) -> bool:
    return data[0] in MUTABLE or (data[0] == "t" and any(type(part) is list and _may_change(part) for part in data[1:]))


def _call(function: Callable[..., Any], /, *arguments: Any, **keywords: Any) -> Any:
    return function(*arguments, **keywords)


def _equal(one: object, other: object) -> bool:
    return bool(one == other)


OPERATIONS: dict[str, Callable[..., Any]] = {
    "call": _call,
    "eq": _equal,
    "instance": lambda kind, value: isinstance(value, kind),
    **{f.__name__: f for f in (getattr, setattr, delattr, len, iter, next, reversed, repr, str, format, bool)},
    **{name: getattr(operator, name) for name in ("getitem", "setitem", "delitem")},
}


def _raised(error: BaseException) -> list[Any]:
    """Return the message that an exception makes: type, nearest built-in type, text, and the candidate's line."""
    builtin = next(kind.__name__ for kind in type(error).__mro__ if kind.__module__ == "builtins")
    if isinstance(error, BadValueError):
        builtin = "TypeError"
    try:
        text = str(error)[:LONGEST_MESSAGE]
    except BaseException:  # a __str__ of the candidate's
        text = ""
    line, trace = 0, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == FILE_NAME:
            line = trace.tb_lineno
        trace = trace.tb_next
    return ["raised", type(error).__name__, builtin, text, line]

"""The candidate's objects as the tests see them: handles whose every use is a request to the candidate's process."""

from __future__ import annotations

import builtins
import random
import socket
from collections.abc import Iterator
from typing import Any

from della_bench.scoring.sandbox.inside import frames
from della_bench.scoring.sandbox.inside.codec import BadValueError, Codec, update
from della_bench.scoring.sandbox.inside.decoys import decoys

__all__ = [
    "CandidateEndedError",
    "CandidateLeftError",
    "CheatError",
    "Handle",
    "ProtocolError",
    "Remote",
    "UnsendableError",
    "raised_in",
]

LONGEST_FRAME = 64 << 20


class ProtocolError(BaseException):
    """The candidate's process sent what its side of the protocol never sends."""


class CandidateEndedError(BaseException):
    """The candidate's process is gone."""


class CandidateLeftError(BaseException):
    """The candidate raised what no test can catch: SystemExit, KeyboardInterrupt."""


class CheatError(BaseException):
    """An object of the candidate's says that it equals different values."""


class UnsendableError(BaseException):
    """The tests pass something to the candidate that has no encoding; a fault of ours, not of the candidate."""


class Remote:
    """The tests' end of the connection. `notes` are what a reader should know about a verdict."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._exported: list[Any] = []
        self._codec = Codec(self._export, self._resolve)
        self._chance = random.Random()
        self.notes: dict[str, None] = {}

    def receive(self) -> list[Any]:
        """Return the next message. Raises CandidateEndedError, ProtocolError."""
        try:
            message = frames.receive(self._connection, LONGEST_FRAME)
        except (EOFError, OSError):
            raise CandidateEndedError from None
        except frames.BrokenFrameError as error:
            raise ProtocolError(str(error)) from None
        if type(message) is not list or not message:
            raise ProtocolError("a message that is no array")
        return message

    def bind(self, names: list[str]) -> dict[str, tuple[str, Any]]:
        """Return ("value", value) or ("module", name) for those of `names` that the candidate has."""
        self._send(["bind", names])
        reply = self.receive()
        try:
            _, bound = self._checked(reply, "bound")
            found = {}
            for name, (kind, data) in bound:
                if name not in names or kind not in ("value", "module"):
                    raise ProtocolError(f"a binding of {name!r}")
                found[name] = (kind, self.value(data) if kind == "value" else str(data))
        except (TypeError, ValueError) as error:
            raise ProtocolError(f"a malformed reply: {error}") from None
        return found

    def operate(self, what: str, target: Any, *arguments: Any, **keywords: Any) -> Any:
        """Have the candidate's process do `what` with its object `target`; raise here what it raised there."""
        encode = self._codec.encode
        sent = [encode(argument) for argument in arguments]
        self._send([what, encode(target), sent, {name: encode(value) for name, value in keywords.items()}])
        while True:
            message = self.receive()
            if message[0] != "call_back":
                break
            self._call_back(message)
        if message[0] == "raised":
            raise raised_in(message)
        try:
            _, data, changed = self._checked(message, "value")
            value = self.value(data)
            for at, now in changed:
                update(arguments[at], self.value(now))
        except (TypeError, ValueError, LookupError) as error:
            raise ProtocolError(f"a malformed reply: {error}") from None
        return value

    def equal(self, handle: Handle, other: Any) -> bool:
        """Return what the candidate says about `handle == other`, unless it says the same about other values."""
        if isinstance(other, Handle):
            self.notes["compares two objects of the candidate's own"] = None
            return bool(self.operate("eq", handle, other))
        values = [(other, True), *((decoy, False) for decoy in decoys(other, self._chance))]
        self._chance.shuffle(values)
        answers = [(bool(self.operate("eq", handle, value)), real) for value, real in values]
        if not any(said for said, real in answers if real):
            return False
        name = handle._della_type
        if any(said for said, real in answers if not real):
            raise CheatError(f"the candidate's {name} object says that it equals different values")
        self.notes[
            f"equality is the word of the candidate's {name} object, told apart from {len(values) - 1} decoys"
        ] = None
        return True

    def value(self, data: Any) -> Any:
        """Return the value of `data`. Raises ProtocolError."""
        try:
            return self._codec.decode(data)
        except BadValueError as error:
            raise ProtocolError(str(error)) from None

    def _send(self, message: list[Any]) -> None:
        try:
            frames.send(self._connection, message)
        except OSError:
            raise CandidateEndedError from None

    @staticmethod
    def _checked(message: list[Any], kind: str) -> list[Any]:
        if message[0] != kind:
            raise ProtocolError(f"a message {str(message[0])[:40]!r} where {kind!r} was due")
        return message

    def _call_back(self, message: list[Any]) -> None:
        """Call a function of the tests that was passed to the candidate, and nothing else."""
        try:
            _, number, arguments, keywords = message
            function = self._exported[number]
            positional = [self.value(argument) for argument in arguments]
            named = {str(name): self.value(value) for name, value in keywords.items()}
        except (TypeError, ValueError, LookupError, AttributeError) as error:
            raise ProtocolError(f"a malformed call: {error}") from None
        try:
            reply = ["returned", self._codec.encode(function(*positional, **named))]
        except Exception as error:  # the tests' function raised: the candidate may handle that
            reply = ["raised", type(error).__name__, str(error)[:200]]
        self._send(reply)

    def _export(self, value: object) -> list[Any]:
        if isinstance(value, Handle):
            return ["h", value._della_number]
        if callable(value) and not isinstance(value, type):
            self._exported.append(value)
            return ["c", len(self._exported) - 1, False]
        if isinstance(value, Iterator):
            self._exported.append(value.__next__)
            return ["c", len(self._exported) - 1, True]
        raise UnsendableError(f"a test passes a {type(value).__name__} object to the candidate, which has no encoding")

    def _resolve(self, tag: str, rest: list[Any]) -> object:
        number, kind = rest
        if tag != "h" or type(number) is not int or type(kind) is not str:
            raise BadValueError("a malformed reference")
        return Handle(self, number, kind[:80])


def raised_in(message: list[Any]) -> BaseException:
    """Return the exception that the message ("raised", type, built-in type, text, line) stands for.

    It has the built-in type, so that a test can expect it, and `from_candidate`: what to tell a reader.
    """
    try:
        _, name, builtin, text, line = (str(part) for part in message)
    except ValueError:
        raise ProtocolError("a malformed exception") from None
    kind = getattr(builtins, builtin, None)
    if not (isinstance(kind, type) and issubclass(kind, Exception)):
        kind = CandidateLeftError
    try:
        error = kind(text)
    except TypeError:  # UnicodeDecodeError wants five arguments
        error = Exception(text)
    error.from_candidate = (name[:80], text, int(line) if line.isdigit() else 0)  # type: ignore[union-attr]
    return error


class Handle:
    """An object of the candidate's that has no plain value."""

    __slots__ = ("_della_number", "_della_remote", "_della_type")

    def __init__(self, remote: Remote, number: int, kind: str) -> None:
        object.__setattr__(self, "_della_remote", remote)
        object.__setattr__(self, "_della_number", number)
        object.__setattr__(self, "_della_type", kind)

    def __getattr__(self, name: str) -> Any:  # noqa: D105
        return self._della_remote.operate("getattr", self, name)

    def __setattr__(self, name: str, value: Any) -> None:  # noqa: D105
        self._della_remote.operate("setattr", self, name, value)

    def __eq__(self, other: object) -> bool:  # noqa: D105
        remote: Remote = self._della_remote
        return remote.equal(self, other)

    def __ne__(self, other: object) -> bool:  # noqa: D105
        return not self._della_remote.equal(self, other)

    def __instancecheck__(self, value: object) -> bool:  # noqa: D105
        return isinstance(value, Handle) and bool(self._della_remote.operate("instance", self, value))


def _forwarded(what: str, kind: type | None) -> Any:
    def forward(self: Handle, *arguments: Any, **keywords: Any) -> Any:
        value = self._della_remote.operate(what, self, *arguments, **keywords)
        if kind is not None and type(value) is not kind:
            raise ProtocolError(f"__{what}__ gave a {type(value).__name__}")
        return value

    forward.__name__ = forward.__qualname__ = f"__{what}__"
    return forward


_RESULTS: dict[str, type | None] = {"len": int, "hash": int, "repr": str, "str": str, "bool": bool, "int": int}
_RESULTS |= {"float": float, "index": int, "format": str, "contains": bool}
for _what in (
    *("call", "delattr", "getitem", "setitem", "delitem", "contains", "len", "iter", "next", "hash", "repr", "str"),
    *(
        "bool",
        "int",
        "float",
        "index",
        "abs",
        "reversed",
        "round",
        "format",
        "lt",
        "le",
        "gt",
        "ge",
        "add",
        "sub",
        "mul",
    ),
    *("truediv", "floordiv", "mod", "pow", "neg", "pos", "and_", "or_", "xor", "invert", "matmul", "lshift", "rshift"),
    *("radd", "rsub", "rmul", "rtruediv"),
):
    setattr(Handle, f"__{_what.rstrip('_')}__", _forwarded(_what, _RESULTS.get(_what)))

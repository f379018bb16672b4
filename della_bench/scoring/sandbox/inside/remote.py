"""The tests' end of the connection to the candidate's process. Whatever comes over it may be a lie, and is checked."""

from __future__ import annotations

import builtins
import socket
from collections.abc import Iterator
from typing import Any

from della_bench.scoring.sandbox.inside import frames
from della_bench.scoring.sandbox.inside.codec import NO_VALUE, BadValueError, Codec
from della_bench.scoring.sandbox.inside.handles import Handle, Likeness, able
from della_bench.scoring.sandbox.inside.rows import ABILITIES
from della_bench.scoring.sandbox.inside.update import update

__all__ = [
    "TESTS_MODULE",
    "CandidateEndedError",
    "CandidateLeftError",
    "ProtocolError",
    "Remote",
    "UnsendableError",
    "raised_in",
]

LONGEST_FRAME = 64 << 20
LONGEST_NAME, LAST_LINE, MOST_NOTES = 80, 10_000_000, 8
TESTS_MODULE = "tests"  # the __module__ of classes that the tests define


class ProtocolError(BaseException):
    """The candidate's process sent what its side of the protocol never sends."""


class CandidateEndedError(BaseException):
    """The candidate's process is gone."""


class CandidateLeftError(BaseException):
    """The candidate raised what no test can catch: SystemExit, KeyboardInterrupt."""


class UnsendableError(BaseException):
    """The tests pass an object of a class of their own to the candidate: no candidate could get it."""


class Remote:
    """Sends requests and receives replies.

    notes: what the tests took the candidate's word for. requests: how many were sent.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._exported: list[Any] = []
        self._codec = Codec(self._export, self._resolve)
        self._handles: dict[int, Handle] = {}
        self.notes: dict[str, None] = {}
        self.requests = 0

    def note(self, what: str) -> None:
        """Note that the candidate was taken at its word."""
        if len(self.notes) < MOST_NOTES:
            self.notes[what] = None

    def receive(self) -> list[Any]:
        """Return the next message. Raises CandidateEndedError, ProtocolError."""
        try:
            message = frames.receive(self._connection, LONGEST_FRAME)
        except (EOFError, OSError):
            raise CandidateEndedError from None
        except frames.BrokenFrameError as error:
            raise ProtocolError(str(error)) from None
        if type(message) is not list or not message or type(message[0]) is not str:
            raise ProtocolError("a message that is no array with a name")
        return message

    def bind(self, names: list[str]) -> dict[str, tuple[str, Any]]:
        """Return (kind, value) for those of `names` that the candidate has.

        kind: `value`; `module`, with the name of one; `standard`, with the name of the module that it comes from.
        """
        self._send(["bind", names])
        reply = self.receive()
        try:
            _, bound = self._checked(reply, "bound")
            bindings = {}
            for name, (kind, data) in bound:
                if name not in names or kind not in ("value", "module", "standard"):
                    raise ProtocolError("a binding that nobody asked for")
                bindings[name] = (kind, self.value(data) if kind == "value" else str(data))
        except (TypeError, ValueError) as error:
            raise ProtocolError(f"a malformed reply: {error}") from None
        return bindings

    def operate(self, what: str, target: Any, /, *arguments: Any, **keywords: Any) -> Any:
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
            error = raised_in(message)
            if isinstance(error, StopIteration) and what != "next":
                message[2] = "RuntimeError"  # else a loop of the tests would end, as if there were no more to test
                error = raised_in(message)
            raise error
        try:
            _, data, changed = self._checked(message, "value")
            value = self.value(data)
            for at, now in changed:
                update(keywords[at] if type(at) is str else arguments[at], self.value(now))
        except (TypeError, ValueError, LookupError) as error:
            raise ProtocolError(f"a malformed reply: {error}") from None
        return value

    def value(self, data: Any) -> Any:
        """Return the value of `data`. Raises ProtocolError."""
        try:
            return self._codec.decode(data)
        except BadValueError as error:
            raise ProtocolError(str(error)) from None

    def _send(self, message: list[Any]) -> None:
        self.requests += 1
        try:
            frames.send(self._connection, message)
        except OSError:
            raise CandidateEndedError from None

    @staticmethod
    def _checked(message: list[Any], kind: str) -> list[Any]:
        if message[0] != kind:
            raise ProtocolError(f"a message {message[0][:40]!r} where {kind!r} was due")
        return message

    def _call_back(self, message: list[Any]) -> None:
        """Call a function of the tests that was passed to the candidate, and nothing else."""
        try:
            _, number, arguments, keywords = message
            if type(number) is not int or number < 0:
                raise ProtocolError("a call of a function without a number")
            function = self._exported[number]
            positional = [self.value(argument) for argument in arguments]
            named = {str(name): self.value(value) for name, value in keywords.items()}
        except (TypeError, ValueError, LookupError, AttributeError) as error:
            raise ProtocolError(f"a malformed call: {error}") from None
        try:
            reply = ["returned", self._codec.encode(function(*positional, **named))]
        except UnsendableError as error:  # what it returned depends on what the candidate passed to it
            reply = ["raised", "TypeError", str(error)]
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
        kind = value if isinstance(value, type) else type(value)
        if kind.__module__ != TESTS_MODULE:  # made from what the candidate gave
            raise TypeError(f"a test passes a {kind.__name__} object to the candidate, which has no encoding")
        raise UnsendableError(f"a test passes a {kind.__name__} object to the candidate, which has no encoding")

    def _resolve(self, tag: str, rest: list[Any], plain: object) -> object:
        """Return the handle of a reference; the same one each time, so that `is` and identity hold."""
        number, kind, hashed, abilities = rest
        numbers = type(number) is type(abilities) is int and (hashed is None or type(hashed) is int)
        if tag != "h" or not numbers or type(kind) is not str or not 0 <= abilities < 1 << len(ABILITIES):
            raise BadValueError("a malformed reference")
        if plain is not NO_VALUE:
            return able(Likeness, abilities)(self, number, kind[:LONGEST_NAME], plain)
        if number not in self._handles:
            self._handles[number] = able(Handle, abilities)(self, number, kind[:LONGEST_NAME], hashed)
        return self._handles[number]


def raised_in(message: list[Any]) -> BaseException:
    """Return the exception that the message ("raised", type, built-in type, text, line) stands for.

    It has the built-in type, so that a test can expect it, and `from_candidate`: what to tell a reader.
    Raises ProtocolError.
    """
    if [type(part) for part in message] != [str, str, str, str, int] or not 0 <= message[4] <= LAST_LINE:
        raise ProtocolError("a malformed exception")
    _, name, builtin, text, line = message
    kind = getattr(builtins, builtin, None)
    if not (isinstance(kind, type) and issubclass(kind, Exception)):
        kind = CandidateLeftError
    try:
        error = kind(text)
    except TypeError:  # UnicodeDecodeError wants five arguments
        error = Exception(text)
    error.from_candidate = (name[:LONGEST_NAME], text, line)  # type: ignore[union-attr]
    return error

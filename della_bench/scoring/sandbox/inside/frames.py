"""Messages over a stream socket: four bytes of length, then JSON; file descriptors travel with the first bytes."""

from __future__ import annotations

import array
import json
import socket
from typing import Any

__all__ = [
    "MAX_FRAME",
    "BrokenFrameError",
    "decode",
    "encode",
    "receive",
    "receive_with_descriptors",
    "send",
    "send_encoded",
]

MAX_FRAME = 256 << 20
_WIDTH = 4


class BrokenFrameError(Exception):
    """The other side sent something that is no message."""


# Bound once: a candidate that patches the json module in its own process changes neither.
decode = json.JSONDecoder().decode
encode = json.JSONEncoder(check_circular=True, separators=(",", ":")).encode


def send(connection: socket.socket, message: Any, descriptors: tuple[int, ...] = ()) -> None:
    """Send one message. Raises OSError where the other side is gone."""
    _send(connection, encode(message), descriptors)


def send_encoded(connection: socket.socket, text: str) -> None:
    """Send what `encode` returned."""
    _send(connection, text, ())


def _send(connection: socket.socket, text: str, descriptors: tuple[int, ...]) -> None:
    data = text.encode("ascii")
    head = len(data).to_bytes(_WIDTH, "big")
    if descriptors:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))]
        connection.sendmsg([head], rights)
        connection.sendall(data)
    else:
        connection.sendall(head + data)


def receive(connection: socket.socket, limit: int = MAX_FRAME) -> Any:
    """Return the next message. Raises EOFError at the end, BrokenFrameError for what is none or is too long."""
    return _body(connection, _exactly(connection, _WIDTH), limit)


def receive_with_descriptors(connection: socket.socket) -> tuple[Any, list[int]]:
    """Return the next message and the file descriptors that came with it."""
    head, descriptors, _, _ = socket.recv_fds(connection, _WIDTH, 8)
    if not head:
        raise EOFError
    head += _exactly(connection, _WIDTH - len(head)) if len(head) < _WIDTH else b""
    return _body(connection, head, MAX_FRAME), descriptors


def _body(connection: socket.socket, head: bytes, limit: int) -> Any:
    length = int.from_bytes(head, "big")
    if length > limit:
        raise BrokenFrameError(f"a message of {length} bytes")
    try:
        return decode(_exactly(connection, length).decode("ascii"))
    except (ValueError, RecursionError) as error:
        raise BrokenFrameError("a message that is no JSON") from error


def _exactly(connection: socket.socket, count: int) -> bytes:
    """Return `count` bytes, or raise EOFError."""
    pieces = []
    while count:
        try:
            piece = connection.recv(min(count, 1 << 20))
        except ConnectionError:
            raise EOFError from None
        if not piece:
            raise EOFError
        pieces.append(piece)
        count -= len(piece)
    return b"".join(pieces)

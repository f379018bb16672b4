"""A small OpenAI-compatible server inside the test process: it answers as a test says, and remembers its requests."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

DROP = object()  # break the connection instead of answering


@dataclass(frozen=True)
class Raw:
    """Bytes to send as they are, in the place of an answer in HTTP; the connection is closed behind them."""

    data: bytes


Answer = Any  # words, (status, body), (status, body, headers), Raw or DROP


def completion(words: str, model: str = "stub-1", finish_reason: str = "stop", tokens: tuple[int, int] = (100, 10)):
    choice = {"index": 0, "finish_reason": finish_reason, "message": {"role": "assistant", "content": words}}
    usage = {"prompt_tokens": tokens[0], "completion_tokens": tokens[1], "total_tokens": sum(tokens)}
    return {"id": "c", "object": "chat.completion", "created": 1, "model": model, "choices": [choice], "usage": usage}


def error(message: str, code: str | None = None, kind: str = "invalid_request_error", param: str | None = None):
    return {"error": {"message": message, "type": kind, "code": code, "param": param}}


class Stub:
    """`chat(request, number)` answers the number-th chat request (from 0); `other` all that is no chat request."""

    def __init__(self, chat: Callable[[dict[str, Any], int], Answer]) -> None:
        self.chat = chat
        self.other: Callable[[str, str, bytes], Answer] = lambda *_: (404, error("no such thing"))
        self.requests: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.in_flight = self.most_in_flight = 0
        self.lock = threading.Lock()
        self.url = ""

    def texts(self) -> list[str]:
        return ["\n".join(message["content"] for message in request["messages"]) for request in self.requests]


class _Server(ThreadingHTTPServer):
    request_queue_size = 256
    daemon_threads = True


@contextmanager
def serving(chat: Callable[[dict[str, Any], int], Answer]) -> Iterator[Stub]:
    stub = Stub(chat)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def do_GET(self) -> None:
            self.respond(stub.other("GET", self.path, b""))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if "chat/completions" not in self.path:
                self.respond(stub.other("POST", self.path, body))
                return
            request = json.loads(body)
            with stub.lock:
                number = len(stub.requests)
                stub.requests.append(request)
                stub.paths.append(self.path)
                stub.headers.append(dict(self.headers))
                stub.in_flight += 1
                stub.most_in_flight = max(stub.most_in_flight, stub.in_flight)
            try:
                answer = stub.chat(request, number)
            finally:
                with stub.lock:
                    stub.in_flight -= 1
            self.respond(answer)

        def respond(self, answer: Answer) -> None:
            if answer is DROP:
                self.close_connection = True
                self.connection.close()
                return
            if isinstance(answer, Raw):
                self.close_connection = True
                self.wfile.write(answer.data)
                return
            if isinstance(answer, str):
                answer = (200, completion(answer))
            status, body, *headers = answer
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response_only(status)  # no Date of its own
            for name, value in {"Content-Type": "application/json", **(headers[0] if headers else {})}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    server = _Server(("127.0.0.1", 0), Handler)
    stub.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield stub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

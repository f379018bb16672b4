"""Requests that aiohttp sends are those that openai's client sends, and its errors are openai's."""

from __future__ import annotations

import asyncio
import gzip
import json
import sys
import threading
import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import openai
import pytest

from della_bench import asynchronous
from della_bench.judging.chat import ChatSender
from della_bench.judging.faults import Retry, fault_of
from della_bench.judging.server import Server
from tests.waiting import HANGS

from . import bad_replies, stub

AIOHTTP, OPENAI = "aiohttp", "openai"
OF_THE_CONNECTION = {"accept-encoding", "connection", "host"}


def request(text: str = "hello", model: str = "m") -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}]}


@pytest.fixture(params=[AIOHTTP, OPENAI])
def road(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    take(request.param, monkeypatch)
    return str(request.param)


def take(road: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a proxy is set, though not for the servers of tests, openai's client sends the requests."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    if road == OPENAI:
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
        monkeypatch.setenv("no_proxy", "127.0.0.1")


def send(server: Server, *requests: dict[str, Any], timeout: float = HANGS) -> list[Any]:
    """Return the bytes of each answer, or what was raised."""

    async def run() -> list[Any]:
        async with server.connect(8, timeout) as client:
            sender = ChatSender(client, 8, timeout)
            try:
                return await asyncio.gather(*map(sender.send, requests), return_exceptions=True)
            finally:
                await sender.close()

    return asynchronous.run(run())


def use_azure(url: str, monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", url.removesuffix("/v1"))
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "azure-key")
    monkeypatch.setenv("OPENAI_API_VERSION", "2024-10-21")
    return Server(azure=True)


def use_openai(url: str, monkeypatch: pytest.MonkeyPatch) -> Server:
    for name, value in {"API_KEY": "a-key", "ORG_ID": "an-organisation", "PROJECT_ID": "a-project"}.items():
        monkeypatch.setenv(f"OPENAI_{name}", value)
    return Server(url)


@pytest.mark.parametrize("use", [use_openai, use_azure])
def test_address_headers_and_body_are_those_of_openais_client(
    monkeypatch: pytest.MonkeyPatch, use: Callable[[str, pytest.MonkeyPatch], Server]
) -> None:
    asked = [request("é \U0001f600", "first"), request("more", "second"), request("again", "first")]
    seen: dict[str, Any] = {}
    with stub.serving(lambda *_: "hi") as server:
        for road in (AIOHTTP, OPENAI):
            take(road, monkeypatch)
            for each in asked:
                send(use(server.url, monkeypatch), each)
            headers = [
                {name.lower(): value for name, value in each.items() if name.lower() not in OF_THE_CONNECTION}
                for each in server.headers
            ]
            seen[road] = (server.requests[:], server.paths[:], headers)
            for record in (server.requests, server.paths, server.headers):
                record.clear()
    assert seen[AIOHTTP] == seen[OPENAI]
    assert seen[AIOHTTP][0] == asked
    assert "a-key" in str(seen) or "azure-key" in str(seen)


def test_requests_of_several_models_at_once_each_have_their_own_address(monkeypatch: pytest.MonkeyPatch) -> None:
    take(AIOHTTP, monkeypatch)
    with stub.serving(lambda asked, _: asked["model"]) as server:
        azure = use_azure(server.url, monkeypatch)
        answers = send(azure, *(request(str(i), f"m{i % 3}") for i in range(12)))
        assert all(f'"content": "m{i % 3}"'.encode() in each for i, each in enumerate(answers))
        for path, asked in zip(server.paths, server.requests, strict=True):
            assert f"/{asked['model']}/" in path


@pytest.mark.parametrize("name", bad_replies.KINDS)
def test_a_bad_reply_means_the_same_as_through_openais_client(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    meanings = []
    good = stub.completion("[[A]]")
    for road in (AIOHTTP, OPENAI):
        take(road, monkeypatch)
        with stub.serving(lambda *_: bad_replies.KINDS[name](good)) as server:
            (answer,) = send(Server(server.url), request())
            meanings.append(meaning(answer, Server(server.url)))
    assert meanings[0] == meanings[1]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (stub.error("beyond the context"), "status 422: beyond the context"),
        ({"detail": "temperature is too hot"}, "status 422: temperature is too hot"),
        ({"error": "no such sampler"}, "status 422: no such sampler"),
        (b"plain words", "status 422: plain words"),
        (b"", "status 422: Error code: 422"),
    ],
)
def test_what_a_server_says_of_an_error_is_passed_on_however_it_says_it(road: str, body: Any, words: str) -> None:
    with stub.serving(lambda *_: (422, body)) as server:
        (error,) = send(Server(server.url), request())
    assert str(fault_of(error, Server(server.url), request())) == words


def meaning(answer: bytes | Exception, server: Server) -> object:
    """Return what an answer or an error means, without the words that the library has for a broken connection."""
    if isinstance(answer, bytes):
        return answer
    fault = fault_of(answer, server, request())
    if isinstance(fault, Retry):
        return fault if isinstance(answer, openai.APIStatusError) else replace(fault, reason="")
    return type(fault), str(fault).replace(server.url, "")


def test_a_server_that_is_not_there_is_unreachable(road: str) -> None:
    (error,) = send(Server("http://127.0.0.1:9/v1"), request())
    fault = fault_of(error, Server("http://127.0.0.1:9/v1"), request())
    assert isinstance(fault, Retry)
    assert fault.unreachable
    assert not fault.charged


def test_a_server_that_says_nothing_is_silent(road: str) -> None:
    is_over = threading.Event()

    def chat(*_: object) -> str:
        is_over.wait(HANGS)
        return "late"

    with stub.serving(chat) as server:
        (error,) = send(Server(server.url), request(), timeout=1)
        is_over.set()
        fault = fault_of(error, Server(server.url), request())
    assert isinstance(fault, Retry)
    assert (fault.silent, fault.unreachable, fault.charged) == (True, False, True)


def test_a_redirection_is_followed_with_the_body(road: str) -> None:
    def chat(*_: object) -> Any:
        return "hi" if server.paths[-1].startswith("/v2") else (307, b"", {"Location": "/v2/chat/completions"})

    with stub.serving(chat) as server:
        (answer,) = send(Server(server.url), request())
    assert b'"hi"' in answer
    assert all(each == request() for each in server.requests)


@pytest.mark.parametrize("use", [use_openai, use_azure])
def test_another_server_that_a_redirection_names_is_sent_no_key(
    road: str, monkeypatch: pytest.MonkeyPatch, use: Callable[[str, pytest.MonkeyPatch], Server]
) -> None:
    with stub.serving(lambda *_: "hi") as other:
        there = {"Location": f"{other.url}/chat/completions"}
        with stub.serving(lambda *_: (307, b"", there)) as server:
            (answer,) = send(use(server.url, monkeypatch), request())
    assert b'"hi"' in answer
    assert "a-key" in str(server.headers) or "azure-key" in str(server.headers)
    assert "a-key" not in str(other.headers)
    assert "azure-key" not in str(other.headers)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "gzip, gzip"])
def test_a_compressed_answer_is_read(road: str, encoding: str) -> None:
    body = json.dumps(stub.completion("hi")).encode()
    for each in encoding.split(", "):
        body = gzip.compress(body) if each == "gzip" else zlib.compress(body)
    with stub.serving(lambda *_: (200, body, {"Content-Encoding": encoding})) as server:
        (answer,) = send(Server(server.url), request())
    assert json.loads(answer) == stub.completion("hi")


def test_headers_of_the_users_own_are_sent(road: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "Host: judge.internal\nAccept-Encoding: identity\nX-Team: merging")
    with stub.serving(lambda *_: "hi") as server:
        send(Server(server.url), request())
    (headers,) = ({name.lower(): value for name, value in each.items()} for each in server.headers)
    assert (headers["host"], headers["accept-encoding"], headers["x-team"]) == ("judge.internal", "identity", "merging")


def test_a_request_that_starts_as_the_sender_closes_leaves_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    take(AIOHTTP, monkeypatch)

    async def run(url: str) -> Any:
        async with Server(url).connect(8, HANGS) as client:
            sender = ChatSender(client, 8, HANGS)
            asked = asyncio.ensure_future(sender.send(request()))
            await asyncio.sleep(0)
            await sender.close()
            return (await asyncio.gather(asked, return_exceptions=True))[0]

    with stub.serving(lambda *_: "hi") as server:
        error = asynchronous.run(run(server.url))
    assert isinstance(fault_of(error, Server(server.url), request()), Retry)
    assert server.requests == []


def test_a_proxy_is_asked_where_one_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    take(AIOHTTP, monkeypatch)
    with stub.serving(lambda *_: "by proxy") as proxy:
        monkeypatch.setenv("http_proxy", proxy.url.removesuffix("/v1"))
        monkeypatch.delenv("no_proxy", raising=False)
        (answer,) = send(Server("http://judge.invalid/v1"), request())
    assert b"by proxy" in answer
    assert proxy.paths == ["http://judge.invalid/v1/chat/completions"]


def test_where_aiohttp_is_not_installed_openais_client_sends(monkeypatch: pytest.MonkeyPatch) -> None:
    take(AIOHTTP, monkeypatch)
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    with stub.serving(lambda *_: "hi") as server:
        (answer,) = send(Server(server.url), request())
    assert b'"hi"' in answer

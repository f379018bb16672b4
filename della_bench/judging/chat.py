"""Sending chat completion requests, with little between a request and its socket.

openai's client makes the address and the headers, once a model; a request is then its JSON, which aiohttp sends. What
openai and httpx do anew for each request takes several times the processor time of all else, and bounds how fast a fast
server is asked. Where a proxy is set, or aiohttp is not installed, openai's client sends each request itself.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.request import getproxies

from della_bench.judging.json_types import JsonObject, as_object, as_text

if TYPE_CHECKING:
    from types import ModuleType

    from aiohttp import ClientResponse, ClientSession
    from httpx2 import Request
    from multidict import CIMultiDict
    from openai import APIStatusError, AsyncOpenAI
    from yarl import URL

__all__ = ["ChatSender", "httpx_of_openai"]

_MADE_BY_AIOHTTP = ("host", "connection", "content-length", "accept-encoding")  # headers
_KEPT_OPEN = 5.0  # seconds that an unused connection stays open, as in httpx


@dataclass(frozen=True)
class _Made:
    """What all requests of one model have in common: openai's, and its address and headers as aiohttp takes them."""

    request: Request
    url: URL
    headers: CIMultiDict[str]

    @classmethod
    def of(cls, request: Request) -> _Made:
        from multidict import CIMultiDict
        from yarl import URL

        headers = [(name, value) for name, value in request.headers.multi_items() if name not in _MADE_BY_AIOHTTP]
        return cls(request, URL(str(request.url), encoded=True), CIMultiDict(headers))


class ChatSender:
    """Sends requests to one server, from one event loop, by at most `connections` connections at once.

    `timeout`: seconds that connecting may take, and then that the server may be silent.
    """

    def __init__(self, client: AsyncOpenAI, connections: int, timeout: float) -> None:
        self._client, self._connections, self._timeout = client, connections, timeout
        self._through_openai = not importlib.util.find_spec("aiohttp") or bool(
            {"http", "https", "all"} & {*getproxies()}
        )
        self._made: dict[object, _Made] = {}  # by model: in Azure it is part of the address
        self._making = asyncio.Lock()
        self._session: ClientSession | None = None

    async def send(self, request: JsonObject) -> bytes:
        """Return the body of the answer to `request`.

        Raises openai.APIError, and aiohttp's own errors where a server breaks HTTP's rules, as openai's client does.
        """
        import openai

        if self._through_openai:
            return await _post(self._client, request)
        import aiohttp

        made = self._made.get(request.get("model")) or await self._make(request.get("model"))
        body = json.dumps(request, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
        if self._session is None:
            self._session = self._connect(made.request)
        try:
            async with self._session.post(made.url, data=body, headers=made.headers) as answer:
                content = await answer.read()
        except asyncio.TimeoutError as error:
            raise openai.APITimeoutError(made.request) from error
        except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError) as error:
            raise openai.APIConnectionError(request=made.request) from error
        if not 200 <= answer.status < 300:
            raise _status_error(made.request, answer, content)
        return content

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    async def _make(self, model: object) -> _Made:
        """Return the address and the headers that openai's client gives a request of this model."""
        httpx = httpx_of_openai()
        sent: list[Request] = []

        def answer_at_once(request: Request) -> object:
            sent.append(request)
            return httpx.Response(200, json={})

        async with self._making:
            if model not in self._made:
                async with httpx.AsyncClient(transport=httpx.MockTransport(answer_at_once)) as nowhere:
                    await _post(self._client.with_options(http_client=nowhere), {"model": model, "messages": []})
                self._made[model] = _Made.of(sent[0])
        return self._made[model]

    def _connect(self, made: Request) -> ClientSession:
        from aiohttp import ClientSession, ClientTimeout, TCPConnector

        # openai's certificates, which may be others than the system's.
        tls = httpx_of_openai().create_ssl_context() if made.url.scheme == "https" else True
        connector = TCPConnector(limit=self._connections, keepalive_timeout=_KEPT_OPEN, ssl=tls)
        seconds = self._timeout
        timeout = ClientTimeout(total=None, connect=seconds, sock_connect=seconds, sock_read=seconds)
        return ClientSession(connector=connector, timeout=timeout)


def httpx_of_openai() -> ModuleType:
    """Return the library that openai's client is built on: httpx2, before version 3 httpx."""
    import openai

    (base, *_) = openai.DefaultAsyncHttpxClient.__bases__
    return importlib.import_module(base.__module__.partition(".")[0])


async def _post(client: AsyncOpenAI, request: JsonObject) -> bytes:
    import openai

    # The answer as it is: openai's types would cost more time than all the rest.
    answer = await client.post("/chat/completions", cast_to=openai.HttpxBinaryResponseContent, body=request)
    return answer.content


def _status_error(request: Request, answer: ClientResponse, content: bytes) -> APIStatusError:
    """Return the error that openai's client raises for such an answer."""
    import openai

    text = content.decode("utf-8", "replace")
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        body = text
    error = as_object(body).get("error", body)
    words = as_text(as_object(error).get("message"))
    headers = [(name, value) for name, value in answer.headers.items() if name.lower() != "content-encoding"]
    response = httpx_of_openai().Response(answer.status, headers=headers, content=content, request=request)
    return openai.APIStatusError(
        f"Error code: {answer.status}" + (f" - {words}" if words else ""), response=response, body=error
    )

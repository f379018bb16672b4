"""Sending chat completion requests, with little between a request and its socket.

openai's client makes the address and the headers, once a model; a request is then its JSON, which aiohttp sends. What
openai and httpx do anew for each request takes several times the processor time of all else, and bounds how fast a fast
server is asked. All but the usual is openai's: where a proxy is set, or aiohttp is not installed, its client sends each
request itself, redirected ones, too; and what an answer with an error means, it says.
"""

from __future__ import annotations

import asyncio
import importlib
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn
from urllib.request import getproxies

from della_bench.judging.json_types import JsonObject

if TYPE_CHECKING:
    from types import ModuleType

    from aiohttp import ClientResponse, ClientSession
    from httpx2 import Request, Response
    from multidict import CIMultiDict
    from openai import AsyncOpenAI
    from yarl import URL

__all__ = ["ChatSender", "httpx_of_openai"]

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

        url = URL(str(request.url), encoded=True)
        by_aiohttp = {("host", request.url.netloc.decode("ascii")), ("connection", "keep-alive")}
        headers = [
            (name, value)
            for name, value in request.headers.multi_items()
            if name != "content-length" and (name, value) not in by_aiohttp
        ]
        return cls(request, url, CIMultiDict(headers))


class ChatSender:
    """Sends requests to one server, from one event loop, by at most `connections` connections at once.

    `timeout`: seconds that connecting may take, and then that the server may be silent.
    """

    def __init__(self, client: AsyncOpenAI, connections: int, timeout: float) -> None:
        self._client, self._connections, self._timeout = client, connections, timeout
        has_proxy = not getproxies().keys().isdisjoint(("http", "https", "all"))
        self._through_openai = has_proxy or not _has_aiohttp()
        self._made: dict[object, _Made] = {}  # by model: in Azure it is part of the address
        self._making = asyncio.Lock()
        self._session: ClientSession | None = None
        self._is_closed = False

    async def send(self, request: JsonObject) -> bytes:
        """Return the body of the answer to `request`.

        Raises openai.APIError, and aiohttp's own errors where a server breaks HTTP's rules, as openai's client does.
        """
        if self._through_openai:
            return await _post(self._client, request)
        import aiohttp
        import openai

        made = self._made.get(request.get("model")) or await self._make(request.get("model"))
        body = json.dumps(request, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
        try:
            async with self._connected(made.request).post(
                made.url, data=body, headers=made.headers, allow_redirects=False
            ) as answer:
                content = await answer.read()
        except asyncio.TimeoutError as error:
            raise openai.APITimeoutError(made.request) from error
        except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError) as error:
            raise openai.APIConnectionError(request=made.request) from error
        if 300 <= answer.status < 400:
            self._through_openai = True  # who redirects one request redirects them all
            return await _post(self._client, request)
        if 200 <= answer.status < 300:
            if "Content-Encoding" not in answer.headers:
                return content
            with suppress(httpx_of_openai().DecodingError):
                return _response(answer, content).read()
        return await self._post_to(lambda _: _response(answer, content), request)  # for the error that it raises

    async def close(self) -> None:
        """Close the connections."""
        self._is_closed = True
        if self._session is not None:
            await self._session.close()

    async def _make(self, model: object) -> _Made:
        """Return the address and the headers that openai's client gives a request of this model."""
        import openai

        def keep(request: Request) -> NoReturn:
            self._made[model] = _Made.of(request)
            raise httpx_of_openai().ConnectError("It is not to be sent.")

        async with self._making:
            if model not in self._made:
                with suppress(openai.APIConnectionError):
                    await self._post_to(keep, {"model": model, "messages": []})
        return self._made[model]

    async def _post_to(self, answer: Callable[[Request], object], request: JsonObject) -> bytes:
        """Have openai's client send a request that `answer` answers in the place of a server."""
        httpx = httpx_of_openai()
        async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as nowhere:
            return await _post(self._client.with_options(http_client=nowhere), request)

    def _connected(self, made: Request) -> ClientSession:
        if self._session is None:
            import openai
            from aiohttp import ClientSession, ClientTimeout, CookieJar, TCPConnector

            if self._is_closed:
                raise openai.APIConnectionError(message="The client is closed.", request=made)
            # openai's certificates, which may be others than the system's.
            tls = httpx_of_openai().create_ssl_context() if made.url.scheme == "https" else True
            connector = TCPConnector(limit=self._connections, keepalive_timeout=_KEPT_OPEN, ssl=tls)
            seconds = self._timeout
            self._session = ClientSession(
                connector=connector,
                timeout=ClientTimeout(total=None, connect=seconds, sock_connect=seconds, sock_read=seconds),
                cookie_jar=CookieJar(unsafe=True),  # of servers without a name, too
                auto_decompress=False,
            )
        return self._session


def httpx_of_openai() -> ModuleType:
    """Return the library that openai's client is built on: httpx2, before version 3 httpx."""
    import openai

    (base, *_) = openai.DefaultAsyncHttpxClient.__bases__
    return importlib.import_module(base.__module__.partition(".")[0])


def _response(answer: ClientResponse, content: bytes) -> Response:
    """Return an answer as httpx has it, which decodes its body where it is read."""
    httpx = httpx_of_openai()
    made: Response = httpx.Response(answer.status, headers=answer.raw_headers, stream=httpx.ByteStream(content))
    return made


def _has_aiohttp() -> bool:
    try:
        import aiohttp  # noqa: F401
    except ImportError:
        return False
    return True


async def _post(client: AsyncOpenAI, request: JsonObject) -> bytes:
    import openai

    # The answer as it is: openai's types would cost more time than all the rest.
    answer = await client.post("/chat/completions", cast_to=openai.HttpxBinaryResponseContent, body=request)
    return answer.content

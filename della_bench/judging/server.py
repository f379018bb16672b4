"""Which server is asked: OpenAI, Azure, or any that speaks the same protocol; and keeping its key out of sight."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit, urlunsplit

from della_bench.asynchronous import run
from della_bench.errors import JudgeError
from della_bench.judging.chat import httpx_of_openai

if TYPE_CHECKING:
    from httpx2 import AsyncClient
    from openai import AsyncOpenAI

__all__ = ["Server", "redacted"]

_OPENAI = "https://api.openai.com/v1"
_KEY_VARIABLES = ("OPENAI_API_KEY", "AZURE_OPENAI_API_KEY", "AZURE_OPENAI_AD_TOKEN", "OPENAI_ADMIN_KEY")
_NO_KEY = "none"  # what a local server is sent, which asks for no key
_LOOKS_LIKE_A_KEY = re.compile(r"\b(?:sk|sess|pk)-[\w*.-]{4,}|(?i:(?<=bearer )\S+)")


@dataclass(frozen=True)
class Server:
    """Where requests go. Keys, organisation and project are read from openai's own environment variables.

    base_url: of an OpenAI-compatible server; None for OPENAI_BASE_URL or OpenAI's own. azure: the endpoint that
    AZURE_OPENAI_ENDPOINT names, with AZURE_OPENAI_API_KEY (or AZURE_OPENAI_AD_TOKEN) and OPENAI_API_VERSION; a
    request's model is then the deployment's name.
    """

    base_url: str | None = None
    azure: bool = False

    def __post_init__(self) -> None:  # noqa: D105
        if self.azure and self.base_url is not None:
            raise JudgeError(
                "`azure` and `base_url` exclude each other: AZURE_OPENAI_ENDPOINT names the server", exit_code=2
            )
        if self.azure and not self.url:
            return  # `require_key` names all that is missing
        parts = _parts(self.url)
        if parts is None or parts.scheme not in ("http", "https") or not parts.hostname or not _has_port(parts):
            raise JudgeError(
                f"{redacted(self.url)!r} is no address of a server; expected such as http://127.0.0.1:8000/v1",
                exit_code=2,
            )
        if parts.username or parts.password:
            raise JudgeError("the server's address holds a name or password; give a key in OPENAI_API_KEY", exit_code=2)

    @property
    def url(self) -> str:
        """The address, which is part of a cached answer's name."""
        if self.azure:
            return (os.environ.get("AZURE_OPENAI_ENDPOINT") or "").rstrip("/")
        return (self.base_url or os.environ.get("OPENAI_BASE_URL") or _OPENAI).rstrip("/")

    @property
    def display_url(self) -> str:
        """The address for messages: without what follows a question mark."""
        parts = urlsplit(self.url)
        return urlunsplit((parts.scheme, parts.netloc, parts.path, "", ""))

    def require_key(self) -> None:
        """Raise JudgeError where a key is needed and none is set."""
        if self.azure:
            names = ("AZURE_OPENAI_ENDPOINT", "OPENAI_API_VERSION")
            missing = [name for name in names if not os.environ.get(name)]
            if not (os.environ.get("AZURE_OPENAI_API_KEY") or os.environ.get("AZURE_OPENAI_AD_TOKEN")):
                missing.append("AZURE_OPENAI_API_KEY")
            if missing:
                raise JudgeError(f"`azure`: set {', '.join(missing)} in the environment", exit_code=2)
        elif self.url == _OPENAI and not os.environ.get("OPENAI_API_KEY"):
            raise JudgeError(
                "no key: set OPENAI_API_KEY in the environment, or name a server by OPENAI_BASE_URL or as `base_url` "
                "(GSM8K can also be judged without any: `judge` exact)",
                exit_code=2,
            )

    def check(self, timeout: float = 20.0) -> None:
        """Raise JudgeError where the server cannot be reached or refuses the key; no model is asked anything."""
        run(self._check(timeout))

    async def _check(self, timeout: float) -> None:
        import openai

        async with self.connect(1, timeout) as client:
            try:
                await client.models.list()
            except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
                raise JudgeError(
                    redacted(f"{self.display_url} refuses the key: {error.message}"), exit_code=2
                ) from None
            except openai.APIConnectionError as error:
                why = redacted(str(error.__cause__ or error))
                raise JudgeError(f"{self.display_url} cannot be reached ({why}): is the address right?") from None
            except (openai.OpenAIError, ValueError):
                return  # it answers, and has no such list

    def connect(self, connections: int, timeout: float) -> AsyncOpenAI:
        """Return openai's client for up to so many connections, which retries nothing by itself (seconds a request).

        Raises JudgeError where the key is missing.
        """
        import openai

        self.require_key()
        http = _http_client(connections, timeout)
        if self.azure:
            return openai.AsyncAzureOpenAI(azure_endpoint=self.url, timeout=timeout, max_retries=0, http_client=http)
        key = os.environ.get("OPENAI_API_KEY") or _NO_KEY
        return openai.AsyncOpenAI(base_url=self.url, api_key=key, timeout=timeout, max_retries=0, http_client=http)


def _http_client(connections: int, timeout: float) -> AsyncClient:
    """Return openai's client on aiohttp, which takes half the processor time of its default, or else the default."""
    import openai

    limits = httpx_of_openai().Limits(max_connections=connections, max_keepalive_connections=connections)
    try:
        return openai.DefaultAioHttpClient(timeout=timeout, limits=limits)
    except RuntimeError:  # aiohttp is not installed
        return openai.DefaultAsyncHttpxClient(timeout=timeout, limits=limits)


def _parts(url: str) -> SplitResult | None:
    try:
        return urlsplit(url)
    except ValueError:  # a bracket without its other one
        return None


def _has_port(parts: SplitResult) -> bool:
    """Return whether an address has a port that there can be, or none."""
    try:
        return parts.port != 0
    except ValueError:
        return False


def redacted(text: str) -> str:
    """Return `text` without any key that is set in the environment or looks like one."""
    for name in _KEY_VARIABLES:
        if value := os.environ.get(name):
            text = text.replace(value, f"<{name}>")
    return _LOOKS_LIKE_A_KEY.sub("<key>", text)

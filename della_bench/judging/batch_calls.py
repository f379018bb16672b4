"""The calls of the batch interface, each made again where a fault may pass."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Literal, TypeVar

from della_bench.errors import JudgeError
from della_bench.judging.client import Client
from della_bench.judging.faults import Retry, fault_of
from della_bench.judging.reply import StopRun

if TYPE_CHECKING:
    from openai.pagination import AsyncCursorPage
    from openai.types import Batch

__all__ = ["BatchCalls"]

_PATIENCE = 3600.0  # seconds that a single call is tried again for; a batch may take a day
_LONGEST_WAIT = 60.0
_MOST_LISTED = 1000  # recent batches that are looked through for one of ours

_NO_BATCHES = "takes no batches: run the same command without `batch`"
_GONE = (
    "it is another key's, or was deleted; take the key that it was made with, or, where its answers are lost, set "
    "`done` of this batch to true in batches.json, and they are asked for anew"
)

_T = TypeVar("_T")


class BatchCalls:
    """What is asked of a server about batches, and about the files that they are made of.

    poll: seconds between two tries. is_making: whether a batch is being made, of which the server knows nothing yet: a
    server that cannot be reached then is given up at once, for nothing is under way there. Every call raises StopRun
    where it makes no sense to try again.
    """

    def __init__(self, client: Client, poll: float, is_making: Callable[[], bool]) -> None:
        self._client, self._server, self._poll, self._is_making = client, client.server, poll, is_making
        self.endpoint: Literal["/v1/chat/completions"] = "/v1/chat/completions"
        if client.server.azure:
            self.endpoint = "/chat/completions"  # type: ignore[assignment]  # openai's types know OpenAI's paths only

    async def upload(self, requests: str) -> str:
        """Send the file of a batch's requests, and return its id."""
        file = await self._call(
            lambda: self._client.openai.files.create(file=("requests.jsonl", requests.encode()), purpose="batch"),
            missing=_NO_BATCHES,
        )
        return file.id

    async def create(self, file_id: str, tag: str) -> str | None:
        """Make a batch and return its id; None where the connection broke, so that it may or may not be there."""
        try:
            batch = await self._client.openai.batches.create(
                input_file_id=file_id,
                endpoint=self.endpoint,
                completion_window="24h",
                metadata={"della_bench": tag},
            )
        except Exception as error:
            fault = self._fault_of(error, _NO_BATCHES)
            await asyncio.sleep(min(_LONGEST_WAIT, fault.wait or self._poll))
            return None
        return batch.id

    async def find(self, tag: str) -> str | None:
        """Return the id of the recent batch that carries a tag, None where none does."""
        after: str | None = None
        for _ in range(_MOST_LISTED // 100):
            page = await self._call(partial(self._list, after), missing=_NO_BATCHES)
            for batch in page.data:
                if (batch.metadata or {}).get("della_bench") == tag:
                    return str(batch.id)
            if not page.data or not page.has_more:
                return None
            after = page.data[-1].id
        return None

    def _list(self, after: str | None) -> Awaitable[AsyncCursorPage[Batch]]:
        batches = self._client.openai.batches
        return batches.list(limit=100) if after is None else batches.list(limit=100, after=after)

    async def state(self, batch_id: str) -> Batch:
        """Return what the server says of a batch."""
        return await self._call(
            lambda: self._client.openai.batches.retrieve(batch_id), missing=f"has no batch {batch_id}: {_GONE}"
        )

    async def text(self, file_id: str) -> str:
        """Load a file of results."""
        content = await self._call(
            lambda: self._client.openai.files.content(file_id), missing=f"has no result file {file_id}: {_GONE}"
        )
        return content.content.decode("utf-8", "replace")

    async def _call(self, call: Callable[[], Awaitable[_T]], *, missing: str) -> _T:
        """Return what a call gives. missing: what it means that the server knows nothing of it (404)."""
        began = time.monotonic()
        while True:
            try:
                return await call()
            except JudgeError:
                raise
            except Exception as error:
                fault = self._fault_of(error, missing)
                if time.monotonic() - began > _PATIENCE or (fault.unreachable and self._is_making()):
                    raise StopRun(f"{self._server.display_url}: {fault.reason}") from error
                await asyncio.sleep(min(_LONGEST_WAIT, fault.wait or self._poll))

    def _fault_of(self, error: Exception, missing: str) -> Retry:
        """Return a fault that may pass. Raises StopRun for any other."""
        import openai

        if isinstance(error, openai.NotFoundError):
            raise StopRun(f"{self._server.display_url} {missing}", exit_code=2) from error
        fault = fault_of(error, self._server, {})
        if not isinstance(fault, Retry):
            raise StopRun(str(fault)) from error
        return fault

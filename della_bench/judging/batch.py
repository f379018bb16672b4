"""The batch interface of OpenAI and Azure: many requests in one file, answered within a day, at a share of the price.

A batch is written down before it is made, under a tag that travels with it, and its id as soon as it is known: a run
that is killed at any moment finds its batch again, by the id or by the tag, and pays for none twice. Results are told
apart by `custom_id` alone; they come in any order, and some may be missing.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from della_bench.errors import JudgeError
from della_bench.judging.batch_calls import BatchCalls
from della_bench.judging.batch_files import KeyedRequest, chunks, request_id, request_line, unanswered
from della_bench.judging.batch_log import BatchLog, BatchRecord
from della_bench.judging.client import Client
from della_bench.judging.cost import Hold
from della_bench.judging.json_types import ChatRequest, as_object, parse_json
from della_bench.judging.reply import OutOfBudget, Reply, StopRun, Unanswered
from della_bench.lock import folder_lock

if TYPE_CHECKING:
    from openai.types import Batch

_log = logging.getLogger("della_bench.judging")

__all__ = ["Batches"]

_ENDED = frozenset({"completed", "failed", "expired", "cancelled"})
_LONGEST_WAIT = 60.0  # seconds, for another process
_DOWNLOADS = 3  # tries to load a result file whole


class Batches:
    """The batches of one judging; `path` is where they are written down.

    share: of the full price that they cost. poll: seconds between two looks. `unanswered` has, by the answer's name,
    what the batches so far could not answer.
    """

    def __init__(self, client: Client, path: Path, *, share: float, poll: float = 30.0) -> None:
        self.unanswered: dict[str, Unanswered] = {}
        self._client, self._path, self._share, self._poll = client, path, share, poll
        self._log = BatchLog(path)
        self._calls = BatchCalls(client, poll, is_making=lambda: not self._log.batches[-1]["id"])
        self._said: set[str] = set()  # servers whose open batches were spoken of
        self._is_waiting = False
        self._holds: dict[str, Hold] = {}
        self._requests: dict[str, ChatRequest] = {}

    async def answer(self, wanted: Sequence[KeyedRequest]) -> bool:
        """Have `wanted` answered into the cache, batches of earlier runs first; returns whether anything was asked.

        Raises StopRun where a batch failed as a whole, and OutOfBudget where not all of them can be paid for: those
        that can are answered before that.
        """
        open_batches = await self._open_batches()
        await self._finish(open_batches)
        self._requests.update(wanted)
        once = dict(wanted)  # equal requests have one name: they are sent once
        asked = bool(open_batches)
        while left := [each for each in once.items() if not self._is_known(each[0]) and not self._is_refused(each[0])]:
            ours = [each for each in left if self._client.cache.claim(each[0])]
            if not ours:  # all that is left is another process's
                await self._wait_for_others([key for key, _ in left])
                asked = True
                continue
            affordable, too_much = await self._affordable(ours)
            for key, _ in ours[len(affordable) :]:
                self._client.cache.give_up(key)
            made = [await self._make(chunk) for chunk in chunks(affordable, self._calls.endpoint)]
            await self._finish(made)
            if too_much is not None:
                raise too_much
            asked = True
            done = {key for key, _ in ours}
            once = {key: request for key, request in once.items() if key not in done}
        return asked

    async def _wait_for_others(self, keys: Sequence[str]) -> None:
        """Wait a while for what another process has asked for. Raises StopRun where it is a batch of a process that
        has ended: nobody takes its answers before that command is run again.
        """
        logs = Counter(log for key in keys if (log := self._client.cache.batch_of(key)) is not None)
        for log, count in logs.items():
            with folder_lock(log.parent, wait=False) as is_free:
                if is_free and log.is_file():
                    raise StopRun(
                        f"a batch of {log.parent} has {count} of these requests, and they would be paid for twice: "
                        "take its answers first, by the same command there, with `batch`"
                    )
        if not self._is_waiting:
            _log.info("%d requests are under way in another process: waiting for their answers", len(keys))
            self._is_waiting = True
        await asyncio.sleep(min(self._poll, _LONGEST_WAIT))

    async def collect(self) -> None:
        """Take what batches of earlier runs have answered, where no new one is to be made.

        Raises StopRun where one of them is still under way: what it will answer would be paid for twice.
        """
        for batch in await self._open_batches():
            batch_id = str(batch["id"])
            state = await self._calls.state(batch_id)
            if state.status not in _ENDED:
                raise StopRun(
                    f"{self._client.server.display_url}: batch {batch_id} with {len(batch['keys'])} of these requests "
                    f"is still {state.status}, and they would be paid for twice: wait for it by `batch`, or cancel it "
                    "at the server first"
                )
            await self._finish([batch])

    async def _open_batches(self) -> list[BatchRecord]:
        """Return the batches of this server that have not ended; those of others are said and left open."""
        here = self._client.server.display_url
        others = {batch["server"] for batch in self._log.batches if not batch["done"]} - {here}
        for server in sorted(others - self._said):
            _log.warning(
                "%s: a batch is open at %s: what it answers is taken by a run that asks there", self._path, server
            )
        self._said |= others
        unended = [batch for batch in self._log.batches if not batch["done"] and batch["server"] == here]
        for batch in unended:
            await self._adopt(batch)
        return [batch for batch in unended if not batch["done"]]

    def _is_known(self, key: str) -> bool:
        return self._client.cached(key)

    def _is_refused(self, key: str) -> bool:
        known = self.unanswered.get(key)
        return known is not None and known.reason in ("refused", "rejected")

    async def _affordable(self, wanted: Sequence[KeyedRequest]) -> tuple[list[KeyedRequest], OutOfBudget | None]:
        """Set money aside for as many of `wanted` as it suffices for, in order."""
        budget = self._client.budget
        for position, (key, request) in enumerate(wanted):
            worst, left = budget.worst_case(request, self._share), budget.left()
            if left is not None and worst > left:
                message = (
                    f"`max_cost` {budget.limit}: it suffices for {position} of {len(wanted)} requests; what is judged "
                    "is kept, and the same command with a higher limit goes on there"
                )
                return list(wanted[:position]), OutOfBudget(message)
            self._holds[key] = await budget.hold(request, self._share)
        return list(wanted), None

    async def _make(self, chunk: Sequence[KeyedRequest]) -> BatchRecord:
        """Upload the requests and make their batch; both its tag and its id are on the disk before anything follows."""
        batch: BatchRecord = {
            "tag": uuid.uuid4().hex,
            "id": None,
            "server": self._client.server.display_url,
            "keys": [key for key, _ in chunk],
            "share": self._share,
            "made": time.time(),
            "done": False,
            "tried": False,
        }
        self._log.batches.append(batch)
        self._log.write()
        self._client.cache.hand_over(batch["keys"], self._path)
        text = "".join(request_line(key, request, self._calls.endpoint) for key, request in chunk)
        try:
            file_id = await self._calls.upload(text)
        except JudgeError:
            self._forget(batch)
            raise
        # A connection that breaks while the batch is made leaves open whether it was. Its tag tells: before it is made
        # once more, the server's recent batches are searched for one that carries it.
        while batch["id"] is None:
            known = await self._calls.find(batch["tag"]) if batch.get("tried") else None
            batch["tried"] = True
            self._log.write()
            batch["id"] = known or await self._calls.create(file_id, batch["tag"])
        self._log.write()
        return batch

    async def _adopt(self, batch: BatchRecord) -> None:
        """Find the id of a batch that a killed run had begun to make; one that never came about is forgotten."""
        if batch["id"] is None and batch.get("tried", True):  # earlier releases did not write it down
            batch["id"] = await self._calls.find(batch["tag"])
        if batch["id"] is None:
            self._forget(batch)
        self._log.write()

    def _forget(self, batch: BatchRecord) -> None:
        """Write down that a batch never came about, and let its requests be asked otherwise."""
        batch["done"] = True
        self._log.write()
        self._client.cache.end_batch(batch["keys"], self._path)

    async def _finish(self, batches: Sequence[BatchRecord]) -> None:
        """Wait until all have ended, and take their results as they come."""
        faults = [fault for fault in await asyncio.gather(*map(self._wait_for, batches)) if fault]
        if faults:
            raise StopRun("\n".join(faults))

    async def _wait_for(self, batch: BatchRecord) -> str | None:
        batch_id = str(batch["id"])
        while (state := await self._calls.state(batch_id)).status not in _ENDED:
            await asyncio.sleep(self._poll)
        for file_id in (state.output_file_id, state.error_file_id):
            if file_id:  # some servers send an empty one
                await self._fetch_results(batch, file_id)
        for key in batch["keys"]:
            if (hold := self._holds.pop(key, None)) is not None:
                hold.release()  # no answer, no charge
            if not self._is_known(key):
                reason = f"batch {batch_id} {state.status} without it"
                self.unanswered.setdefault(key, Unanswered("failed", reason, f"batch {state.status}"))
        batch["done"], batch["status"] = True, state.status
        self._log.write()
        self._client.cache.end_batch(batch["keys"], self._path)
        return _fault(batch_id, state)

    async def _fetch_results(self, batch: BatchRecord, file_id: str) -> None:
        """Load a result file and take its answers; again where it came torn: what is not taken is paid for twice."""
        for _ in range(_DOWNLOADS):
            if self._take(batch, await self._calls.text(file_id)):
                return
            await asyncio.sleep(self._poll)
        _log.warning(
            "batch %s: its result file %s has lines that are no JSON; they count as unanswered", batch["id"], file_id
        )

    def _take(self, batch: BatchRecord, text: str) -> bool:
        """Put a result file's answers into the cache, and note its errors; returns whether every line could be read."""
        whole = True
        keys = {request_id(key): key for key in batch["keys"]}
        for line in text.split("\n"):
            try:
                row = as_object(parse_json(line)) if line.strip() else None
            except ValueError:
                whole = False
                continue
            key = keys.get(str(row.get("custom_id"))) if row else None
            if key is None or row is None:
                continue
            response = as_object(row.get("response"))
            body = response.get("body")
            if response.get("status_code") == 200 and isinstance(body, dict) and isinstance(body.get("choices"), list):
                reply = Reply(key, body, latency=0.0, at=time.time(), price_share=batch["share"])
                self._client.keep(self._requests.get(key, {}), reply, self._holds.pop(key, None))
                self.unanswered.pop(key, None)
            else:
                self.unanswered[key] = unanswered(row)
        return whole


def _fault(batch_id: str, state: Batch) -> str | None:
    """Return why a batch ended the run, None where it did not."""
    if state.status == "failed":
        errors = state.errors.data if state.errors is not None and state.errors.data else []
        return f"batch {batch_id} failed: " + ("; ".join(str(each.message) for each in errors) or "no reason given")
    if state.status == "cancelled":
        return f"batch {batch_id} was cancelled; what it had answered is kept: run the same command to have the rest"
    return None

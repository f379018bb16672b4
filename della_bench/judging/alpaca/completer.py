"""What alpaca_eval wants completed, asked through our own client: cached, priced, retried, and written down."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path

from della_bench.asynchronous import run
from della_bench.errors import JudgeError
from della_bench.jsonfiles import RowLog, read_rows
from della_bench.judging.batch import Batches
from della_bench.judging.client import Client
from della_bench.judging.cost import Price
from della_bench.judging.json_types import ChatRequest, Completion
from della_bench.judging.policy import Tally
from della_bench.judging.reply import Reply, Unanswered
from della_bench.judging.settings import JudgeSettings

_log = logging.getLogger("della_bench.judging")

__all__ = ["Completer", "Progress"]

Progress = Callable[[int, int, Tally], None]  # (requests settled, of how many, what was done so far)


class Completer:
    """Answers rounds of requests; a context manager that holds the cache and the log of judgements open.

    `tally` counts what this run did, over all rounds; `replies` holds every reply by its name in the
    cache, `failures` counts why requests had none. `attempts`
    is how often one request is asked for, `folder` where its judgements are written down.
    """

    def __init__(
        self,
        settings: JudgeSettings,
        price: Price | None,
        folder: Path,
        attempts: int,
        progress: Progress | None = None,
    ) -> None:
        self.tally = Tally(cost=Decimal(0) if price else None)
        self.replies: dict[str, Reply] = {}
        self.failures: Counter[str] = Counter()
        self._settings, self._folder, self._attempts, self._progress = settings, folder, attempts, progress
        self._share = 1.0 if price is None else float(price.batch)
        self._budget = settings.budget(price)
        self._asked: Counter[str] = Counter()  # by the first attempt's name: how often it was asked for in this run
        self._settled = self._total = 0
        self._cache = settings.open_cache()
        self._path = folder / "judgements.jsonl"
        try:
            self._log = RowLog(self._path)
            self._logged = {str(row.get("key")) for _, row in read_rows(self._path)}
        except OSError as error:
            self._cache.close()
            raise self._unwritable(error) from error

    def __enter__(self) -> Completer:  # noqa: D105
        return self

    def __exit__(self, *_: object) -> None:  # noqa: D105
        self._log.close()
        self._cache.close()

    def __call__(self, requests: Sequence[ChatRequest], attempt: int) -> list[Completion | None]:
        """Return the completions of one round, in order; None for one that is not to be asked for again.

        It was refused or failed for good, or, where unscored ones are retried, it was asked for often enough; then the
        refusal of an earlier run is a completion that says nothing, and is asked for again. Raises JudgeError where no
        request can succeed any more, after those under way have ended.
        """
        self._total += len(requests)
        return run(self._round(requests, attempt))

    async def _round(self, requests: Sequence[ChatRequest], attempt: int) -> list[Completion | None]:
        before = self.tally
        settings = self._settings
        client = Client(settings.server, self._cache, self._budget, settings.limits, settings.retry_policy)

        async def one(request: ChatRequest) -> Completion | None:
            try:
                return await self._one(client, request, attempt, batches)
            finally:
                self._settled += 1
                self.tally = _sum(before, client.tally)
                if self._progress is not None:
                    self._progress(self._settled, self._total, self.tally)

        async with client:
            made = Batches(client, self._folder / "batches.json", share=self._share)
            batches = made if settings.batch else None
            if batches is None:
                await made.collect()
            else:
                fresh = [each for each in requests if self._may_ask(client, each, attempt)]
                await batches.answer([(client.key(each, attempt=attempt), dict(each)) for each in fresh])
            # What is under way is paid for: it ends, and is kept, before an error is raised.
            ended = await asyncio.gather(*map(one, requests), return_exceptions=True)
        completions: list[Completion | None] = []
        for each in ended:
            if isinstance(each, BaseException):
                raise each
            completions.append(each)
        return completions

    async def _one(
        self, client: Client, request: ChatRequest, attempt: int, batches: Batches | None
    ) -> Completion | None:
        if not self._may_ask(client, request, attempt):
            return None
        key = client.key(request, attempt=attempt)
        known = client.find(request, attempt=attempt)
        if known is None:
            self._asked[client.key(request)] += 1
        try:
            if known is None and batches is not None:
                raise batches.unanswered.get(key) or Unanswered("failed", "the batches gave no answer")
            reply = await client.ask(request, attempt=attempt)
        except Unanswered as error:
            self._note(client, {"key": key, "attempt": attempt, "reason": error.reason, "error": str(error)})
            self.failures[error.kind or error.reason] += 1
            return None
        except JudgeError:
            raise
        except Exception as error:  # whatever it is, it is this comparison's alone
            said = f"{type(error).__name__}: {error}"
            _log.warning("a comparison is unscored: %s", said)
            self._note(client, {"key": key, "attempt": attempt, "reason": "error", "error": said})
            self.failures[type(error).__name__] += 1
            return None
        self.replies[key] = reply
        if key not in self._logged:
            self._logged.add(key)
            self._note(client, _row(reply, request, attempt))
        if not reply.refused:
            return reply.body
        return {**reply.body, "choices": []} if known is not None and self._settings.retry_unscored else None

    def _may_ask(self, client: Client, request: ChatRequest, attempt: int) -> bool:
        """Return whether the answer is known, or there are tries left to get it.

        An earlier run's tries count, unless unscored ones are to be tried again.
        """
        if client.find(request, attempt=attempt) is not None:
            return True
        tries = self._asked[client.key(request)] if self._settings.retry_unscored else attempt
        return tries < self._attempts

    def _note(self, client: Client, row: Mapping[str, object]) -> None:
        try:
            self._log.append(row)
        except OSError as error:
            failed = self._unwritable(error)
            client.stop(failed)
            raise failed from error

    def _unwritable(self, error: OSError) -> JudgeError:
        return JudgeError(
            f"{self._path}: cannot be written ({error.strerror or error}); what was answered is kept in the cache: "
            "mend this and run the same command again"
        )


def _row(reply: Reply, request: ChatRequest, attempt: int) -> Mapping[str, object]:
    return {"asked_model": request["model"], "attempt": attempt, **reply.as_row()}


def _sum(first: Tally, second: Tally) -> Tally:
    return Tally(
        requests=first.requests + second.requests,
        answered=first.answered + second.answered,
        cached=first.cached + second.cached,
        prompt_tokens=first.prompt_tokens + second.prompt_tokens,
        completion_tokens=first.completion_tokens + second.completion_tokens,
        cost=None if first.cost is None or second.cost is None else first.cost + second.cost,
        lost=max(first.lost, second.lost),  # the budget counts it over all rounds
    )

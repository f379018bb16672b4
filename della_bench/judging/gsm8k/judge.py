"""Judging the GSM8K answers of a file, from the samples to the score."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from della_bench.asynchronous import run
from della_bench.errors import JudgeError
from della_bench.judging.batch import Batches
from della_bench.judging.client import Client
from della_bench.judging.cost import Price
from della_bench.judging.gsm8k.asking import attempts_left, load_judge_as_set
from della_bench.judging.gsm8k.by_number import EXACT, judge_by_number
from della_bench.judging.gsm8k.config import Judge
from della_bench.judging.gsm8k.read import Answer, Answers, read_answers
from della_bench.judging.gsm8k.report import make_score
from della_bench.judging.gsm8k.rows import GSM8KItem, judged_row
from della_bench.judging.gsm8k.store import BENCHMARK, JudgementFacts, Store, judge_folder, made_from
from della_bench.judging.gsm8k.votes import Ask, Outcome, Question, Tries, judge_answer, questions
from della_bench.judging.policy import Tally
from della_bench.judging.reply import Reply, Unanswered
from della_bench.judging.settings import JudgeSettings
from della_bench.lock import folder_lock
from della_bench.results.places import place_score
from della_bench.results.schema import Score, Scorer, write_score

__all__ = ["Progress", "judge_gsm8k"]

Progress = Callable[[int, int, Tally], None]  # (answers settled, of how many, what was done so far)

_ERRORS_THAT_STOP = 20  # answers in a row that an exception of our own kept from being judged

_log = logging.getLogger("della_bench.judging")


def judge_gsm8k(
    samples: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    judge: str | Path = EXACT,
    *,
    settings: JudgeSettings | None = None,
    votes: int = 1,
    limit: int | None = None,
    wanted_filter: str | None = None,
    progress: Progress | None = None,
    price: Price | None = None,
    owner: str | None = None,
    replace: bool = False,
) -> Score:
    """Judge the answers in `samples`, write score, items, judgements and labelled.csv below `out`, return the score.

    out: a folder, the samples' own by default. judge: a name or a folder; `exact` asks no model. settings: how one is
    asked, by default OpenAI with the key in the environment. votes: on each answer. price: of
    the model, by default what its judge or the table of known prices says. owner: fingerprint of the one model
    that `out` is for; else another input's score keeps its name and this one gets its own, unless `replace`.
    Run again after any end, it goes on where it was. Raises DataError where the samples are no answers to GSM8K, and
    JudgeError where the judge cannot be asked; what is judged by then is kept.
    """
    samples = Path(samples)
    out = samples.parent if out is None else Path(out)
    settings = JudgeSettings() if settings is None else settings
    answers = read_answers(samples, wanted_filter=wanted_filter, limit=limit)
    if answers.remark and limit is None:
        _log.warning("%s", answers.remark)
    if judge == EXACT:
        return judge_by_number(answers, out, model=owner, replace=replace)
    asked = load_judge_as_set(judge, settings, price)
    if warning := asked.ended(datetime.date.today()):
        _log.warning("%s", warning)
    if not settings.cache_path.is_file():
        settings.server.require_key()  # before any file is made; what is cached needs no key
    name = place_score(out, BENCHMARK, asked.name, samples, model=owner, replace=replace)
    work = _Judging(answers, out, name, asked, settings, votes, progress)
    with _locked(work.folder), settings.open_cache() as cache:
        return run(work.run(settings.client(cache, asked.price)))


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the judge's folder, so that no two processes write the same files. Raises JudgeError."""
    with folder_lock(folder, wait=False) as held:
        if not held:
            raise JudgeError(f"{folder}: another process is judging into it; wait for it, or take another `out`")
        yield


class _Judging:
    """One judging by a model."""

    def __init__(
        self,
        answers: Answers,
        out: Path,
        name: str,
        judge: Judge,
        settings: JudgeSettings,
        votes: int,
        progress: Progress | None,
    ) -> None:
        """`name` stands for the judge in the paths of what is written."""
        self._answers, self._out, self._name, self._judge, self._settings = answers, out, name, judge, settings
        self._votes, self._progress = votes, progress
        self._failed_before: set[int] = set()
        self._errors_in_a_row = 0
        self._last_step: asyncio.Future[None] | None = None
        self.folder = judge_folder(out, name)

    async def run(self, client: Client) -> Score:
        """Judge all that is not settled, and write the score."""
        with Store(self._out, self._name) as store:
            rows = self._settled(store)
            open_answers = [answer for answer in self._answers.answers if answer.doc_id not in rows]
            async with client:
                ask = self._asker(client, store)
                if self._settings.batch and open_answers:
                    ask = await self._by_batch(client, store, open_answers)
                elif open_answers:
                    await self._batches(client).collect()
                self._show(rows, client)
                left = iter(open_answers)

                async def worker() -> None:
                    for answer in left:
                        await self._judge_one(client, store, ask, answer, rows)

                workers = [worker() for _ in range(min(len(open_answers), self._settings.limits.concurrency))]
                ended = await asyncio.gather(*workers, return_exceptions=True)  # what is under way is paid for: it ends
                if self._last_step is not None:
                    await self._last_step
            for error in ended:
                if error is not None:
                    raise error
            return self._finish(store, rows)

    def _settled(self, store: Store) -> dict[int, GSM8KItem]:
        """Return the rows of earlier runs that still hold, by document."""
        settled = store.settled() if self._settings.resume else {}
        self._failed_before = {doc_id for doc_id, row in settled.items() if row.get("reason") == "failed"}
        return {
            answer.doc_id: settled[answer.doc_id]
            for answer in self._answers.answers
            if answer.doc_id in settled and self._holds(settled[answer.doc_id], answer)
        }

    def _holds(self, row: GSM8KItem, answer: Answer) -> bool:
        if row.get("made_from") != self._made_from(answer):
            return False
        return row["value"] is not None or not (
            self._settings.retry_unscored or row.get("reason") in ("failed", "error")
        )

    def _made_from(self, answer: Answer) -> str:
        return made_from(self._judge.name, self._judge.version, self._settings.server.url, self._votes, answer)

    def _asker(self, client: Client, store: Store) -> Ask:
        async def ask(question: Question, attempt: int) -> Reply:
            reply = await client.ask(
                question.request,
                vote=question.vote,
                attempt=attempt,
                failed_before=question.answer.doc_id in self._failed_before,
            )
            self._note(store, question, attempt, reply)
            return reply

        return ask

    def _note(self, store: Store, question: Question, attempt: int, reply: Reply) -> None:
        facts: JudgementFacts = {
            "judge": self._judge.name,
            "version": self._judge.version,
            "doc_id": question.answer.doc_id,
            "vote": question.vote,
            "swapped": question.swapped,
            "attempt": attempt,
            "asked_model": self._judge.config.model,
        }
        store.add_judgement(reply, facts)

    async def _by_batch(self, client: Client, store: Store, answers: Sequence[Answer]) -> Ask:
        """Have all open votes answered by batches, as many as tries are left, and return who knows the answers."""
        asked = [each for answer in answers for each in questions(self._judge, answer, self._votes)]
        batches = self._batches(client)
        for _ in range(self._judge.config.attempts):
            wanted = []
            for each in asked:
                known, more = attempts_left(self._judge, client, each, self._settings)
                if more:
                    wanted.append((client.key(each.request, vote=each.vote, attempt=known), each.request))
            if not await batches.answer(wanted):
                break

        async def ask(question: Question, attempt: int) -> Reply:
            reply = client.find(question.request, vote=question.vote, attempt=attempt)
            if reply is None:
                key = client.key(question.request, vote=question.vote, attempt=attempt)
                raise batches.unanswered.get(key) or Unanswered("failed", "the batches gave no answer")
            self._note(store, question, attempt, reply)
            return reply

        return ask

    def _batches(self, client: Client) -> Batches:
        price = self._judge.price
        return Batches(client, self.folder / "batches.json", share=1.0 if price is None else float(price.batch))

    async def _judge_one(
        self, client: Client, store: Store, ask: Ask, answer: Answer, rows: dict[int, GSM8KItem]
    ) -> None:
        # A batch has made all the attempts that are to be made; what it still owes has failed.
        settings = replace(self._settings, retry_unscored=False) if self._settings.batch else self._settings

        def tries(question: Question) -> tuple[int, int]:
            return attempts_left(self._judge, client, question, settings)

        try:
            outcome = await self._outcome(answer, ask, tries)
            row = judged_row(answer, outcome, self._judge.price, self._made_from(answer))
            store.add_item(row)
        except JudgeError as error:  # the server, the budget, the disk: it stops all the others, too
            client.stop(error)
            raise
        rows[answer.doc_id] = row
        self._show(rows, client)
        if self._last_step is None and len(self._answers.answers) - len(rows) <= settings.limits.concurrency:
            # The last requests are under way: nobody waits for the processor.
            self._last_step = asyncio.get_running_loop().run_in_executor(None, self._prepare_last_step)

    def _prepare_last_step(self) -> None:
        """Import what the score needs (half a second of the processor), and compute what the table needs."""
        import scipy.stats  # noqa: F401

        for answer in self._answers.answers:
            answer.metrics  # noqa: B018  (kept by the answer)

    async def _outcome(self, answer: Answer, ask: Ask, tries: Tries) -> Outcome:
        """Judge one answer. An exception that is no JudgeError is this answer's alone: the others are judged.

        Raises JudgeError, also where so many answers in a row fail in this way that it is not the answers' fault.
        """
        try:
            outcome = await judge_answer(self._judge, questions(self._judge, answer, self._votes), ask, tries)
        except JudgeError:
            raise
        except Exception as error:
            said = f"{type(error).__name__}: {error}"
            _log.warning("doc_id %d is unscored: %s", answer.doc_id, said)
            _log.debug("doc_id %d", answer.doc_id, exc_info=error)
            self._errors_in_a_row += 1
            if self._errors_in_a_row >= _ERRORS_THAT_STOP:
                message = (
                    f"{_ERRORS_THAT_STOP} answers in a row could not be judged, the last one for {said}; what the "
                    "server has answered is kept, and costs nothing when this is mended"
                )
                raise JudgeError(message) from error
            return Outcome(None, "error", said, [], type(error).__name__)
        self._errors_in_a_row = 0
        return outcome

    def _show(self, rows: dict[int, GSM8KItem], client: Client) -> None:
        if self._progress is not None:
            self._progress(len(rows), len(self._answers.answers), client.tally)

    def _finish(self, store: Store, by_document: dict[int, GSM8KItem]) -> Score:
        rows = [by_document[answer.doc_id] for answer in self._answers.answers]
        store.finish(self._answers.answers, rows)
        models = sorted({row["model"] for row in rows if row["model"]})
        judge = self._judge
        scorer = Scorer(name=judge.name, version=judge.version, model=", ".join(models) or judge.config.model)
        facts = {
            "judge": {
                "model": judge.config.model,
                "parameters": judge.config.parameters,
                "ends": None if judge.config.ends is None else judge.config.ends.isoformat(),
                "server": self._settings.server.display_url,
            },
            "votes": self._votes,
            "place": self._name,
        }
        score = make_score(self._answers, rows, scorer, judge.price, facts)
        write_score(self._out, score, self._name)
        return score

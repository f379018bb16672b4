"""One answer before the judge: its votes, each asked until its reply can be read, and what they come to."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal

from della_bench.judging.cost import Price
from della_bench.judging.gsm8k.config import Judge
from della_bench.judging.gsm8k.read import Answer
from della_bench.judging.gsm8k.verdict import majority, read_json_verdict, read_tag, unreadable_because
from della_bench.judging.json_types import ChatRequest
from della_bench.judging.reply import Reply, Unanswered
from della_bench.thoughts import behind_thought

__all__ = ["Ask", "Outcome", "Question", "Tries", "Vote", "count_attempts", "judge_answer", "questions", "read_reply"]

# (question, attempt) -> the reply; raises Unanswered and StopRun
Ask = Callable[["Question", int], Awaitable[Reply]]
# question -> (how many attempts have a reply already, how many more may be made)
Tries = Callable[["Question"], tuple[int, int]]


@dataclass(frozen=True)
class Question:
    """One vote that is asked for: the request, its number among like requests, and whether its labels are swapped."""

    answer: Answer
    request: ChatRequest
    vote: int
    swapped: bool


@dataclass
class Vote:
    """What came of one vote.

    `correct` is None where there is no verdict; `reason` then says why in a word, `kind` in a few, the same for all to
    which the same thing happened.
    """

    correct: bool | None = None
    reason: str = ""
    explanation: str = ""
    kind: str = ""
    replies: list[Reply] = field(default_factory=list)


@dataclass(frozen=True)
class Outcome:
    """What came of one answer; `value` is 1.0, 0.0 or None (unscored, for `reason` and `kind`, as a vote's)."""

    value: float | None
    reason: str
    explanation: str
    votes: list[Vote]
    kind: str = ""

    @property
    def replies(self) -> Iterator[Reply]:
        """All replies that it took."""
        return (reply for vote in self.votes for reply in vote.replies)

    def cost(self, price: Price | None) -> Decimal | None:
        """Return what its replies have cost, whenever they were asked for."""
        if price is None:
            return None
        costs = [price.of(each.prompt_tokens, each.completion_tokens, each.price_share) for each in self.replies]
        return sum(costs, Decimal(0))


def questions(judge: Judge, answer: Answer, votes: int) -> list[Question]:
    """Return the votes on one answer; in every other one the labels have changed places."""
    texts = (answer.question, answer.target, answer.response)
    kinds = [judge.request(*texts, swapped=swapped) for swapped in (False, True)[:votes]]
    return [Question(answer, kinds[vote % 2], vote, bool(vote % 2)) for vote in range(votes)]


def read_reply(judge: Judge, question: Question, reply: Reply) -> Vote:
    """Return the vote that a reply is; one without a verdict says why."""
    if reply.refused:
        return Vote(None, "refused", unreadable_because(reply) or "", "refused by the model", [reply])
    if why := unreadable_because(reply):
        return Vote(None, "unreadable", why, why, [reply])
    said = behind_thought(reply.text)
    if judge.config.verdict.read == "json_schema":
        label, explanation = read_json_verdict(said, judge.labels)
    else:
        label, explanation = read_tag(said, judge.labels), reply.text
    if label is None:
        why = f"no verdict in the judge's reply: {reply.text}"
        return Vote(None, "unreadable", why, "no verdict in the reply", [reply])
    return Vote(correct=(label == judge.labels[0]) is not question.swapped, explanation=explanation, replies=[reply])


async def judge_answer(judge: Judge, asked: list[Question], ask: Ask, tries: Tries) -> Outcome:
    """Have all votes on one answer cast, and return what they come to. Raises StopRun."""
    cast = (_cast(judge, each, ask, *tries(each)) for each in asked)
    votes: list[Vote] = []
    for vote in await asyncio.gather(*cast, return_exceptions=True):  # all end: what is under way is paid for
        if isinstance(vote, BaseException):
            raise vote
        votes.append(vote)
    return outcome_of(votes)


def count_attempts(
    judge: Judge, question: Question, find: Callable[[Question, int], Reply | None], *, retry: bool
) -> tuple[int, int]:
    """Return how many attempts at a vote have a reply already, and how many more may be made: 0 where it is settled.

    find: the reply to an attempt that is known already. retry: go beyond the judge's number of attempts, and ask again
    after a refusal.
    """
    known, settled = 0, False
    while not settled and (reply := find(question, known)) is not None:
        known += 1
        vote = read_reply(judge, question, reply)
        settled = vote.correct is not None or (vote.reason == "refused" and not retry)
    if settled:
        return known, 0
    return known, judge.config.attempts if retry else max(0, judge.config.attempts - known)


def outcome_of(votes: list[Vote]) -> Outcome:
    """Return what the votes come to: the side that more than half of them take, else unscored."""
    verdict = majority([vote.correct for vote in votes])
    if verdict is not None:
        said = next(vote.explanation for vote in votes if vote.correct is verdict)
        return Outcome(float(verdict), "", said, votes)
    broken = [vote for vote in votes if vote.correct is None]
    if not broken:
        return Outcome(None, "tie", f"{len(votes)} votes, and neither side has more than half", votes, "tie")
    return Outcome(None, broken[0].reason, broken[0].explanation, votes, broken[0].kind)


async def _cast(judge: Judge, question: Question, ask: Ask, known: int, new: int) -> Vote:
    replies: list[Reply] = []
    vote = Vote(reason="unreadable")
    for attempt in range(known + new):
        try:
            reply = await ask(question, attempt)
        except Unanswered as error:
            vote = Vote(None, error.reason, str(error), error.kind)
            break
        replies.append(reply)
        vote = read_reply(judge, question, reply)
        if vote.correct is not None or (vote.reason == "refused" and attempt >= known):
            break  # past a refusal only where the next attempt was made before, or is asked for
    vote.replies = replies
    return vote

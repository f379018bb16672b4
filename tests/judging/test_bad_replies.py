"""Bad replies, one kind at a time and all together: no run ends by them, and what is paid for is paid for once."""

from __future__ import annotations

import json
import os
import sqlite3
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from della_bench.judging.gsm8k.judge import judge_gsm8k
from della_bench.judging.limiter import Limits
from della_bench.judging.policy import RetryPolicy
from della_bench.judging.server import Server
from della_bench.judging.settings import JudgeSettings
from della_bench.results.schema import Score, items_path, read_items

from . import bad_replies, stub
from .problems import verdict_of, write_plain

# 429 uses up no tries: what is always answered by it ends by the seconds, all else by the tries.
QUICK = RetryPolicy(tries=4, seconds=0.5, first=0.001, longest=0.002, unreachable_tries=10**6)


def judged(tmp_path: Path, url: str, samples: Path, **more: Any) -> Score:
    settings = JudgeSettings(
        server=Server(url), cache=tmp_path / "cache", **{"retry_policy": QUICK, "limits": Limits(4), **more}
    )
    return judge_gsm8k(samples, tmp_path / "out", "gsm8k_gpt4", settings=settings)


def items(tmp_path: Path) -> list[Any]:
    return list(read_items(items_path(tmp_path / "out", "gsm8k", "gsm8k_gpt4")))


def kept(tmp_path: Path) -> int:
    with sqlite3.connect(tmp_path / "cache") as db:
        (rows,) = db.execute("SELECT count(*) FROM replies").fetchone()
    return int(rows)


@dataclass(frozen=True)
class TwoRuns:
    """What came of two runs: scores, how often each kind was sent in each, and the item of each kind."""

    folder: Path
    scores: list[Score]
    sent: list[Counter[str]]
    rows: dict[str, Any]


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory: pytest.TempPathFactory) -> TwoRuns:
    """Judge an answer for each kind, to which the server always sends just that, and one more between every two."""
    tmp_path = tmp_path_factory.mktemp("bad")
    names = list(bad_replies.KINDS)
    counts: list[Counter[str]] = []

    def chat(request: dict[str, Any], _: int) -> Any:
        number = int(request["messages"][1]["content"].partition("What is ")[2].partition(" ")[0])
        name = names[number // 2] if number % 2 else "good"
        counts[-1][name] += 1
        good = stub.completion(verdict_of(request))
        return (200, good) if name == "good" else bad_replies.KINDS[name](good)

    samples = write_plain(tmp_path / "plain.jsonl", 2 * len(names))
    with stub.serving(chat) as server:
        scores = []
        for _ in range(2):
            counts.append(Counter())
            scores.append(judged(tmp_path, server.url, samples))
    rows = {name: items(tmp_path)[2 * place + 1] for place, name in enumerate(names)}
    return TwoRuns(tmp_path, scores, counts, rows)


def test_bad_replies_end_no_run_and_leave_every_item_judged_or_unscored(two_runs: TwoRuns) -> None:
    n = 2 * len(bad_replies.KINDS)
    for score in two_runs.scores:
        assert score["n"] + score["unscored"] == n
        assert sum(score["detail"]["unscored_kinds"].values()) == score["unscored"]
    assert [row["value"] for row in items(two_runs.folder)[::2]] == [float(i % 3 != 0) for i in range(0, n, 2)]


def test_the_requests_that_the_server_answered_are_the_rows_of_the_cache(two_runs: TwoRuns) -> None:
    sent = sum(two_runs.sent, Counter())
    paid = sum(number for name, number in sent.items() if name == "good" or name in bad_replies.PAID)
    assert kept(two_runs.folder) == paid


def test_all_that_was_written_can_be_read(two_runs: TwoRuns) -> None:
    for path in (two_runs.folder / "out").rglob("*"):
        if path.is_file():
            text = path.read_text(encoding="utf-8")
            for line in text.splitlines() if path.suffix == ".jsonl" else []:
                json.loads(line, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))


@pytest.mark.parametrize("name", bad_replies.KINDS)
def test_a_bad_reply_is_judged_or_unscored_with_its_reason_and_paid_for_once(two_runs: TwoRuns, name: str) -> None:
    row = two_runs.rows[name]
    first, second = (counts[name] for counts in two_runs.sent)
    if row["value"] is None:
        assert row["reason"] in ("unreadable", "refused", "rejected", "failed")
        assert row["explanation"]
        assert row["kind"]
    assert first > 0
    assert (second > 0) == (row["reason"] == "failed")
    if name in bad_replies.PAID:
        assert row["reason"] != "failed"


def test_half_a_surrogate_pair_in_an_answer_can_be_judged_and_written(tmp_path: Path) -> None:
    samples = write_plain(tmp_path / "plain.jsonl", 3)
    samples.write_text(samples.read_text().replace("What is 1 plus 1?", "What is 1 plus \\ud83d1?"))
    with stub.serving(lambda request, _: verdict_of(request)) as server:
        assert judged(tmp_path, server.url, samples)["n"] == 3
        assert judged(tmp_path, server.url, samples)["n"] == 3
    assert len(server.requests) == 3


@pytest.mark.real_data
@pytest.mark.exhaustive
def test_fifty_kinds_of_bad_replies_at_two_percent_each_leave_every_item_judged_or_unscored(tmp_path: Path) -> None:
    path = Path(os.environ["DELLA_BENCH_DATA"]) / "gsm8k_test.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert len(rows) == 1319
    right = {row["question"]: number % 4 != 0 for number, row in enumerate(rows)}
    lines = [{"question": r["question"], "target": r["answer"], "response": r["answer"]} for r in rows]
    samples = tmp_path / "samples.jsonl"
    samples.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")

    def words(request: dict[str, Any]) -> str:
        text = request["messages"][1]["content"]
        (correct,) = {right[question] for question in right if question in text}
        return "[[A]]" if correct else "[[B]]"

    kinds = dict(list(bad_replies.PAID.items())[:20] + list(bad_replies.UNPAID.items())[:28])
    assert len(kinds) >= 30
    faults = bad_replies.FaultServer(words, kinds, 0.02)
    with stub.serving(faults) as server:
        policy = RetryPolicy(tries=8, first=0.001, longest=0.01, unreachable_tries=10**6)
        first = judged(tmp_path, server.url, samples, retry_policy=policy, limits=Limits(32))
        sent = sum(faults.sent.values())
        assert kinds.keys() | {"good"} == faults.sent.keys()
        assert first["n"] + first["unscored"] == 1319
        assert sum(first["detail"]["unscored_kinds"].values()) == first["unscored"]
        for number, row in enumerate(items(tmp_path)):
            assert row["value"] == float(number % 4 != 0) or row["kind"]
        assert kept(tmp_path) == faults.paid
        failed = first["detail"]["unscored"].get("failed", 0)
        judged(tmp_path, server.url, samples, retry_policy=policy, limits=Limits(32))
        assert kept(tmp_path) == faults.paid
        assert sum(faults.sent.values()) - sent <= 40 * failed  # the second run asks for nothing else
    print(f"{sent} requests, {faults.paid} paid, {first['n']} judged, {first['detail']['unscored_kinds']}")

"""A judge that is killed again and again pays for what it keeps and what was under way, and touches no other score."""

from __future__ import annotations

import random
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from della_bench.judging import batch
from della_bench.results.schema import items_path, read_items, read_score, score_path
from tests.killing import KILLS, Killer, contents

from . import stub
from .batch_stub import BatchServer
from .problems import plain_rows, verdict_of, write_plain, write_rows

pytestmark = pytest.mark.exhaustive

N, CONCURRENCY = 60, 4
JUDGE = ("gsm8k", "gsm8k_gpt4")


def look_often() -> None:
    """Look for the end of a batch a hundred times a second."""
    real = batch.Batches.__init__
    batch.Batches.__init__ = lambda *a, **k: real(*a, **{**k, "poll": 0.01})  # type: ignore[method-assign]


def kept(cache: Path) -> int:
    with sqlite3.connect(cache) as db:
        (rows,) = db.execute("SELECT count(*) FROM replies").fetchone()
    return int(rows)


class Judging:
    """One model's answers beside another's, which are judged already and never change."""

    def __init__(self, folder: Path, url: str, *options: str) -> None:
        self.folder, self.url, self.options = folder, url, options
        self.samples = write_plain(folder / "ours.jsonl", N)
        self.other = write_rows(folder / "theirs.jsonl", plain_rows(N + 7)[N:])

    def killer(self, samples: Path, out: Path, cache: Path) -> Killer:
        places: list[str | Path] = [samples, "--base-url", self.url, "--out", out, "--cache", cache]
        arguments = ["judge", "gsm8k", *places, *self.options]
        return Killer(arguments, self.folder / "told.txt", look_often)

    def killed(self, kills: int) -> Iterator[tuple[Path, Path, int]]:
        """Yield (out, cache, kills) of each judging that has ended in spite of them."""
        whole = self.killer(self.samples, self.folder / "whole", self.folder / "whole.sqlite")
        whole.finish()
        score = read_score(score_path(self.folder / "whole", *JUDGE))
        assert (score["n"], score["detail"]["correct"]) == (N, 2 * N // 3)
        moments, done, rounds = random.Random(), 0, 0
        while done < kills:
            rounds += 1
            out, cache = self.folder / f"out {rounds}", self.folder / f"cache {rounds}.sqlite"
            self.killer(self.other, out, cache).finish()
            before = contents(out)
            killer = self.killer(self.samples, out, cache)
            killer.horizon = whole.horizon
            while done + killer.kills < kills and killer.kill(moments):
                pass
            killer.finish()
            done += killer.kills
            after = contents(out)
            assert {name: after.get(name) for name in before} == before
            (ours,) = [path for path in (out / "scores").glob("gsm8k.gsm8k_gpt4.*.json") if "items" not in path.name]
            found = read_score(ours)
            assert {**found, "detail": {}} == {**score, "detail": {}}
            rows = list(read_items(items_path(out, "gsm8k", ours.stem.removeprefix("gsm8k."))))
            assert [(row["doc_id"], row["value"]) for row in rows] == [
                (row["doc_id"], row["value"]) for row in read_items(items_path(self.folder / "whole", *JUDGE))
            ]
            yield out, cache, killer.kills
        print(f"{done} kills, {rounds} rounds, undisturbed {whole.horizon:.1f} s", flush=True)


def test_killed_while_it_asks_it_pays_for_rows_and_what_was_in_flight(tmp_path: Path) -> None:
    answered: Counter[str] = Counter()
    lock = threading.Lock()

    def chat(request: dict[str, Any], _: int) -> str:
        time.sleep(0.02)  # as long as an answer takes, so that some are under way
        with lock:
            answered[request["messages"][-1]["content"]] += 1
        return verdict_of(request)

    with stub.serving(chat) as server:
        paid_before = 0
        judging = Judging(tmp_path, server.url, "--concurrency", str(CONCURRENCY))
        for _, cache, kills in judging.killed(KILLS):
            paid, rows = sum(answered.values()) - paid_before, kept(cache)
            if not paid_before:
                paid -= N  # the undisturbed judging
            paid_before = sum(answered.values())
            print(f"{kills} kills: {paid} paid, {rows} rows, {paid - rows} were in flight", flush=True)
            assert rows == N + 7
            assert 0 <= paid - rows <= kills * CONCURRENCY


def test_killed_while_it_waits_for_a_batch_it_pays_for_each_answer_once(tmp_path: Path) -> None:
    with stub.serving(lambda *_: (500, stub.error("a single request, and a batch was wanted"))) as server:
        batches = server.other = BatchServer(verdict_of, looks=10)
        asked_before = 0
        for _, cache, kills in Judging(tmp_path, server.url, "--batch").killed(KILLS):
            asked, rows = len(batches.asked) - asked_before, kept(cache)
            if not asked_before:
                asked -= N
            asked_before = len(batches.asked)
            print(f"{kills} kills: {asked} paid in batches, {rows} rows", flush=True)
            assert rows == asked == N + 7

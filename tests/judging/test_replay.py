"""Whole runs against recorded verdicts: the labels of two models' published solutions, with and without faults."""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from della_bench.judging.gsm8k.judge import judge_gsm8k
from della_bench.judging.limiter import Limits
from della_bench.judging.policy import RetryPolicy
from della_bench.judging.server import Server
from della_bench.judging.settings import JudgeSettings
from della_bench.results.schema import Score, items_path, read_items, read_score, score_path
from tests.waiting import HANGS

pytestmark = [pytest.mark.real_data, pytest.mark.exhaustive]

RIGHT = {"6b_finetuning": 286, "6b_verification": 515}
Replay = Callable[..., Any]


def data() -> Path:
    return Path(os.environ["DELLA_BENCH_DATA"])


def program() -> Path:
    """The server of recorded verdicts, which is no part of this project."""
    named = os.environ.get("DELLA_BENCH_REPLAY")
    path = Path(named) if named else data().parent / "replay" / "openai_replay.py"
    if not path.is_file() or not (data() / "gsm8k_model_solutions_6b.jsonl").is_file():
        pytest.skip("no recorded verdicts (DELLA_BENCH_REPLAY)")
    return path


class Replaying:
    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/v1"

    def stats(self) -> dict[str, int]:
        with urllib.request.urlopen(self.url.replace("/v1", "/stats"), timeout=HANGS) as answer:
            found: dict[str, int] = json.load(answer)
        return found


@contextmanager
def replaying(model: str, *options: str) -> Iterator[Replaying]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    recorded = ["--gsm8k", str(data() / "gsm8k_model_solutions_6b.jsonl"), "--model-key", model]
    command = [sys.executable, str(program()), "--port", str(port), *recorded, *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout is not None
        assert "replaying" in process.stdout.readline()
        yield Replaying(port)
    finally:
        process.kill()
        process.wait()


def solutions(path: Path, model: str) -> Path:
    """The recorded solutions as rows of question, target and response."""
    lines = (data() / "gsm8k_model_solutions_6b.jsonl").read_text(encoding="utf-8").splitlines()
    with path.open("w", encoding="utf-8") as file:
        for doc_id, row in enumerate(map(json.loads, lines)):
            target = row["ground_truth"].replace("\nA: ", "\n#### ")
            texts = {"question": row["question"], "target": target, "response": row[model]["solution"]}
            file.write(json.dumps({"doc_id": doc_id, **texts}) + "\n")
    return path


def judged(tmp_path: Path, samples: Path, server: Replaying, judge: str = "gsm8k_gpt4", **more: Any) -> Score:
    retry_policy = RetryPolicy(tries=12, first=0.05, longest=0.5)
    settings = JudgeSettings(
        server=Server(server.url), limits=Limits(64), cache=tmp_path / "cache", retry_policy=retry_policy, **more
    )
    return judge_gsm8k(samples, tmp_path / "out", judge, settings=settings)


@pytest.mark.parametrize(
    ("model", "judge"),
    [("6b_finetuning", "gsm8k_gpt4"), ("6b_verification", "gsm8k_gpt4"), ("6b_verification", "gsm8k_gpt5_mini")],
)
def test_the_recorded_labels_come_out_and_a_second_run_asks_nothing(tmp_path: Path, model: str, judge: str) -> None:
    samples = solutions(tmp_path / "solutions.jsonl", model)
    with replaying(model) as server:
        score = judged(tmp_path, samples, server, judge)
        assert (score["detail"]["correct"], score["n"], score["unscored"]) == (RIGHT[model], 1319, 0)
        assert score["detail"]["data_set"]["missing"] == score["detail"]["data_set"]["repeated"] == 0
        assert str(score["scorer"]["model"]).endswith("-replayed")
        before = server.stats()
        assert judged(tmp_path, samples, server, judge) == score
        assert server.stats() == before
    assert (before["requests"], before["repeated"], before["unknown"]) == (1319, 0, 0)


def test_faults_change_no_label_and_garbage_is_asked_again(tmp_path: Path) -> None:
    samples = solutions(tmp_path / "solutions.jsonl", "6b_finetuning")
    lines = (data() / "gsm8k_model_solutions_6b.jsonl").read_text(encoding="utf-8").splitlines()
    labels = [float(json.loads(line)["6b_finetuning"]["is_correct"]) for line in lines]
    faults = (
        "--rate-limit",
        "0.1",
        "--server-error",
        "0.05",
        "--drop",
        "0.02",
        "--garbage",
        "0.02",
        "--latency",
        "0.02",
    )
    with replaying("6b_finetuning", *faults) as server:
        score = judged(tmp_path, samples, server)
        stats = server.stats()
    rows = list(read_items(items_path(tmp_path / "out", "gsm8k", "gsm8k_gpt4")))
    assert all(row["value"] == labels[row["doc_id"]] for row in rows if row["value"] is not None)
    assert stats["garbage"] > 5
    assert score["detail"]["replies"] == stats["answered"] + stats["garbage"]
    assert score["unscored"] <= 2  # three attempts at 2 % each


def test_nothing_but_garbage_is_unscored_and_no_number_is_made_of_it(tmp_path: Path) -> None:
    samples = solutions(tmp_path / "solutions.jsonl", "6b_finetuning")
    with replaying("6b_finetuning", "--garbage", "1") as server:
        retry_policy = RetryPolicy(tries=3)
        settings = JudgeSettings(server=Server(server.url), cache=tmp_path / "cache", retry_policy=retry_policy)
        score = judge_gsm8k(samples, tmp_path / "out", "gsm8k_gpt4", settings=settings, limit=40)
        assert server.stats()["requests"] == 120
    assert (score["value"], score["n"], score["detail"]["unscored"]) == (None, 0, {"unreadable": 40})


@pytest.mark.parametrize("seed", [int(os.environ.get("DELLA_BENCH_KILL_SEED", "0"))])
def test_killed_at_twenty_moments_the_result_is_that_of_an_undisturbed_run(tmp_path: Path, seed: int) -> None:
    samples = solutions(tmp_path / "solutions.jsonl", "6b_verification")
    rng = random.Random(seed)
    concurrency = 16
    moments = sorted(rng.sample(range(1, 1319), 20))
    with replaying("6b_verification", "--latency", "0.02") as server:
        command = [sys.executable, "-m", "della_bench.cli", "judge", "gsm8k", str(samples), "--base-url", server.url]
        command += ["--concurrency", str(concurrency)]
        command += ["--out", str(tmp_path / "out"), "--cache", str(tmp_path / "cache")]
        kills = 0
        for moment in moments:
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            while process.poll() is None and server.stats()["requests"] < moment + kills * concurrency:
                time.sleep(0.02)
            time.sleep(rng.random() * 0.05)
            kills += process.poll() is None
            process.kill()
            process.wait()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=HANGS)
        stats = server.stats()
        elsewhere = JudgeSettings(server=Server(server.url), cache=tmp_path / "other")
        undisturbed = judge_gsm8k(samples, tmp_path / "whole", "gsm8k_gpt4", settings=elsewhere)
    print(f"{kills} kills, {stats}")
    assert kills >= 15
    assert stats["repeated"] <= kills * concurrency
    assert read_score(score_path(tmp_path / "out", "gsm8k", "gsm8k_gpt4")) == undisturbed
    disturbed_rows, rows = (
        list(read_items(items_path(tmp_path / out, "gsm8k", "gsm8k_gpt4"))) for out in ("out", "whole")
    )
    assert disturbed_rows == rows
    judgements = (tmp_path / "out/scores/gsm8k.gsm8k_gpt4/judgements.jsonl").read_text().splitlines()
    assert sorted(json.loads(line)["doc_id"] for line in judgements) == list(range(1319))

"""Judging by AlpacaEval as a whole: answers in, a score out, with a server in between."""

from __future__ import annotations

import csv
import json
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from datetime import date
from decimal import Decimal
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from della_bench.errors import DataError
from della_bench.judging.alpaca.comparison import prepare
from della_bench.judging.alpaca.estimate import estimate_alpaca_eval
from della_bench.judging.alpaca.judge import judge_alpaca_eval
from della_bench.judging.policy import RetryPolicy
from della_bench.judging.prices import end_warning, known
from della_bench.judging.reply import OutOfBudget, StopRun
from della_bench.judging.server import Server
from della_bench.judging.settings import JudgeSettings
from della_bench.results.schema import read_items, read_score
from tests.judging import alpaca
from tests.notebook import as_in_a_notebook
from tests.waiting import HANGS

pytestmark = [
    pytest.mark.skipif(find_spec("alpaca_eval") is None, reason="alpaca_eval is not installed"),
    pytest.mark.usefixtures("forked_alpaca_eval"),
]

QUICK = RetryPolicy(first=0.01, longest=0.05)


@pytest.fixture
def answers(tmp_path, monkeypatch):
    """Twenty answers, every second one good."""
    data = alpaca.folder(tmp_path / "data", 20)
    monkeypatch.setenv("DELLA_BENCH_DATA", str(data))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    path = tmp_path / "run" / "answers.json"
    path.parent.mkdir()
    path.write_text(json.dumps(alpaca.outputs(alpaca.baseline(20))), encoding="utf-8")
    return path


def terms(server: alpaca.Server, answers: Path, **more: Any) -> JudgeSettings:
    return JudgeSettings(Server(server.url), cache=answers.parent / "cache.sqlite", retry_policy=QUICK, **more)


def items(answers: Path, name: str = "alpaca_eval_gpt4") -> list[dict[str, Any]]:
    return [dict(item) for item in read_items(answers.parent / "scores" / f"alpaca_eval.{name}.items.jsonl")]


def test_a_score_its_items_and_alpaca_evals_own_files_are_written_and_a_second_run_asks_nothing(answers):
    with alpaca.Server(alpaca.ranking) as server:
        score = judge_alpaca_eval(answers, settings=terms(server, answers))
        assert server.requests == 20
        again = judge_alpaca_eval(answers, settings=terms(server, answers))
        assert server.requests == 20
        shutil.rmtree(answers.parent / "scores")  # only the cache has the answers
        assert as_in_a_notebook(lambda: judge_alpaca_eval(answers, settings=terms(server, answers))) == score
        assert server.requests == 20
    assert again == score == read_score(answers.parent / "scores" / "alpaca_eval.alpaca_eval_gpt4.json")
    assert (score["metric"], score["value"], score["n"], score["unscored"]) == ("win_rate", 50.0, 20, 0)
    assert score["scorer"] == {"name": "alpaca_eval_gpt4", "version": "0.6.6", "model": "judge-1"}
    assert (score["detail"]["n_total"], score["detail"]["n_expected"]) == (20, 20)
    assert score["detail"]["cost"] == pytest.approx(20 * (10 * 30 + 5 * 60) / 1e6)
    rows = items(answers)
    assert [row["verdict"] for row in rows] == ["won", "lost"] * 10
    assert [row["answer"] for row in rows] == [row["output"] for row in json.loads(answers.read_text())]
    folder = answers.parent / "scores" / "alpaca_eval.alpaca_eval_gpt4"
    assert json.loads((folder / "model_outputs.json").read_text()) == json.loads(answers.read_text())
    assert (folder / "leaderboard.csv").read_text().splitlines()[0].startswith(",win_rate,standard_error")
    assert len((folder / "judgements.jsonl").read_text().splitlines()) == 20


def test_a_second_models_answers_leave_the_firsts_score_alone_and_are_appended_to_the_leaderboard(answers):
    rows = json.loads(answers.read_text())
    for index, name in enumerate(("second.json", "third.json")):  # the third has the first one's name
        worse = [{**row, "output": f"bad {i}", "generator": ["other", rows[0]["generator"]][index]}
                 for i, row in enumerate(rows)]  # fmt: skip
        (answers.parent / name).write_text(json.dumps(worse), encoding="utf-8")
    folder = answers.parent / "scores"
    with alpaca.Server(alpaca.ranking) as server:
        first = judge_alpaca_eval(answers, settings=terms(server, answers))
        before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.suffix != ".csv"}
        for name in ("second.json", "third.json"):
            assert judge_alpaca_eval(answers.parent / name, settings=terms(server, answers))["value"] == 0
        for name in ("second.json", "third.json"):
            judge_alpaca_eval(answers.parent / name, settings=terms(server, answers))
    assert {path: path.read_bytes() for path in before} == before
    assert read_score(folder / "alpaca_eval.alpaca_eval_gpt4.json") == first
    with (folder / "alpaca_eval.alpaca_eval_gpt4" / "leaderboard.csv").open(newline="") as file:
        board = {row[""]: float(row["win_rate"]) for row in csv.DictReader(file)}
    assert sorted(board.values()) == [0.0, 0.0, 50.0]
    assert board[first["detail"]["generator"]] == 50.0
    assert board["other"] == 0.0


def test_length_controlled_scores_carry_both_rates_and_keep_the_log_probabilities(answers):
    rows = json.loads(answers.read_text())
    for index, row in enumerate(rows):  # hard instructions are lost
        row["output"] = f"{'good' if math.sin(index) < 0.5 else 'bad'} {index}"
    answers.write_text(json.dumps(rows), encoding="utf-8")
    with alpaca.Server(alpaca.weighted) as server:
        score = judge_alpaca_eval(answers, settings=terms(server, answers), annotator="weighted_alpaca_eval_gpt4_turbo")
    assert score["metric"] == "length_controlled_winrate"
    assert score["detail"]["baseline"] == "gpt4_1106_preview"
    won = [0.9 if math.sin(index) < 0.5 else 0.1 for index in range(20)]
    assert score["detail"]["alpaca_eval"]["win_rate"] == pytest.approx(100 * sum(won) / 20)
    assert score["value"] == score["detail"]["alpaca_eval"]["length_controlled_winrate"]
    assert score["interval"] is not None
    assert score["value"] is not None
    assert score["interval"][0] < score["value"] < score["interval"][1]
    assert [row["value"] for row in items(answers, "weighted_alpaca_eval_gpt4_turbo")] == pytest.approx(won)
    log = answers.parent / "scores" / "alpaca_eval.weighted_alpaca_eval_gpt4_turbo" / "judgements.jsonl"
    first = json.loads(log.read_text().splitlines()[0])
    assert first["reply"]["choices"][0]["logprobs"]["content"][0]["top_logprobs"]


def test_a_length_controlled_rate_is_refused_where_rows_are_missing_before_anything_is_asked(answers):
    rows = json.loads(answers.read_text())
    del rows[4]
    answers.write_text(json.dumps(rows), encoding="utf-8")
    with pytest.raises(DataError, match=r"1 of 20 instructions have no answer \(rows 5 of the baseline\)"):
        prepare(answers, None, "weighted_alpaca_eval_gpt4_turbo")
    assert prepare(answers, None, "weighted_alpaca_eval_gpt4_turbo", limit=4).n == 4


def test_errors_of_the_server_are_retried_refusals_and_garbage_are_unscored_missing_answers_left_out(answers, caplog):
    rows = json.loads(answers.read_text())
    del rows[19]
    answers.write_text(json.dumps(rows), encoding="utf-8")
    failed: set[str] = set()

    def judge(request):
        text = alpaca.prompt_text(request)
        if text not in failed:
            failed.add(text)
            return 500, {"error": {"message": "internal error", "type": "server_error"}}
        if "number 3." in text:
            return 400, {"error": {"message": "content policy violation", "code": "content_policy_violation"}}
        return alpaca.completion("Perhaps.") if "number 5." in text else alpaca.ranking(request)

    with alpaca.Server(judge) as server:
        score = judge_alpaca_eval(answers, settings=terms(server, answers))
    assert server.requests == 19 + 19 + 2  # each failed once, and the garbage was asked for three times
    assert (score["n"], score["unscored"], score["detail"]["n_total"], score["detail"]["missing"]) == (17, 2, 17, 1)
    verdicts = [row["verdict"] for row in items(answers)]
    assert [verdicts[3], verdicts[5], len(verdicts)] == ["unscored", "unscored", 19]
    assert [row["value"] for row in items(answers)].count(None) == 2
    assert score["detail"]["win_rate_bounds"] == [100 * 10 / 19, 100 * 12 / 19]
    assert "no answer to 1 of 20 instructions" in caplog.text


def test_no_quota_stops_the_run_keeps_what_was_paid_for_and_the_next_run_goes_on(answers):
    paid: list[None] = []
    one_at_a_time = threading.Lock()

    def poor(request):
        with one_at_a_time:
            paid.append(None)
            number = len(paid)
        if number > 7:
            return 429, {"error": {"message": "no money", "type": "insufficient_quota", "code": "insufficient_quota"}}
        return alpaca.ranking(request)

    with alpaca.Server(poor) as server:
        with pytest.raises(StopRun, match="quota"):
            judge_alpaca_eval(answers, settings=terms(server, answers))
        paid.clear()
        assert not list((answers.parent / "scores").glob("*.json*"))
        first = sum(server.answered.values())
        with pytest.raises(StopRun, match="quota"):
            judge_alpaca_eval(answers, settings=terms(server, answers))
        paid.clear()
        score = judge_alpaca_eval(answers, settings=terms(server, answers))
    assert (first, max(server.answered.values()), len(server.answered)) == (7, 1, 20)
    assert score["value"] == 50.0


def test_the_budget_is_never_exceeded_and_is_told_before_the_score(answers):
    limit = Decimal("0.2")
    with alpaca.Server(alpaca.ranking) as server:
        with pytest.raises(OutOfBudget, match=r"`max_cost`: \$0\.0001 is left"):
            judge_alpaca_eval(answers, settings=terms(server, answers, max_cost=Decimal("0.0001")))
        assert server.requests == 0
        score = judge_alpaca_eval(answers, settings=terms(server, answers, max_cost=limit))
    assert Decimal(str(score["detail"]["cost"])) <= limit


def test_an_estimate_counts_requests_tokens_and_dollars_asks_nobody_and_writes_nothing(answers):
    with alpaca.Server(alpaca.ranking) as server:
        settings = terms(server, answers)
        before = sorted(answers.parent.rglob("*"))
        found = estimate_alpaca_eval(answers, settings=settings)
        assert (server.requests, sorted(answers.parent.rglob("*"))) == (0, before)
        assert (found.answers, found.requests, found.known) == (20, 20, 0)
        assert found.cost == (Decimal(30) * found.prompt_tokens + Decimal(60) * found.completion_tokens) / 1_000_000
        assert found.worst_cost is not None
        assert found.worst_cost > found.cost
        score = judge_alpaca_eval(answers, settings=settings, limit=8)
        assert Decimal(str(score["detail"]["cost"])) <= found.worst_cost
        found = estimate_alpaca_eval(answers, settings=settings)
    assert (found.requests, found.known) == (12, 8)


REFUSED = {**alpaca.completion(""), "choices": [{"index": 0, "finish_reason": "content_filter", "message": {}}]}


@pytest.mark.slow
@pytest.mark.parametrize(("reply", "asked"), [(alpaca.completion("Perhaps."), 3), (REFUSED, 1)])
def test_unscored_comparisons_are_asked_again_only_where_that_is_wanted(answers, reply, asked):
    spoken: list[str] = []

    def judge(request):
        text = alpaca.prompt_text(request)
        if "number 3." in text:
            spoken.append(text)
            return reply if len(spoken) < asked + 2 else alpaca.ranking(request)
        return alpaca.ranking(request)

    with alpaca.Server(judge) as server:
        first = judge_alpaca_eval(answers, settings=terms(server, answers), limit=5)
        assert (first["n"], first["unscored"], len(spoken)) == (4, 1, asked)
        assert judge_alpaca_eval(answers, settings=terms(server, answers), limit=5) == first
        assert len(spoken) == asked
        if reply is REFUSED:  # once more a run
            again = judge_alpaca_eval(answers, settings=terms(server, answers, retry_unscored=True), limit=5)
            assert (again["unscored"], len(spoken)) == (1, asked + 1)
        again = judge_alpaca_eval(answers, settings=terms(server, answers, retry_unscored=True), limit=5)
    assert (again["n"], again["unscored"], len(spoken)) == (5, 0, asked + 2)


def test_a_baseline_and_an_annotator_of_ones_own_are_named_in_the_score(answers, tmp_path):
    baseline = tmp_path / "mine.json"
    baseline.write_text(json.dumps(alpaca.baseline(3, "my-baseline")), encoding="utf-8")
    answers.write_text(json.dumps(alpaca.outputs(alpaca.baseline(3))), encoding="utf-8")
    with alpaca.Server(alpaca.ranking) as server:
        score = judge_alpaca_eval(answers, settings=terms(server, answers, model="my-judge"), reference=baseline)
    assert score["detail"]["baseline"] == "my-baseline"
    assert score["detail"]["model_asked"] == "my-judge"
    assert score["scorer"]["name"] == "alpaca_eval_gpt4-my-judge"
    assert score["detail"]["cost"] is None


def test_a_model_past_its_announced_end_is_warned_of_and_one_before_it_is_not():
    assert "2026-10-23" in str(end_warning("gpt-4", date(2026, 10, 23)))
    assert end_warning("gpt-4", date(2026, 10, 22)) is None
    assert end_warning("somebody-elses-model", date(2099, 1, 1)) is None
    assert known("gpt-4-1106-preview") is not None


SCRIPT = """
import sys
from pathlib import Path
from della_bench.judging.alpaca.judge import judge_alpaca_eval
from della_bench.judging.settings import JudgeSettings
from della_bench.judging.limiter import Limits
from della_bench.judging.server import Server
answers, url, cache, concurrency = sys.argv[1:]
settings = JudgeSettings(Server(url), cache=Path(cache), limits=Limits(concurrency=int(concurrency)))
judge_alpaca_eval(Path(answers), settings=settings)
"""


def run(answers: Path, url: str, cache: Path, concurrency: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", SCRIPT, str(answers), url, str(cache), str(concurrency)]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL)


@pytest.mark.exhaustive
def test_a_killed_run_goes_on_where_it_was_and_pays_again_for_what_was_in_flight_at_most(answers, tmp_path):
    cache, concurrency = tmp_path / "cache.sqlite", 4
    running: list[subprocess.Popen[bytes]] = []
    kill_at = {5, 11, 14}

    def deadly(request):
        if server.requests in kill_at:
            os.kill(running[-1].pid, signal.SIGKILL)
        return alpaca.ranking(request)

    with alpaca.Server(deadly) as server:
        codes: list[int] = []
        while not codes or codes[-1] != 0:
            running.append(run(answers, server.url, cache, concurrency))
            codes.append(running[-1].wait(timeout=HANGS))
            assert len(codes) <= 4
    assert codes == [-signal.SIGKILL] * 3 + [0]
    assert len(server.answered) == 20
    assert sum(server.answered.values()) - 20 <= 3 * concurrency
    with alpaca.Server(alpaca.ranking) as calm:
        judge_alpaca_eval(answers, answers.parent / "calm", settings=terms(calm, answers))
    written = [path.relative_to(answers.parent) for path in (answers.parent / "scores").glob("*.json*")]
    assert len(written) == 2
    for path in written:
        assert (answers.parent / path).read_text() == (answers.parent / "calm" / path).read_text()


@pytest.mark.slow
def test_a_disk_that_is_full_ends_the_run_with_one_message_and_what_was_kept_is_not_asked_again(answers, tmp_path):
    """No file may grow beyond 40 kB, which the cache of answers does first."""
    limited = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (40_000, resource.RLIM_INFINITY))\n" + SCRIPT
    with alpaca.Server(alpaca.ranking) as server:
        command = [sys.executable, "-c", limited, str(answers), server.url, str(tmp_path / "cache.sqlite"), "2"]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=HANGS, check=False)
        assert ended.returncode == 1
        assert "JudgeError" in ended.stderr.splitlines()[-1]
        assert "run the same command again" in ended.stderr.splitlines()[-1]
        asked = len(server.answered)
        assert 0 < asked < 20
        score = judge_alpaca_eval(answers, settings=JudgeSettings(Server(server.url), cache=tmp_path / "cache.sqlite"))
    assert (score["n"], len(server.answered)) == (20, 20)
    assert sum(server.answered.values()) - 20 <= 2


@pytest.fixture
def replay():
    """Return a function that starts a server of recorded verdicts for one model and returns its address."""
    data = Path(os.environ["DELLA_BENCH_DATA"])
    script = data.parent / "replay" / "openai_replay.py"
    if not script.is_file():
        pytest.skip(f"there is no {script}")
    started: list[subprocess.Popen[bytes]] = []

    def start(model: str) -> str:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        recording = data / f"alpaca_eval_recorded_{model}.json"
        command = [sys.executable, str(script), "--port", str(port), "--alpaca-eval", str(recording)]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE))
        assert started[-1].stdout is not None
        assert b"replaying" in started[-1].stdout.readline()
        return f"http://127.0.0.1:{port}"

    yield start
    for process in started:
        process.kill()
        process.communicate()


def stats(address: str) -> dict[str, int]:
    with urllib.request.urlopen(f"{address}/stats", timeout=HANGS) as answer:
        found: dict[str, int] = json.load(answer)
    return found


@pytest.mark.real_data
@pytest.mark.exhaustive
@pytest.mark.parametrize(("model", "published"), [("vicuna-13b", 70.43), ("alpaca-7b", 26.46)])
def test_recorded_verdicts_give_the_published_win_rates_and_a_second_run_asks_nothing(
    tmp_path, replay, model, published
):
    recorded = json.loads(Path(os.environ["DELLA_BENCH_DATA"], f"alpaca_eval_recorded_{model}.json").read_text())
    rows = [
        {"instruction": row["instruction"], "output": row["output_2"], "generator": row["generator_2"]}
        for row in recorded
    ]
    path = tmp_path / "answers.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    address = replay(model)
    asked = JudgeSettings(Server(f"{address}/v1"), cache=tmp_path / "cache.sqlite")
    score = judge_alpaca_eval(path, settings=asked)
    assert (round(score["value"] or 0, 2), score["n"], score["unscored"]) == (published, 805, 0)
    requests = stats(address)["requests"]
    assert requests == sum(row["output_1"] != row["output_2"] for row in recorded)
    assert judge_alpaca_eval(path, settings=asked) == score
    assert stats(address) == {**stats(address), "requests": requests, "repeated": 0}

"""Servers that answer nothing of use: the run ends soon, says why, and the command does not end with 0."""

from __future__ import annotations

import asyncio
import email.utils
import logging
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from della_bench.cli import main
from della_bench.judging.gsm8k.judge import judge_gsm8k
from della_bench.judging.limiter import Limits
from della_bench.judging.policy import RetryPolicy
from della_bench.judging.reply import StopRun
from della_bench.judging.server import Server
from della_bench.judging.settings import JudgeSettings
from tests.waiting import HANGS

from . import stub
from .problems import verdict_of, write_plain

CONTEXT = (400, stub.error("This model's maximum context length is 8192 tokens", "context_length_exceeded"))


def judged(tmp_path: Path, url: str, n: int, policy: RetryPolicy) -> Any:
    settings = JudgeSettings(Server(url), limits=Limits(8), cache=tmp_path / "cache", retry_policy=policy)
    samples = write_plain(tmp_path / "plain.jsonl", n)
    return judge_gsm8k(samples, tmp_path / "out", "gsm8k_gpt4", settings=settings)


def test_prompts_that_the_server_rejects_are_unscored_alone_however_many_come_in_a_row(tmp_path: Path) -> None:
    def chat(request: dict[str, Any], _: int) -> Any:
        number = int(request["messages"][1]["content"].partition("What is ")[2].partition(" ")[0])
        return CONTEXT if number < 30 else verdict_of(request)

    with stub.serving(chat) as server:
        score = judged(tmp_path, server.url, 40, RetryPolicy())
        assert (score["n"], score["detail"]["unscored"]) == (10, {"rejected": 30})
        assert score["detail"]["unscored_kinds"] == {"rejected: status 400": 30}
        assert len(server.requests) == 40
        judged(tmp_path, server.url, 40, RetryPolicy())
    assert len(server.requests) == 40  # the same prompt would be rejected again


def test_requests_that_all_fail_stop_the_run_with_the_reasons_counted_by_kind(tmp_path: Path) -> None:
    def chat(_: dict[str, Any], number: int) -> Any:
        return (500, stub.error("oh")) if number % 2 else (200, b"<html>")

    with stub.serving(chat) as server, pytest.raises(StopRun) as caught:
        judged(tmp_path, server.url, 60, RetryPolicy(tries=1))
    assert "20 requests in a row" in str(caught.value)
    assert "times status 500" in str(caught.value)
    assert "times no JSON" in str(caught.value)
    assert caught.value.exit_code == 1


def command(capsys: pytest.CaptureFixture[str], *arguments: Any) -> tuple[int, str, str]:
    try:
        main(["judge", "gsm8k", *map(str, arguments)])
        code = 0
    except SystemExit as end:
        code = int(end.code or 0)
    printed = capsys.readouterr()
    return code, printed.out, printed.err


@pytest.mark.parametrize(
    ("answer", "kind"),
    [(CONTEXT, "rejected: status 400"), ("I would rather not say.", "unreadable: no verdict in the reply")],
)
def test_a_run_in_which_nothing_could_be_judged_ends_with_1_and_shows_the_reasons(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], answer: Any, kind: str
) -> None:
    samples = write_plain(tmp_path / "plain.jsonl", 3)
    with stub.serving(lambda *_: answer) as server:
        code, out, _ = command(capsys, samples, "--base-url", server.url)
        assert code == 1
        assert f"3 {kind}" in out
        server.chat = lambda request, _: verdict_of(request)
        assert command(capsys, samples, "--base-url", server.url, "--retry-unscored")[0] == 0


def test_a_server_that_says_nothing_is_named_and_then_given_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    ended = threading.Event()

    def silent(*_: Any) -> str:
        ended.wait(HANGS)
        return "late"

    policy = RetryPolicy(timeout=1.0, silence=0.1, first=0.001, longest=0.002)
    with stub.serving(silent) as server:
        try:
            with pytest.raises(StopRun, match=r"has not answered a single request.*`timeout`"):
                judged(tmp_path, server.url, 2, policy)
        finally:
            ended.set()
    assert f"{server.url} has answered none of" in caplog.text


def test_a_server_that_answers_is_not_called_silent(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with stub.serving(lambda request, _: verdict_of(request)) as server:
        judged(tmp_path, server.url, 3, RetryPolicy(silence=HANGS))
    assert "has answered none" not in caplog.text


@pytest.mark.parametrize("hours", [-5, 5])
def test_a_date_to_wait_for_is_held_against_the_servers_own_clock(tmp_path: Path, hours: int) -> None:
    def chat(request: dict[str, Any], number: int) -> Any:
        if number:
            return verdict_of(request)
        theirs = time.time() + 3600 * hours
        dates = {
            "Retry-After": email.utils.formatdate(theirs, usegmt=True),
            "Date": email.utils.formatdate(theirs, usegmt=True),
        }
        return 429, stub.error("slow down"), dates

    waited: list[float] = []
    real = asyncio.wait_for

    async def counted(what: Any, seconds: float) -> Any:
        waited.append(seconds)
        return await real(what, min(seconds, 0.01))

    with stub.serving(chat) as server, pytest.MonkeyPatch.context() as patch:
        patch.setattr(asyncio, "wait_for", counted)
        assert judged(tmp_path, server.url, 1, RetryPolicy(first=0.001))["n"] == 1
    assert len(server.requests) == 2
    assert max(waited) < 60

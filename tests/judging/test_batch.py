from __future__ import annotations

import asyncio
import json
import shutil
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from della_bench.errors import JudgeError
from della_bench.judging import batch as module
from della_bench.judging import batch_calls, batch_files
from della_bench.judging.gsm8k.estimate import estimate_gsm8k
from della_bench.judging.gsm8k.judge import judge_gsm8k
from della_bench.judging.policy import RetryPolicy
from della_bench.judging.reply import OutOfBudget, StopRun
from della_bench.judging.server import Server
from della_bench.judging.settings import JudgeSettings
from della_bench.results.schema import Score
from tests.waiting import until

from . import stub
from .batch_stub import BatchServer
from .problems import plain_rows, verdict_of, write_plain, write_rows

N = 9


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    real = module.Batches.__init__
    monkeypatch.setattr(module.Batches, "__init__", lambda *a, **k: real(*a, **{**k, "poll": 0.01}))


@pytest.fixture
def server() -> Iterator[stub.Stub]:
    with stub.serving(lambda *_: (500, stub.error("a single request, and a batch was wanted"))) as serving:
        yield serving


def settings(url: str, **more: Any) -> JudgeSettings:
    return JudgeSettings(server=Server(url), retry_policy=RetryPolicy(tries=1), **{"batch": True, **more})


def judged(tmp_path: Path, url: str, votes: int = 1, **more: Any) -> Score:
    samples = write_plain(tmp_path / "plain.jsonl", N)
    return judge_gsm8k(samples, tmp_path / "out", "gsm8k_gpt4", settings=settings(url, **more), votes=votes)


def noted(tmp_path: Path) -> list[dict[str, Any]]:
    path = tmp_path / "out/scores/gsm8k.gsm8k_gpt4/batches.json"
    found: list[dict[str, Any]] = json.loads(path.read_text())
    return found


def is_number_four(request: dict[str, Any]) -> bool:
    return "What is 4 " in request["messages"][-1]["content"]


def test_a_batch_judges_like_single_requests_at_half_the_price(tmp_path: Path, server: stub.Stub) -> None:
    batches = server.other = BatchServer(verdict_of)
    score = judged(tmp_path, server.url)
    assert (score["n"], score["detail"]["correct"]) == (9, 6)
    assert score["detail"]["cost"] == pytest.approx(9 * (100 * 2 + 10 * 8) / 1e6 / 2)
    assert len(batches.batches) == 1
    assert server.requests == []
    assert judged(tmp_path, server.url) == score
    assert len(batches.asked) == 9


def test_what_cannot_be_read_goes_into_the_next_batch(tmp_path: Path, server: stub.Stub) -> None:
    times: Counter[bool] = Counter()

    def answer(request: dict[str, Any]) -> str:
        times[is_number_four(request)] += 1
        return "hm" if is_number_four(request) else verdict_of(request)

    batches = server.other = BatchServer(answer)
    score = judged(tmp_path, server.url)
    assert score["detail"]["unscored"] == {"unreadable": 1}
    assert (times[True], times[False]) == (3, 8)
    assert len(batches.batches) == 3


def test_what_stayed_unread_can_be_asked_again_by_a_batch(tmp_path: Path, server: stub.Stub) -> None:
    server.other = BatchServer(lambda r: "hm" if is_number_four(r) else verdict_of(r))
    assert judged(tmp_path, server.url)["detail"]["unscored"] == {"unreadable": 1}
    still = server.other = BatchServer(lambda _: "hm")
    assert judged(tmp_path, server.url, retry_unscored=True)["detail"]["unscored"] == {"unreadable": 1}
    assert len(still.asked) == 3
    mended = server.other = BatchServer(verdict_of)
    assert judged(tmp_path, server.url, retry_unscored=True)["unscored"] == 0
    assert len(mended.asked) == 1


def test_an_expired_batch_gives_what_it_has_and_the_rest_is_asked_again(tmp_path: Path, server: stub.Stub) -> None:
    def answer(request: dict[str, Any]) -> str | None:
        return verdict_of(request) if len(batches.batches) > 1 or is_number_four(request) else None

    batches = server.other = BatchServer(answer, status="expired")
    score = judged(tmp_path, server.url)
    assert (score["n"], score["detail"]["correct"]) == (9, 6)
    assert Counter(Counter(batches.asked).values()) == {2: 8, 1: 1}


def test_what_never_comes_is_unscored_and_asked_again_by_the_next_run(tmp_path: Path, server: stub.Stub) -> None:
    server.other = BatchServer(lambda r: None if is_number_four(r) else verdict_of(r), status="expired")
    assert judged(tmp_path, server.url)["detail"]["unscored"] == {"failed": 1}
    server.other = BatchServer(verdict_of)
    assert judged(tmp_path, server.url)["unscored"] == 0


def test_a_refused_row_of_the_error_file_is_unscored_and_not_asked_again(tmp_path: Path, server: stub.Stub) -> None:
    refusal = (400, stub.error("no", "content_policy_violation"))
    batches = server.other = BatchServer(lambda r: refusal if is_number_four(r) else verdict_of(r))
    assert judged(tmp_path, server.url)["detail"]["unscored"] == {"refused": 1}
    assert len(batches.asked) == 9


@pytest.mark.parametrize(("status", "expected"), [("failed", "does not do batches"), ("cancelled", "was cancelled")])
def test_a_batch_that_fails_as_a_whole_stops_the_run_with_the_reason(
    tmp_path: Path, server: stub.Stub, status: str, expected: str
) -> None:
    server.other = BatchServer(verdict_of, status=status)
    with pytest.raises(StopRun, match=expected):
        judged(tmp_path, server.url)


def test_results_of_a_cancelled_batch_are_kept(tmp_path: Path, server: stub.Stub) -> None:
    server.other = BatchServer(lambda r: verdict_of(r) if is_number_four(r) else None, status="cancelled")
    with pytest.raises(StopRun):
        judged(tmp_path, server.url)
    again = server.other = BatchServer(verdict_of)
    assert judged(tmp_path, server.url)["n"] == 9
    assert len(again.asked) == 8


class _KilledError(BaseException):
    pass


@pytest.mark.parametrize("moment", ["upload", "create", "created", "look", "results"])
def test_killed_at_any_moment_no_batch_is_made_twice(
    tmp_path: Path, server: stub.Stub, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = server.other = BatchServer(verdict_of)
    signs = {"upload": ("POST", "/files"), "create": ("POST", "/batches"), "look": ("GET", "/batches/batch0"),
             "results": ("GET", "/files/file1/content")}  # fmt: skip
    killed: list[bool] = []
    real = batch_calls.BatchCalls._call
    real_create = batch_calls.BatchCalls.create

    async def call(self: Any, wanted: Any, **options: str) -> Any:
        before = dict(calls)
        out = await real(self, wanted, **options)
        if not killed and any(calls[key] > before.get(key, 0) for key in [signs.get(moment)] if key):
            killed.append(True)
            raise _KilledError
        return out

    async def create(self: Any, *arguments: str) -> Any:
        if moment == "create" and not killed:
            killed.append(True)
            raise _KilledError
        out = await real_create(self, *arguments)
        if moment == "created" and not killed:
            killed.append(True)
            raise _KilledError  # before the id was written down
        return out

    calls: Counter[tuple[str, str]] = Counter()
    batches.before_answer = lambda method, path: calls.update([(method, path)])
    monkeypatch.setattr(batch_calls.BatchCalls, "_call", call)
    monkeypatch.setattr(batch_calls.BatchCalls, "create", create)
    with pytest.raises(_KilledError):
        judged(tmp_path, server.url)
    assert killed
    score = judged(tmp_path, server.url)
    assert (score["n"], score["detail"]["correct"]) == (9, 6)
    assert max(Counter(batches.asked).values()) == 1
    assert len(batches.batches) == 1


def test_a_batch_whose_making_was_not_confirmed_is_found_by_its_tag(tmp_path: Path, server: stub.Stub) -> None:
    batches = server.other = BatchServer(verdict_of)
    broken: list[bool] = []

    def after_create() -> Any:
        if not broken:
            broken.append(True)
            return stub.DROP
        return None

    batches.after_create = after_create
    assert judged(tmp_path, server.url)["n"] == 9
    assert len(batches.batches) == 1


def test_the_id_is_on_the_disk_before_the_first_look(tmp_path: Path, server: stub.Stub) -> None:
    ids: list[Any] = []
    batches = server.other = BatchServer(verdict_of)
    batches.before_answer = lambda _, path: ids.append(noted(tmp_path)[0]["id"]) if "/batches/" in path else None
    judged(tmp_path, server.url)
    assert set(ids) == {"batch0"}
    assert [each["done"] for each in noted(tmp_path)] == [True]


def test_a_budget_buys_as_many_requests_as_it_suffices_for(tmp_path: Path, server: stub.Stub) -> None:
    batches = server.other = BatchServer(verdict_of)
    samples = write_plain(tmp_path / "plain.jsonl", N)
    whole = estimate_gsm8k(samples, "gsm8k_gpt4", settings=settings(server.url)).worst_cost
    assert whole is not None
    with pytest.raises(OutOfBudget, match="suffices for 4 of 9"):
        judged(tmp_path, server.url, max_cost=whole / 9 * 4 + whole / 30)
    assert len(batches.asked) == 4
    assert judged(tmp_path, server.url, max_cost=whole)["n"] == 9
    assert len(batches.asked) == 9


def test_votes_go_into_the_same_batch(tmp_path: Path, server: stub.Stub) -> None:
    batches = server.other = BatchServer(verdict_of)
    assert judged(tmp_path, server.url, votes=3)["detail"]["correct"] == 6
    assert len(set(batches.asked)) == len(batches.asked) == 27


@pytest.mark.parametrize("text", ["[1]", "[{}]", "{}", '[{"id": "b", "done": false}]'])
def test_a_note_of_batches_of_another_shape_is_told_as_one(tmp_path: Path, server: stub.Stub, text: str) -> None:
    path = tmp_path / "out/scores/gsm8k.gsm8k_gpt4/batches.json"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with pytest.raises(JudgeError, match="list of batches that may be paid for"):
        judged(tmp_path, server.url)
    assert path.read_text() == text


def test_a_server_without_batches_says_so_and_leaves_nothing_behind(tmp_path: Path, server: stub.Stub) -> None:
    server.other = lambda *_: (404, stub.error("Not Found"))
    with pytest.raises(StopRun, match="takes no batches"):
        judged(tmp_path, server.url)
    assert [each["done"] for each in noted(tmp_path)] == [True]
    server.chat = lambda asked, _: verdict_of(asked)
    assert judged(tmp_path, server.url, batch=False)["n"] == 9


def test_a_result_file_that_is_gone_stops_the_run_with_what_can_be_done(tmp_path: Path, server: stub.Stub) -> None:
    batches = BatchServer(verdict_of)
    server.other = lambda *given: (404, stub.error("gone")) if "/content" in given[1] else batches(*given)
    with pytest.raises(StopRun, match="no result file file1: it is another key's, or was deleted"):
        judged(tmp_path, server.url)
    path = tmp_path / "out/scores/gsm8k.gsm8k_gpt4/batches.json"
    assert [each["done"] for each in noted(tmp_path)] == [False]
    path.write_text(path.read_text().replace('"done": false', '"done": true'))
    server.chat = lambda asked, _: verdict_of(asked)
    assert judged(tmp_path, server.url, batch=False)["n"] == 9


def test_an_unreadable_note_of_batches_is_never_overwritten(tmp_path: Path, server: stub.Stub) -> None:
    path = tmp_path / "out/scores/gsm8k.gsm8k_gpt4/batches.json"
    path.parent.mkdir(parents=True)
    path.write_text('[{"id": "batch_that_is_pa')
    with pytest.raises(JudgeError, match="may be paid for"):
        judged(tmp_path, server.url)
    assert path.read_text() == '[{"id": "batch_that_is_pa'


def test_a_large_file_is_cut_into_several_batches(
    tmp_path: Path, server: stub.Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_files, "_MOST_REQUESTS", 4)
    batches = server.other = BatchServer(verdict_of)
    assert judged(tmp_path, server.url)["n"] == 9
    assert len(batches.batches) == 3


def test_equal_requests_are_sent_once_in_a_batch(tmp_path: Path, server: stub.Stub) -> None:
    batches = server.other = BatchServer(verdict_of)
    rows = [{**row, "doc_id": row["doc_id"] + 100 * copy} for copy in range(3) for row in plain_rows(4)]
    samples = write_rows(tmp_path / "plain.jsonl", rows)
    score = judge_gsm8k(samples, tmp_path / "out", "gsm8k_gpt4", settings=settings(server.url))
    assert score["n"] == 12
    assert len(batches.asked) == len(set(batches.asked)) == 4


def interrupted(tmp_path: Path, server: stub.Stub, batches: BatchServer) -> None:
    """Leave a batch behind that is under way."""
    server.other = batches
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module.Batches, "_wait_for", _killed)
        with pytest.raises(_Killed):
            judged(tmp_path, server.url)


class _Killed(BaseException):
    pass


async def _killed(*_: Any) -> None:
    raise _Killed


def test_an_open_batch_survives_a_run_with_another_server_and_is_paid_for_once(
    tmp_path: Path, server: stub.Stub, caplog: pytest.LogCaptureFixture
) -> None:
    batches = BatchServer(verdict_of)
    interrupted(tmp_path, server, batches)
    with stub.serving(lambda *_: (500, stub.error("no"))) as other:
        other.other = BatchServer(verdict_of)
        assert judged(tmp_path, other.url)["n"] == N
    assert f"a batch is open at {server.url}" in caplog.text
    assert judged(tmp_path, server.url)["n"] == N
    assert len(batches.batches) == 1


def test_a_run_without_batches_takes_what_an_open_one_has_answered(tmp_path: Path, server: stub.Stub) -> None:
    batches = BatchServer(verdict_of, looks=1)
    interrupted(tmp_path, server, batches)
    assert judged(tmp_path, server.url, batch=False)["n"] == N
    assert server.requests == []


def test_a_run_without_batches_is_refused_while_one_is_under_way(tmp_path: Path, server: stub.Stub) -> None:
    batches = BatchServer(verdict_of, looks=2)
    interrupted(tmp_path, server, batches)
    with pytest.raises(StopRun, match=r"still in_progress.*paid for twice.*`batch`"):
        judged(tmp_path, server.url, batch=False)
    assert server.requests == []
    assert judged(tmp_path, server.url)["n"] == N
    assert len(batches.batches) == 1


def test_an_empty_name_of_an_error_file_is_none(tmp_path: Path, server: stub.Stub) -> None:
    class Empty(BatchServer):
        def _seen(self, batch: dict[str, Any]) -> dict[str, Any]:
            return {"error_file_id": "", **super()._seen(batch)}

    server.other = Empty(verdict_of)
    assert judged(tmp_path, server.url)["n"] == N


def test_a_result_file_that_comes_torn_is_loaded_again_and_nothing_in_it_paid_for_twice(
    tmp_path: Path, server: stub.Stub
) -> None:
    class Torn(BatchServer):
        loads = 0

        def __call__(self, method: str, path: str, body: bytes) -> Any:
            status, sent, *rest = super().__call__(method, path, body)
            if path.endswith("/content"):
                self.loads += 1
                if self.loads == 1:
                    sent = sent[: len(sent) // 2]
            return status, sent, *rest

    batches = server.other = Torn(verdict_of)
    assert judged(tmp_path, server.url)["n"] == N
    assert len(batches.asked) == N
    assert batches.loads == 2


def in_folder(tmp_path: Path, name: str, url: str, **more: Any) -> Score:
    samples = tmp_path / "plain.jsonl"
    if not samples.exists():
        write_plain(samples, N)
    asked = settings(url, cache=tmp_path / "cache.sqlite", **more)
    return judge_gsm8k(samples, tmp_path / name, "gsm8k_gpt4", settings=asked)


def test_a_batch_of_another_folder_whose_command_has_ended_is_paid_for_once(
    tmp_path: Path, server: stub.Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = server.other = BatchServer(verdict_of)
    with monkeypatch.context() as patch:
        patch.setattr(module.Batches, "_wait_for", _killed)
        with pytest.raises(_Killed):
            in_folder(tmp_path, "first", server.url)
    for batch in (True, False):
        with pytest.raises(StopRun, match=r"first.*paid for twice"):
            in_folder(tmp_path, "second", server.url, batch=batch)
    assert in_folder(tmp_path, "first", server.url)["n"] == N
    assert in_folder(tmp_path, "second", server.url)["n"] == N
    assert sorted(Counter(batches.asked).values()) == [1] * N
    assert server.requests == []


def test_two_folders_that_batch_at_once_on_one_cache_share_what_is_under_way(
    tmp_path: Path, server: stub.Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = server.other = BatchServer(verdict_of)
    waiting, seen = threading.Event(), []
    real_wait, real_make = module.Batches._wait_for_others, module.Batches._make

    async def make(self: Any, chunk: Any) -> Any:
        made = await real_make(self, chunk)
        threading.Thread(target=lambda: seen.append(in_folder(tmp_path, "second", server.url))).start()
        while not waiting.is_set():  # its batch is open, and the other one has found it
            await asyncio.sleep(0.01)
        return made

    async def wait(self: Any, keys: Any) -> None:
        waiting.set()
        await real_wait(self, keys)

    monkeypatch.setattr(module.Batches, "_make", make)
    monkeypatch.setattr(module.Batches, "_wait_for_others", wait)
    write_plain(tmp_path / "plain.jsonl", N)
    assert in_folder(tmp_path, "first", server.url)["n"] == N
    until(lambda: bool(seen))
    assert seen[0]["n"] == N
    assert sorted(Counter(batches.asked).values()) == [1] * N


def test_a_batch_whose_folder_is_gone_holds_nobody_up(
    tmp_path: Path, server: stub.Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.other = BatchServer(verdict_of)
    with monkeypatch.context() as patch:
        patch.setattr(module.Batches, "_wait_for", _killed)
        with pytest.raises(_Killed):
            in_folder(tmp_path, "first", server.url)
    shutil.rmtree(tmp_path / "first")
    assert in_folder(tmp_path, "second", server.url)["n"] == N

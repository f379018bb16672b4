from __future__ import annotations

import csv
import json
import shutil
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from della_bench.errors import JudgeError
from della_bench.judging.gsm8k.estimate import estimate_gsm8k
from della_bench.judging.gsm8k.judge import judge_gsm8k
from della_bench.judging.limiter import Limits
from della_bench.judging.policy import RetryPolicy
from della_bench.judging.reply import OutOfBudget, StopRun
from della_bench.judging.server import Server
from della_bench.judging.settings import JudgeSettings
from della_bench.resources import folder
from della_bench.results.schema import Score, items_path, read_items, read_score, score_path
from della_bench.results.stats import wilson
from tests.judging import stub
from tests.judging.problems import plain_rows, sample_rows, verdict_of, write_plain, write_rows
from tests.notebook import as_in_a_notebook

N = 12


def settings(url: str, **more: Any) -> JudgeSettings:
    return JudgeSettings(server=Server(url), retry_policy=RetryPolicy(tries=3, first=0.01), limits=Limits(4), **more)


def judged(tmp_path: Path, url: str, judge: str = "gsm8k_gpt4", n: int = N, **more: Any) -> Score:
    keys = ("votes", "limit")
    options = {key: more.pop(key) for key in keys if key in more}
    samples = write_plain(tmp_path / "plain.jsonl", n)
    return judge_gsm8k(samples, tmp_path / "out", judge, settings=settings(url, **more), **options)


def items(tmp_path: Path, judge: str = "gsm8k_gpt4") -> list[dict[str, Any]]:
    return [dict(row) for row in read_items(items_path(tmp_path / "out", "gsm8k", judge))]


def perfect(request: dict[str, Any], _: int = 0) -> str:
    return f"Compared with care, it may look like [[B]] or [[A]]. {verdict_of(request)}"


def test_a_score_says_what_it_comes_to_how_sure_it_is_and_who_made_it(tmp_path: Path) -> None:
    with stub.serving(lambda r, _: (200, stub.completion(perfect(r), model="m-2025"))) as server:
        score = judged(tmp_path, server.url)
    assert read_score(score_path(tmp_path / "out", "gsm8k", "gsm8k_gpt4")) == score
    low, high = wilson(8, 12)
    assert score["value"] == pytest.approx(100 * 8 / 12)
    assert score["interval"] == pytest.approx([100 * low, 100 * high])
    assert (score["n"], score["unscored"]) == (12, 0)
    assert score["scorer"]["name"] == "gsm8k_gpt4"
    assert score["scorer"]["model"] == "m-2025"  # what the server reports
    detail = score["detail"]
    assert (detail["correct"], detail["incorrect"], detail["unscored"]) == (8, 4, {})
    assert detail["bounds"] == pytest.approx([100 * 8 / 12] * 2)
    assert detail["tokens"] == {"prompt": 1200, "completion": 120}
    assert detail["cost"] == pytest.approx((1200 * 2 + 120 * 8) / 1e6)
    assert detail["judge"]["model"] == "gpt-4.1-2025-04-14"
    assert detail["strict-match"]["value"] == pytest.approx(100 * 8 / 12)
    assert detail["strict-match"]["agreement"]["kappa"] == 1.0
    assert detail["data_set"]["missing"] == 1319 - 12
    rows = items(tmp_path)
    assert [row["doc_id"] for row in rows] == list(range(12))
    assert all(row["model"] == "m-2025" for row in rows)
    assert {row["verdict"] for row in rows} == {"correct", "incorrect"}


def test_every_reply_is_written_down_whole_as_it_comes(tmp_path: Path) -> None:
    with stub.serving(perfect) as server:
        judged(tmp_path, server.url)
        judged(tmp_path, server.url)
    path = tmp_path / "out" / "scores" / "gsm8k.gsm8k_gpt4" / "judgements.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert sorted(row["doc_id"] for row in rows) == list(range(12))
    for row in rows:
        assert row["reply"]["choices"][0]["message"]["content"].startswith("Compared")
        assert row["usage"]["prompt_tokens"] == 100
        assert row["model"] == "stub-1"
        assert row["latency"] > 0
        assert row["at"] > 1e9


def test_the_authors_table_has_their_columns_and_labels(tmp_path: Path) -> None:
    with stub.serving(lambda r, _: "broken" if "What is 5 " in r["messages"][1]["content"] else perfect(r)) as server:
        judged(tmp_path, server.url)
    with (tmp_path / "out/scores/gsm8k.gsm8k_gpt4/labelled.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["instruction", "target", "output", "template_label", "last_num_label", "comments",
                             "gpt4_annotation"]  # fmt: skip
    labels = ["CantAnnotate" if i == 5 else "positive" if i % 3 else "negative" for i in range(12)]
    assert [row["gpt4_annotation"] for row in rows] == labels
    assert rows[1]["template_label"] == "positive"
    assert rows[1]["output"] == plain_rows(2)[1]["response"]
    assert rows[1]["comments"].endswith("[Evaluated text] " + rows[1]["output"])


def test_a_second_run_asks_nothing_and_says_the_same_even_without_its_items(tmp_path: Path) -> None:
    with stub.serving(perfect) as server:
        first = judged(tmp_path, server.url)
        assert judged(tmp_path, server.url) == first
        shutil.rmtree(tmp_path / "out")
        assert judged(tmp_path, server.url) == first  # out of the cache
    assert len(server.requests) == 12


def test_the_same_texts_are_paid_for_once_by_all_runs(tmp_path: Path) -> None:
    samples = write_rows(tmp_path / "samples.jsonl", sample_rows(N))
    with stub.serving(perfect) as server:
        first = judged(tmp_path, server.url)
        second = judge_gsm8k(samples, tmp_path / "other", "gsm8k_gpt4", settings=settings(server.url))
    assert len(server.requests) == 12
    assert second["value"] == first["value"]
    assert second["detail"]["strict-match"]["source"] == "logged"
    rows = (tmp_path / "other/scores/gsm8k.gsm8k_gpt4/judgements.jsonl").read_text().splitlines()
    assert [json.loads(row)["cached"] for row in rows] == [True] * 12


def test_an_unreadable_reply_is_asked_again_then_unscored_never_wrong_and_shown_in_the_bounds(tmp_path: Path) -> None:
    def chat(request: dict[str, Any], _: int) -> str:
        return (
            "Perhaps [[A]], perhaps [[C]]." if "What is 4 " in request["messages"][1]["content"] else perfect(request)
        )

    with stub.serving(chat) as server:
        score = judged(tmp_path, server.url)
        assert len(server.requests) == 11 + 3  # the judge's three attempts
        assert judged(tmp_path, server.url) == score
        assert len(server.requests) == 14  # nothing is asked for it again ...
        server.chat = perfect
        assert judged(tmp_path, server.url) == score
        mended = judged(tmp_path, server.url, retry_unscored=True)  # ... until somebody wants it
        assert len(server.requests) == 15
        assert judged(tmp_path, server.url)["value"] == mended["value"]
    assert (score["n"], score["unscored"], score["detail"]["unscored"]) == (11, 1, {"unreadable": 1})
    assert score["value"] == pytest.approx(100 * 7 / 11)
    assert score["detail"]["bounds"] == pytest.approx([100 * 7 / 12, 100 * 8 / 12])
    assert score["detail"]["replies"] == 14
    assert (mended["n"], mended["unscored"], mended["detail"]["correct"]) == (12, 0, 8)
    assert mended["detail"]["replies"] == 15  # what the broken ones have cost is part of the number


def test_a_reply_that_can_be_read_at_the_second_attempt_counts(tmp_path: Path) -> None:
    seen: set[str] = set()

    def chat(request: dict[str, Any], _: int) -> str:
        text = request["messages"][1]["content"]
        first = text not in seen
        seen.add(text)
        return "hm" if first else perfect(request)

    with stub.serving(chat) as server:
        score = judged(tmp_path, server.url)
    assert (score["n"], score["unscored"], len(server.requests)) == (12, 0, 24)


@pytest.mark.parametrize(
    "refusal",
    [
        (400, stub.error("content policy violation", "content_policy_violation")),
        (200, {**stub.completion(""), "choices": [{"finish_reason": "content_filter", "message": {"content": ""}}]}),
    ],
    ids=["error", "filtered"],
)
def test_a_refusal_is_unscored_and_asked_again_only_when_wanted(tmp_path: Path, refusal: Any) -> None:
    def chat(request: dict[str, Any], _: int) -> Any:
        return refusal if "What is 4 " in request["messages"][1]["content"] else perfect(request)

    with stub.serving(chat) as server:
        score = judged(tmp_path, server.url)
        assert score["detail"]["unscored"] == {"refused": 1}
        judged(tmp_path, server.url)
        assert len(server.requests) == 12
        server.chat = perfect
        assert judged(tmp_path, server.url, retry_unscored=True)["unscored"] == 0
        assert len(server.requests) == 13


def test_what_failed_for_the_servers_sake_is_unscored_and_asked_again_by_the_next_run(tmp_path: Path) -> None:
    def chat(request: dict[str, Any], _: int) -> Any:
        return (500, stub.error("oh")) if "What is 4 " in request["messages"][1]["content"] else perfect(request)

    with stub.serving(chat) as server:
        assert judged(tmp_path, server.url)["detail"]["unscored"] == {"failed": 1}
        server.chat = perfect
        assert judged(tmp_path, server.url)["unscored"] == 0


def test_votes_take_the_majority_with_the_labels_swapped_in_half_of_them(tmp_path: Path) -> None:
    def biased(request: dict[str, Any], _: int) -> str:
        """Says A whatever it is asked of item 4, and is right of all others."""
        return "[[A]]" if "What is 4 " in request["messages"][1]["content"] else perfect(request)

    with stub.serving(biased) as server:
        score = judged(tmp_path, server.url, votes=4)
    assert len(server.requests) == 48
    swapped = sum("[[B]] for a correct response" in text for text in server.texts())
    assert swapped == 24
    row = items(tmp_path)[4]
    assert row["votes"] == [True, False, True, False]  # a judge that always says A cancels itself out
    assert (row["value"], row["reason"]) == (None, "tie")
    assert (score["n"], score["detail"]["unscored"], score["detail"]["correct"]) == (11, {"tie": 1}, 7)


def test_a_judge_that_wants_json_sends_a_schema_and_reads_the_field(tmp_path: Path) -> None:
    def chat(request: dict[str, Any], _: int) -> str:
        assert request["response_format"]["json_schema"]["strict"] is True
        assert "max_tokens" not in request
        assert "temperature" not in request
        number = int(request["messages"][-1]["content"].partition("What is ")[2].partition(" ")[0])
        return json.dumps({"explanation": "as [[B]] says", "verdict": "A" if number % 3 else "B"})

    with stub.serving(chat) as server:
        score = judged(tmp_path, server.url, judge="gsm8k_gpt5_mini")
    assert (score["detail"]["correct"], score["n"]) == (8, 12)
    assert items(tmp_path, "gsm8k_gpt5_mini")[1]["explanation"] == "as [[B]] says"


def test_two_judges_write_beside_each_other_and_a_changed_judge_judges_anew(tmp_path: Path) -> None:
    mine = Path(shutil.copytree(folder("judges") / "gsm8k_gpt4", tmp_path / "mine"))
    with stub.serving(perfect) as server:
        judged(tmp_path, server.url)
        judged(tmp_path, server.url, judge=str(mine))
        (mine / "system.md").write_text("Judge {correct} or {wrong}.")
        assert len(server.requests) == 12  # the same requests
        judged(tmp_path, server.url, judge=str(mine))
        assert len(server.requests) == 24
    names = {path.name for path in (tmp_path / "out" / "scores").glob("*.json")}
    assert names == {"gsm8k.gsm8k_gpt4.json", "gsm8k.mine.json"}


def test_another_model_makes_a_number_under_another_name_without_a_price(tmp_path: Path) -> None:
    with stub.serving(lambda r, _: (200, stub.completion(perfect(r), model="llama-3"))) as server:
        score = judged(tmp_path, server.url, model="llama-3")
    assert server.requests[0]["model"] == "llama-3"
    assert score["scorer"]["name"] == "gsm8k_gpt4-llama-3"
    assert score["detail"]["cost"] is None


def test_the_limit_of_answers_can_be_raised_and_only_the_rest_is_asked(tmp_path: Path) -> None:
    with stub.serving(perfect) as server:
        assert judged(tmp_path, server.url, limit=5)["n"] == 5
        assert judged(tmp_path, server.url)["n"] == 12
    assert len(server.requests) == 12


def test_out_of_money_keeps_what_is_judged_and_goes_on_with_more(tmp_path: Path) -> None:
    with stub.serving(perfect) as server:
        whole = estimate_gsm8k(write_plain(tmp_path / "plain.jsonl", N), "gsm8k_gpt4", settings=settings(server.url))
        assert whole.worst_cost is not None
        with pytest.raises(OutOfBudget):
            judged(tmp_path, server.url, max_cost=whole.worst_cost / N * Decimal("1.1"))
        assert 0 < len(items(tmp_path)) < 12
        before = len(server.requests)
        assert not score_path(tmp_path / "out", "gsm8k", "gsm8k_gpt4").exists()  # no number over a part
        score = judged(tmp_path, server.url, max_cost=whole.worst_cost)
    assert score["n"] == 12
    assert 0 < before < 12
    assert len(server.requests) == 12


def test_an_account_without_quota_stops_the_run_and_keeps_what_is_judged(tmp_path: Path) -> None:
    with stub.serving(perfect) as server:
        server.chat = lambda r, number: perfect(r) if number < 5 else (429, stub.error("no", "insufficient_quota"))
        with pytest.raises(StopRun, match="quota"):
            judged(tmp_path, server.url)
        server.chat = perfect
        judged(tmp_path, server.url)
    assert len(set(server.texts())) == 12
    assert len(items(tmp_path)) == 12


def test_an_estimate_counts_what_is_to_be_asked_and_asks_nobody(tmp_path: Path) -> None:
    samples = write_plain(tmp_path / "plain.jsonl", N)
    with stub.serving(perfect) as server:
        here = settings(server.url)
        before = estimate_gsm8k(samples, "gsm8k_gpt4", settings=here, votes=3)
        half = estimate_gsm8k(samples, "gsm8k_gpt4", settings=settings(server.url, batch=True), votes=3)
        assert server.requests == []
        score = judged(tmp_path, server.url, votes=3)
        after = estimate_gsm8k(samples, "gsm8k_gpt4", settings=here, votes=3)
    assert (before.answers, before.requests, before.known) == (12, 36, 0)
    assert (after.requests, after.known) == (0, 36)
    assert after.cost == 0
    assert before.cost is not None
    assert before.worst_cost is not None
    assert half.cost == before.cost / 2
    assert before.cost < before.worst_cost
    assert Decimal(str(score["detail"]["cost"])) <= before.worst_cost
    assert estimate_gsm8k(samples, "exact").cost == 0


def test_without_resuming_everything_is_settled_anew_and_nothing_is_asked(tmp_path: Path) -> None:
    with stub.serving(perfect) as server:
        first = judged(tmp_path, server.url)
        path = items_path(tmp_path / "out", "gsm8k", "gsm8k_gpt4")
        path.write_text(path.read_text().replace('"value": 1.0', '"value": 0.0'))
        assert judged(tmp_path, server.url)["value"] == 0
        assert judged(tmp_path, server.url, resume=False) == first
    assert len(server.requests) == 12


def test_an_exception_at_one_answer_is_that_answers_alone_and_the_next_run_mends_it(tmp_path: Path) -> None:
    from della_bench.judging.gsm8k import votes
    from della_bench.judging.gsm8k.verdict import read_tag as real

    def broken(text: str, labels: Any) -> str | None:
        if text.startswith("item 4"):
            raise ZeroDivisionError("a bug")
        return real(text, labels)

    def chat(request: dict[str, Any], number: int) -> str:
        return ("item 4 " if "What is 4 " in request["messages"][1]["content"] else "") + perfect(request)

    with stub.serving(chat) as server:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(votes, "read_tag", broken)
            score = judged(tmp_path, server.url)
        assert (score["n"], score["detail"]["unscored"]) == (11, {"error": 1})
        assert items(tmp_path)[4]["explanation"] == "ZeroDivisionError: a bug"
        assert judged(tmp_path, server.url)["n"] == 12
    assert len(server.requests) == 12


def test_an_exception_at_every_answer_stops_the_run_and_nothing_is_paid_for_again(tmp_path: Path) -> None:
    from della_bench.judging.gsm8k import votes

    def broken(*_: object) -> None:
        raise ZeroDivisionError("a bug")

    with stub.serving(perfect) as server:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(votes, "read_tag", broken)
            with pytest.raises(JudgeError, match=r"20 answers in a row could not be judged.*ZeroDivisionError: a bug"):
                judged(tmp_path, server.url, n=60)
        paid = len(server.requests)
        assert paid < 30
        assert judged(tmp_path, server.url, n=60)["n"] == 60
    assert len(server.requests) == 60


def test_without_a_key_no_file_is_made(tmp_path: Path) -> None:
    with pytest.raises(JudgeError, match="OPENAI_API_KEY"):
        judged(tmp_path, "https://api.openai.com/v1")
    assert not (tmp_path / "out" / "scores").exists()


def test_two_at_once_in_one_folder_are_refused(tmp_path: Path) -> None:
    seen: list[str] = []

    def chat(request: dict[str, Any], _: int) -> str:
        if not seen:
            seen.append("busy")
            with pytest.raises(JudgeError, match="another process"):
                judged(tmp_path, server.url)
        return perfect(request)

    with stub.serving(chat) as server:
        assert judged(tmp_path, server.url)["n"] == 12


def test_a_full_disk_stops_the_run_and_loses_nothing_that_was_paid_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from della_bench import jsonfiles

    real = jsonfiles.RowLog.append

    def full(log: jsonfiles.RowLog, row: Any) -> None:
        if len(server.requests) > 4:
            raise OSError(28, "No space left on device")
        real(log, row)

    with stub.serving(perfect) as server:
        monkeypatch.setattr(jsonfiles.RowLog, "append", full)
        with pytest.raises(JudgeError, match="No space left"):
            judged(tmp_path, server.url)
        assert len(server.requests) < 12
        monkeypatch.setattr(jsonfiles.RowLog, "append", real)
        assert judged(tmp_path, server.url)["n"] == 12
    assert len(server.requests) == 12


def test_a_torn_row_of_a_killed_run_is_made_again(tmp_path: Path) -> None:
    with stub.serving(perfect) as server:
        first = judged(tmp_path, server.url)
        path = items_path(tmp_path / "out", "gsm8k", "gsm8k_gpt4")
        path.write_bytes(path.read_bytes()[:-40])
        assert judged(tmp_path, server.url) == first
    assert len(server.requests) == 12


def test_the_rule_asks_nobody_and_counts_what_is_announced(tmp_path: Path) -> None:
    rows = plain_rows(6)
    rows[1]["response"] = "It is 2."  # announces nothing
    rows[2]["target"] = "no number at all"
    score = judge_gsm8k(write_rows(tmp_path / "plain.jsonl", rows), tmp_path / "out")
    assert score["scorer"] == {"name": "exact", "version": score["scorer"]["version"], "model": None}
    assert (score["detail"]["correct"], score["detail"]["incorrect"]) == (2, 3)
    assert score["detail"]["unscored"] == {"reference": 1}
    assert "cost" not in score["detail"]
    found = items(tmp_path, "exact")
    assert [row["value"] for row in found] == [0.0, 0.0, None, 0.0, 1.0, 1.0]
    assert found[4]["answer"] == "8"
    assert score["detail"]["flexible-extract"]["agreement"]["n"] == 5


def test_nothing_scored_has_no_value(tmp_path: Path) -> None:
    with stub.serving(lambda *_: "no verdict") as server:
        score = judged(tmp_path, server.url, n=2)
    assert (score["value"], score["interval"], score["n"], score["unscored"]) == (None, None, 0, 2)
    assert score["detail"]["bounds"] == [0, 100]
    assert score["detail"]["strict-match"]["agreement"]["kappa"] is None


def test_the_end_of_a_model_is_announced_as_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    mine = Path(shutil.copytree(folder("judges") / "gsm8k_gpt4", tmp_path / "old"))
    text = (mine / "judge.yaml").read_text().replace("ends: 2027-01-14", "ends: 2020-01-01")
    (mine / "judge.yaml").write_text(text)
    with stub.serving(perfect) as server:
        judged(tmp_path, server.url, judge=str(mine))
    assert "2020-01-01" in caplog.text


def test_it_judges_where_an_event_loop_runs_already_as_in_a_notebook(tmp_path: Path) -> None:
    with stub.serving(perfect) as server:
        score = as_in_a_notebook(lambda: judged(tmp_path, server.url))
        assert judged(tmp_path, server.url) == score  # the file of answers is whole, and there for anybody
        assert len(server.texts()) == N
    assert score["n"] - score["unscored"] == N

from __future__ import annotations

import json
from pathlib import Path

import pytest

from della_bench.errors import DataError
from della_bench.judging.gsm8k.read import DOCUMENTS, read_answers
from tests.judging.problems import plain_rows, sample_rows, write_plain, write_rows


def test_samples_are_taken_by_document_and_filter_with_the_metrics_that_were_logged(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "samples_gsm8k.jsonl", list(reversed(sample_rows(6))))
    found = read_answers(path)
    assert [answer.doc_id for answer in found.answers] == list(range(6))
    assert [answer.response for answer in found.answers] == [row["response"] for row in plain_rows(6)]
    assert found.answers[1].doc_hash == "hash1"
    assert found.sources == {"strict-match": "logged", "flexible-extract": "logged"}
    assert [answer.metrics["flexible-extract"] for answer in found.answers] == [False, True, True] * 2
    assert not any(answer.metrics["strict-match"] for answer in found.answers)


def test_the_array_of_older_releases_reads_the_same(tmp_path: Path) -> None:
    new = read_answers(write_rows(tmp_path / "samples.jsonl", sample_rows(6)))
    rows = sample_rows(6)
    for row in rows:
        del row["filter"], row["doc_hash"]
    old = tmp_path / "gsm8k.json"
    old.write_text(json.dumps(rows, indent=2))
    found = read_answers(old)
    assert [(a.doc_id, a.question, a.response, a.metrics) for a in found.answers] == [
        (a.doc_id, a.question, a.response, a.metrics) for a in new.answers
    ]
    assert found.sources == new.sources


def test_a_metric_that_was_not_logged_is_computed_and_said_to_be(tmp_path: Path) -> None:
    found = read_answers(write_rows(tmp_path / "s.jsonl", sample_rows(6, filters=("answer-is", "strict-match"))))
    assert found.sources == {"strict-match": "logged", "flexible-extract": "computed"}
    assert [answer.metrics["flexible-extract"] for answer in found.answers] == [False, True, True] * 2


def test_plain_rows_need_no_document_ids(tmp_path: Path) -> None:
    rows = [{key: row[key] for key in ("question", "target", "response")} for row in plain_rows(4)]
    found = read_answers(write_rows(tmp_path / "plain.jsonl", rows))
    assert [answer.doc_id for answer in found.answers] == [0, 1, 2, 3]
    assert set(found.sources.values()) == {"computed"}
    assert found.answers[1].metrics == {"strict-match": True, "flexible-extract": True}


def test_what_is_missing_and_repeated_is_counted_against_the_data_set(tmp_path: Path) -> None:
    rows = plain_rows(5)
    rows[4]["question"] = rows[1]["question"]
    del rows[2]
    found = read_answers(write_rows(tmp_path / "plain.jsonl", rows))
    assert found.missing[:2] == [2, 5]
    assert len(found.missing) == DOCUMENTS - 4
    assert found.repeated == 1
    assert "1315 of GSM8K's 1319 documents are missing and 1 problems are repeated" in (found.remark or "")


def test_a_file_of_mostly_empty_responses_has_a_remark(tmp_path: Path) -> None:
    rows = plain_rows(5)
    for row in rows[:3]:
        row["response"] = " \n"
    assert "and 3 of 5 responses are empty" in (read_answers(write_rows(tmp_path / "plain.jsonl", rows)).remark or "")


def test_a_whole_file_has_no_remark(tmp_path: Path) -> None:
    assert read_answers(write_plain(tmp_path / "plain.jsonl", DOCUMENTS)).remark is None


def test_a_limit_takes_the_first_documents(tmp_path: Path) -> None:
    found = read_answers(write_rows(tmp_path / "plain.jsonl", list(reversed(plain_rows(5)))), limit=2)
    assert [answer.doc_id for answer in found.answers] == [0, 1]


def broken(change: str) -> list[dict]:
    rows = sample_rows(3, filters=("none",))
    if change == "another task":
        for row in rows:
            row["doc"], row["target"] = {"text": "Write a function"}, "def f(): ..."
    elif change == "answers without the mark":
        for row in rows:
            row["doc"]["answer"] = row["target"] = "Paris"
    elif change == "twice":
        rows.append(dict(rows[1]))
    elif change == "two responses":
        rows[1]["resps"] = [["one", "two"]]
    elif change == "no generation":
        rows[1]["resps"] = [[[-1.5, True]]]
    return rows


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("another task", "line 1: doc_id 0: not a document of GSM8K"),
        ("answers without the mark", "not a document of GSM8K"),
        ("twice", "line 4: doc_id 1, filter 'none' stood in line 2 already"),
        ("two responses", "line 2: doc_id 1: 2 responses"),
        ("no generation", "line 2: doc_id 1"),
    ],
)
def test_what_is_no_answer_to_gsm8k_is_refused_with_its_line(tmp_path: Path, change: str, expected: str) -> None:
    with pytest.raises(DataError) as caught:
        read_answers(write_rows(tmp_path / "samples.jsonl", broken(change)))
    assert expected in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([], "no rows"),
        ([{"a": 1}], "neither samples of lm-eval"),
        ([{**plain_rows(1)[0], "target": 18}], "line 1: 'target' must be there and be text"),
        ([{**plain_rows(1)[0], "doc_id": "x"}], "doc_id must be a number"),
        (plain_rows(1) * 2, "line 2: doc_id 0 stood there already"),
    ],
)
def test_a_plain_file_with_a_fault_is_refused_with_its_line(tmp_path: Path, rows: list, expected: str) -> None:
    with pytest.raises(DataError) as caught:
        read_answers(write_rows(tmp_path / "plain.jsonl", rows))
    assert expected in str(caught.value)

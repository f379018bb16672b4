"""The loaders of the real data sets, on small files of their own."""

from __future__ import annotations

import json
from pathlib import Path

import datasets
import pytest

from della_bench.benchmarks import BENCHMARKS
from della_bench.data import load
from della_bench.errors import DataError

ROWS = [{"question": "1 + 1?", "answer": "#### 2"}, {"question": "2 + 2?", "answer": "#### 4"}]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("DELLA_BENCH_DATA", str(tmp_path))
    return tmp_path


def write(folder: Path, *lines: str) -> None:
    (folder / "gsm8k_test.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_rows_come_from_the_folder_in_their_order_and_with_the_known_fields_only(folder):
    write(folder, *(json.dumps({**row, "extra": 1}) for row in ROWS))
    assert list(load("gsm8k")) == ROWS


def test_the_folder_is_read_anew_at_each_call(folder, monkeypatch, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    write(folder, json.dumps(ROWS[0]))
    write(other, json.dumps(ROWS[1]))
    assert list(load("gsm8k")) == ROWS[:1]
    monkeypatch.setenv("DELLA_BENCH_DATA", str(other))
    assert list(load("gsm8k")) == ROWS[1:]


def test_blank_lines_are_no_rows_and_a_line_separator_in_a_text_ends_no_line(folder):
    row = {"question": "one\u2028two\u0085three", "answer": "#### 3"}
    write(folder, "", json.dumps(row, ensure_ascii=False), "")
    assert list(load("gsm8k")) == [row]


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ('{"question": "1 + 1?"}', "no field 'answer' (it has: 'question')"),
        ('{"question": "1 + 1?", "answer": 2}', "field 'answer' must be str, got int"),
    ],
)
def test_a_malformed_line_is_named_by_file_number_and_fault(folder, line, fault):
    write(folder, json.dumps(ROWS[0]), line)
    with pytest.raises(DataError) as caught:
        load("gsm8k")
    assert str(caught.value).startswith(f"{folder / 'gsm8k_test.jsonl'}, row 2: {fault}")
    assert caught.value.exit_code == 2


def test_an_empty_file_is_an_error(folder):
    write(folder, "")
    with pytest.raises(DataError, match="holds no rows"):
        load("gsm8k")


@pytest.mark.parametrize(("benchmark", "part"), [(row.name, part) for row in BENCHMARKS.values() for part in row.data])
def test_a_missing_file_says_what_was_tried_why_it_failed_and_both_ways(folder, benchmark, part):
    with pytest.raises(DataError) as caught:
        load(benchmark, part)
    source, message = BENCHMARKS[benchmark].data[part], str(caught.value)
    first, *ways = message.splitlines()
    assert f"DELLA_BENCH_DATA is set, but there is no file {folder / source.file}" in first
    assert f"set DELLA_BENCH_DATA to a folder that holds {source.file}" in ways[0]
    assert source.hub in ways[1]
    assert "HF_HUB_OFFLINE" in ways[1]
    assert caught.value.exit_code == 2


def test_the_folder_is_the_only_place_where_it_is_named(folder, monkeypatch):
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: pytest.fail("asked the hub"))
    with pytest.raises(DataError):
        load("gsm8k")


@pytest.mark.parametrize("value", [None, ""])
def test_without_a_folder_the_hub_is_asked_for_the_row_of_the_table(monkeypatch, value):
    monkeypatch.delenv("DELLA_BENCH_DATA", raising=False)
    if value is not None:
        monkeypatch.setenv("DELLA_BENCH_DATA", value)
    asked = []

    def load_dataset(*args, **kwargs):
        asked.append((args, kwargs))
        return datasets.Dataset.from_list([{**row, "extra": 1} for row in ROWS])

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert list(load("gsm8k")) == ROWS
    assert asked == [(("openai/gsm8k", "main"), {"split": "test"})]


def test_a_hub_out_of_reach_is_one_error_with_the_reason_on_its_first_line(monkeypatch):
    monkeypatch.delenv("DELLA_BENCH_DATA", raising=False)

    def load_dataset(*_, **__):
        raise ConnectionError("no route\nto the hub")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(DataError) as caught:
        load("gsm8k")
    first = str(caught.value).splitlines()[0]
    assert first == (
        "no data for gsm8k: loading openai/gsm8k (test, config main) from the hub failed: no route to the hub"
    )
    assert isinstance(caught.value.__cause__, ConnectionError)
    assert caught.value.exit_code == 1


def test_a_hub_data_set_without_a_field_is_an_error(monkeypatch):
    monkeypatch.delenv("DELLA_BENCH_DATA", raising=False)
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: datasets.Dataset.from_list([{"question": "1 + 1?"}]))
    with pytest.raises(DataError, match="no field 'answer'"):
        load("gsm8k")


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("benchmark", "part", "rows"),
    [
        ("gsm8k", "test", 1319),
        ("gsm8k", "train", 7473),
        ("mbpp", "test", 500),
        ("mbpp", "validation", 90),
        ("mbpp", "train", 374),
        ("humaneval", "test", 164),
        ("alpaca_eval", "test", 805),
    ],
)
def test_the_real_file_has_all_problems(benchmark, part, rows):
    assert len(load(benchmark, part)) == rows


def test_a_split_of_a_file_with_several_has_its_own_rows_alone(folder):
    def row(number: int) -> dict[str, object]:
        lists = {"test_list": ["assert 1"], "challenge_test_list": ["assert 1"]}
        return {"task_id": number, "text": "", "code": "", "test_setup_code": "", **lists}

    lines = "".join(json.dumps(row(number)) + "\n" for number in (510, 511, 600, 601, 974))
    (folder / "mbpp_train_validation.jsonl").write_text(lines)
    assert load("mbpp", "validation")["task_id"] == [511, 600]
    assert load("mbpp", "train")["task_id"] == [601, 974]

from __future__ import annotations

import json

import pytest

from della_bench.errors import DataError
from della_bench.results.schema import (
    Score,
    items_path,
    read_items,
    read_provenance,
    read_score,
    score_path,
    write_score,
)

ITEM = {
    "schema": 1,
    "doc_id": 17,
    "doc_hash": "ab",
    "filter": "none",
    "value": None,
    "verdict": "sandbox",
    "answer": "",
    "explanation": "",
}


def score() -> Score:
    return Score(
        schema=1,
        benchmark="mbpp",
        metric="pass@1",
        value=31.4,
        interval=[27.4, 35.6],
        n=500,
        unscored=0,
        scorer={"name": "sandbox", "version": "1", "model": None},
        detail={},
    )


def test_a_score_comes_back_as_it_was_written(tmp_path):
    path = write_score(tmp_path, score())
    assert path == score_path(tmp_path, "mbpp", "sandbox") == tmp_path / "scores" / "mbpp.sandbox.json"
    assert read_score(path) == score()


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"schema": 2}, "schema 2, and della-bench .* written by a later release"),
        ({"schema": "x"}, "no file of della-bench"),
        ({"value": float("nan")}, "must be finite"),
        ({"interval": [1.0, float("inf")]}, "must be finite"),
        ({"interval": [1.0]}, "low, high"),
        ({"n": "500", "metric": None}, "'metric' must be str, got NoneType; 'n' must be int, got str"),
        ({"scorer": {"name": "x"}}, "no 'version'; no 'model'"),
    ],
)
def test_a_score_that_is_none_is_an_error_that_names_the_fault(tmp_path, changes, fault):
    path = tmp_path / "x.json"
    path.write_text(json.dumps({**score(), **changes}))
    with pytest.raises(DataError, match=fault):
        read_score(path)


def test_items_name_the_line_of_a_fault(tmp_path):
    path = items_path(tmp_path, "mbpp", "sandbox")
    path.parent.mkdir()
    path.write_text(json.dumps(ITEM) + "\n" + json.dumps({**ITEM, "value": float("nan")}) + "\n")
    rows = read_items(path)
    assert next(rows) == ITEM
    with pytest.raises(DataError, match="line 2: value must be a finite number"):
        next(rows)


def test_provenance_of_another_schema_or_with_keys_missing_is_an_error(tmp_path):
    path = tmp_path / "provenance.json"
    for value, fault in (({"schema": 3}, "schema 3"), ({"schema": 1, "name": "x"}, "no 'spec'"), ([], "JSON object")):
        path.write_text(json.dumps(value))
        with pytest.raises(DataError, match=fault):
            read_provenance(path)

from __future__ import annotations

import json

import pytest

from della_bench.errors import DataError
from della_bench.results.samples import choose_filter, read_samples


def row(doc_id: int, name: str = "none", **changes):
    return {
        "doc_id": doc_id,
        "doc": {"question": "1 + 1?"},
        "target": "2",
        "resps": [["two"]],
        "filtered_resps": ["2"],
        "filter": name,
        "doc_hash": f"hash{doc_id}",
        **changes,
    }


def write(path, *rows):
    path.write_text("".join(json.dumps(each) + "\n" for each in rows))
    return path


def test_samples_are_sorted_by_filter_and_document(tmp_path):
    path = write(tmp_path / "x", row(1, "b"), row(0, "b"), row(1, "a"), row(0, "a"))
    assert [(sample.filter, sample.doc_id) for sample in read_samples(path)] == [("b", 0), ("b", 1), ("a", 0), ("a", 1)]


def test_the_array_of_older_releases_reads_the_same(tmp_path):
    path = write(tmp_path / "x", row(0), row(1))
    (tmp_path / "old").write_text(json.dumps([row(0), row(1)]))
    strip = [(sample.doc_id, sample.responses) for sample in read_samples(path)]
    assert [(sample.doc_id, sample.responses) for sample in read_samples(tmp_path / "old")] == strip


@pytest.mark.parametrize(
    ("rows", "fault"),
    [
        ([], "no samples"),
        ([row(0), row(0)], "line 2: doc_id 0, filter 'none' stood in line 1 already"),
        ([{"a": 1}], "line 1: no sample of lm-eval"),
        ([row(0, resps=[])], "doc_id 0: resps hold no generated text"),
        ([row(0, resps=[[[-1.5, True]]])], "resps hold no generated text"),
    ],
)
def test_a_file_that_holds_no_samples_is_an_error(tmp_path, rows, fault):
    with pytest.raises(DataError, match=fault):
        read_samples(write(tmp_path / "x", *rows))


def test_a_null_that_a_server_sent_in_the_place_of_a_text_is_an_empty_one(tmp_path):
    path = write(tmp_path / "x", row(0, resps=[[None]]), row(1, resps=[["a"]]))
    assert [sample.responses for sample in read_samples(path)] == [[""], ["a"]]


def test_filters_over_the_same_responses_need_no_choice_and_others_do(tmp_path):
    same = read_samples(write(tmp_path / "x", row(0, "a"), row(0, "b")))
    assert [sample.filter for sample in choose_filter(tmp_path, same)] == ["a"]
    differing = read_samples(write(tmp_path / "x", row(0, "a"), row(0, "b"), row(1, "b")))
    with pytest.raises(DataError, match="different documents or responses: choose one"):
        choose_filter(tmp_path, differing)
    assert len(choose_filter(tmp_path, differing, "b")) == 2
    with pytest.raises(DataError, match="no rows of filter 'c'"):
        choose_filter(tmp_path, differing, "c")

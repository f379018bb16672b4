from __future__ import annotations

import math

import pytest

from della_bench.errors import DataError
from della_bench.results.likelihood import share_of
from della_bench.results.logged import logged_items, logged_metric, score_logged
from della_bench.results.schema import read_items, read_score, score_path
from tests.results.making import sample, write_rows

RESULT = {"alias": "x", "exact_match,strict-match": 0.5, "exact_match_stderr,strict-match": 0.1, "acc,none": 0.2}


def test_the_first_metric_of_each_filter_is_the_tasks_number():
    assert logged_metric({**RESULT, "f1,strict-match": 1.0}) == {"strict-match": "exact_match", "none": "acc"}


def test_a_metric_that_is_not_to_be_high_is_no_share_of_right_answers():
    assert logged_metric({"answer_length,none": 812.5, "acc,none": 0.5}, {"answer_length": None}) == {"none": "acc"}
    assert logged_metric({"answer_length,none": 812.5}, {"answer_length": False}) == {}
    assert logged_metric({"f1,none": 0.5, "em,none": 0.2}, {"f1": None, "em": None}) == {"none": "f1"}
    assert logged_metric({"bypass,none": 999.0}) == {}


def test_perplexities_alone_give_the_inverse_of_one_and_beside_a_share_none():
    low = {"word_perplexity": False, "bits_per_byte": False, "perplexity": False}
    assert logged_metric({"word_perplexity,none": 12.0, "bits_per_byte,none": 1.0}, low) == {
        "none": "1/byte_perplexity"
    }
    assert logged_metric({"perplexity,none": 12.0}, low) == {"none": "1/perplexity"}
    assert logged_metric({"perplexity,none": 12.0, "acc,none": 0.5}, low) == {"none": "acc"}


@pytest.mark.parametrize(
    ("logged", "metric", "share"),
    [
        ({"byte_perplexity": [-4.0, 8]}, "1/byte_perplexity", math.exp(-0.5)),
        ({"bits_per_byte": [-4.0, 8]}, "1/byte_perplexity", math.exp(-0.5)),
        ({"perplexity": -2.0}, "1/perplexity", math.exp(-2)),
        ({"byte_perplexity": [-4.0, 0]}, "1/byte_perplexity", None),
        ({}, "1/byte_perplexity", None),
        ({"acc": 1}, "acc", 1),
    ],
)
def test_the_inverse_of_a_perplexity_is_the_mean_probability_of_a_byte(logged, metric, share):
    assert share_of(logged, metric) == (share if share is None else pytest.approx(share))


def test_a_task_gets_a_score_for_each_filter_with_its_items(tmp_path):
    path = tmp_path / "samples_gsm8k_cot_zeroshot_alpaca_1.jsonl"
    rows = [sample(i, float(i == 0), "", "exact_match", "strict-match") for i in (1, 0)]
    write_rows(path, rows + [sample(i, 1.0, "", "acc") for i in (0, 1)])
    scores = score_logged(path, tmp_path, "gsm8k_cot_zeroshot_alpaca", RESULT, "1.0")
    assert [(each["scorer"]["name"], each["value"]) for each in scores] == [
        ("lm_eval-strict-match", 50.0),
        ("lm_eval", 100.0),
    ]
    assert read_score(score_path(tmp_path, "gsm8k", "lm_eval")) == scores[1]
    items = list(read_items(tmp_path / "scores" / "gsm8k.lm_eval-strict-match.items.jsonl"))
    assert [(item["doc_id"], item["value"], item["verdict"]) for item in items] == [
        (0, 1.0, "right"),
        (1, 0.0, "wrong"),
    ]


def test_shares_between_right_and_wrong_get_students_interval(tmp_path):
    write_rows(tmp_path / "x", [sample(i, value, "", "acc") for i, value in enumerate([0.25, 0.5, 0.75])])
    (score,) = score_logged(tmp_path / "x", tmp_path, "task", {"acc,none": 0.5}, "1")
    assert score["value"] == 50.0
    assert score["interval"] == [0.0, 100.0]  # beyond which there is no share
    write_rows(tmp_path / "x", [sample(i, value, "", "acc") for i, value in enumerate([0.45, 0.5, 0.55])])
    (score,) = score_logged(tmp_path / "x", tmp_path, "task", {"acc,none": 0.5}, "1")
    assert score["interval"] == pytest.approx([50 - 4.3027 * 2.8868, 50 + 4.3027 * 2.8868], abs=0.01)


@pytest.mark.parametrize(
    ("rows", "fault"),
    [
        ([sample(0, 1.0, "", "acc"), sample(0, 1.0, "", "acc")], "doc_id 0, filter 'none' stands there twice"),
        ([sample(0, 12.5, "", "acc")], "acc is 12.5, not a share"),
        ([{**sample(0, 1.0, "", "acc"), "acc": "1"}], "acc must be a number, got str"),
        ([{"doc_id": True}], "doc_id is missing"),
        ([sample(0, 1.0, "", "acc", "other")], "no samples of filter 'none'"),
        ([], "no samples of filter"),
    ],
)
def test_what_is_no_logged_value_is_an_error_that_names_the_line(tmp_path, rows, fault):
    write_rows(tmp_path / "x", rows)
    with pytest.raises(DataError, match=fault):
        logged_items(tmp_path / "x", "acc", "none")


def test_a_task_without_a_metric_needs_a_scorer(tmp_path):
    with pytest.raises(DataError, match="logged no metric for task"):
        score_logged(tmp_path / "x", tmp_path, "task", {"alias": "task"}, "1")

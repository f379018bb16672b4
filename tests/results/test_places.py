"""Whose a score is: no input's score is ever put in the place of another's."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from della_bench.results.logged import score_logged
from della_bench.results.places import place_score, score_file, whose
from della_bench.results.schema import Scorer, read_score, write_score
from della_bench.results.store import find_evaluations
from tests.results.making import plain_folder

FIRST, SECOND = "2026-01-01T00-00-00.000000", "2026-01-02T00-00-00.000000"


def answers(path, text):
    path.write_text(text)
    return path


def scored(out, place):
    """Write a score as a scorer of `place` does."""
    return write_score(
        out,
        {
            "schema": 1, "benchmark": "mbpp", "metric": "pass@1", "value": 1.0, "interval": None, "n": 1, "unscored": 0,
            "scorer": Scorer(name="sandbox", version="1", model=None), "detail": {"place": place},
        },
        place,
    )  # fmt: skip


def test_the_first_input_has_the_plain_name_and_keeps_it_however_often_it_is_scored(tmp_path):
    one = answers(tmp_path / "one.json", "1")
    assert place_score(tmp_path, "mbpp", "sandbox", one) == "sandbox"
    scored(tmp_path, "sandbox")
    assert place_score(tmp_path, "mbpp", "sandbox", one) == "sandbox"


def test_another_input_gets_a_name_that_tells_whose_it_is_the_same_one_each_time(tmp_path):
    one, two = answers(tmp_path / "one.json", "1"), answers(tmp_path / "two.json", "2")
    place_score(tmp_path, "mbpp", "sandbox", one)
    other = place_score(tmp_path, "mbpp", "sandbox", two)
    assert other.startswith("sandbox.two-")
    assert place_score(tmp_path, "mbpp", "sandbox", two) == other
    assert place_score(tmp_path, "mbpp", "sandbox", one) == "sandbox"


def test_changed_answers_are_another_input_unless_replacing_is_asked_for(tmp_path):
    one = answers(tmp_path / "one.json", "1")
    place_score(tmp_path, "mbpp", "sandbox", one)
    scored(tmp_path, "sandbox")
    answers(one, "changed")
    assert place_score(tmp_path, "mbpp", "sandbox", one) != "sandbox"
    assert place_score(tmp_path, "mbpp", "sandbox", one, replace=True) == "sandbox"
    assert place_score(tmp_path, "mbpp", "sandbox", one) == "sandbox"


def test_samples_side_by_side_are_each_called_by_their_model(tmp_path):
    for name, time in (("ties", FIRST), ("della", SECOND)):
        plain_folder(tmp_path, name, {"mbpp_alpaca": [1.0]}, time=time)
    places = [
        place_score(tmp_path, "mbpp", "sandbox", tmp_path / f"samples_mbpp_alpaca_{time}.jsonl")
        for time in (FIRST, SECOND)
    ]
    assert places[0].startswith("sandbox.ties-")
    assert places[1].startswith("sandbox.della-")


def test_a_score_of_an_earlier_release_is_found_by_its_samples_name(tmp_path):
    one, two = answers(tmp_path / "one.json", "1"), answers(tmp_path / "two.json", "2")
    path = scored(tmp_path, "sandbox")
    old = {key: value for key, value in json.loads(path.read_text()).items() if key != "digest"}
    path.write_text(json.dumps({**old, "detail": {"samples": "one.json"}}))
    assert place_score(tmp_path, "mbpp", "sandbox", two) != "sandbox"
    assert place_score(tmp_path, "mbpp", "sandbox", one) == "sandbox"


def test_a_folder_of_one_model_has_the_plain_name_for_its_latest_samples_and_no_other_models(tmp_path):
    one, two = answers(tmp_path / "one.json", "1"), answers(tmp_path / "two.json", "2")
    assert place_score(tmp_path, "mbpp", "sandbox", one, model="a" * 64) == "sandbox"
    assert place_score(tmp_path, "mbpp", "sandbox", two, model="a" * 64) == "sandbox"
    assert place_score(tmp_path, "mbpp", "sandbox", two, model="b" * 64) == f"sandbox.two-{'b' * 8}"


def test_of_several_at_once_one_gets_the_plain_name(tmp_path):
    count, turns = 4, 40
    inputs = [answers(tmp_path / f"{number}.json", str(number)) for number in range(count)]
    together = threading.Barrier(count)

    def place(turn, samples):
        together.wait()
        return place_score(tmp_path, f"task{turn}", "sandbox", samples)

    with ThreadPoolExecutor(count) as pool:
        for turn in range(turns):
            found = list(pool.map(partial(place, turn), inputs))
            assert len(set(found)) == count
            assert "sandbox" in found


@pytest.mark.parametrize("torn", ["", '{"samples": "on'])
def test_a_claim_that_a_kill_has_torn_stops_nothing(tmp_path, torn):
    one = answers(tmp_path / "one.json", "1")
    (tmp_path / "scores").mkdir()
    (tmp_path / "scores" / "mbpp.sandbox.input").write_text(torn)
    place = place_score(tmp_path, "mbpp", "sandbox", one)
    assert place_score(tmp_path, "mbpp", "sandbox", one) == place


def test_whose_samples_are_is_read_from_the_results_beside_them(tmp_path):
    folder = plain_folder(tmp_path / "qdpv68r5", "della", {"zoo_math": [1.0]}, time=FIRST)
    known = whose(folder / f"samples_zoo_math_{FIRST}.jsonl")
    assert known is not None
    assert known.name == "della"
    assert whose(answers(tmp_path / "samples.jsonl", "")) is None


def test_the_leaderboard_gives_each_of_two_scores_of_one_folder_to_its_own_model(tmp_path):
    values = {"ties": [1.0, 0.0], "della": [1.0, 1.0]}
    for (name, each), time in zip(values.items(), (FIRST, SECOND), strict=True):
        plain_folder(tmp_path, name, {"zoo_math": each}, time=time)
        samples = tmp_path / f"samples_zoo_math_{time}.jsonl"
        result = {"exact_match,none": 0.5}
        (score,) = score_logged(samples, tmp_path, "zoo_math", result, "1", model=f"{name:x<64}")
        assert read_score(score_file(tmp_path, score)) == score
    faults: list[str] = []
    found = {
        evaluation.who.name: {number.score["value"] for number in evaluation.numbers if number.score}
        for evaluation in find_evaluations([tmp_path], faults)
    }
    assert (faults, found) == ([], {"ties": {50.0}, "della": {100.0}})

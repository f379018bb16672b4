from __future__ import annotations

import math

import pytest

from della_bench.errors import SpecError
from della_bench.search.objective import read_goal, read_keep
from della_bench.search.settings import read_duration, read_settings

TWO = {"benchmarks": ["a", "b"]}


def test_the_command_line_wins_over_the_file():
    found = read_settings({**TWO, "trials": 5, "sampler": "gp"}, {"trials": 9, "sampler": None, "benchmarks": "b,c"})
    assert (found.trials, found.sampler, found.benchmarks) == (9, "gp", ("b", "c"))


def test_there_are_sixty_candidates_unless_another_budget_is_given():
    assert read_settings(TWO, {}).trials == 60
    assert read_settings(TWO, {"time": "2h"}).trials is None
    assert read_settings(TWO, {"sampler": "grid"}).trials is None


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("1.5m", 90), ("2h", 7200), ("1d", 86_400)])
def test_times_are_read_with_their_units(text, seconds):
    assert read_duration(text) == seconds


def test_every_fault_of_the_settings_is_told():
    wrong = {
        "benchmarks": ["a", "b"],
        "sampler": "tpee",
        "trials": 0,
        "time": "0h",
        "race": {"alpha": 2},
        "items": {"serch": 3},
        "maximize": ["c"],
        "patiense": 3,
        "goal": "mean",
        "scorers": {"c": "exact"},
    }
    with pytest.raises(SpecError) as raised:
        read_settings(wrong, {})
    for told in (
        "no such sampler; did you mean 'tpe'?",
        "search.trials=0: a whole number of at least 1",
        "a budget of zero",
        "alpha is a chance between 0 and 1",
        "'serch' is neither a set of items nor a benchmark; did you mean 'search'?",
        "unknown objective 'c'",
        "search.patiense: unknown key; did you mean 'patience'?",
        "search.goal: unknown key; one of: benchmarks, keep",
        "'c' is none of the benchmarks",
    ):
        assert told in str(raised.value)


def test_where_the_benchmarks_are_wrong_nothing_is_said_of_what_names_them():
    with pytest.raises(SpecError) as raised:
        read_settings(
            {"benchmarks": ["a", "a"], "maximize": ["a"], "keep": {"a": -2}, "items": {"a": {"search": 1}}}, {}
        )
    assert raised.value.faults == ["search.benchmarks=['a', 'a']: one stands there twice"]


def test_a_benchmarks_items_are_by_set():
    with pytest.raises(SpecError, match="a: counts by set"):
        read_settings({**TWO, "items": {"a": 3}}, {})


def test_every_set_of_items_that_cannot_be_read_is_named():
    wrong = {"search": 0, "select": -3, "serch": 2, "a": {"test": {"count": 1.5}, "tset": 1}}
    with pytest.raises(SpecError) as raised:
        read_settings({**TWO, "items": wrong}, {})
    for told in ("search: a whole", "select: a whole", "'serch' is neither", "a: test: a whole", "a: 'tset' is no set"):
        assert told in str(raised.value)


def test_goals_are_a_mean_weights_or_several_numbers():
    means = {"a": 30.0, "b": 60.0}
    assert read_goal("mean", ["a", "b"]).values(means) == [45.0]
    assert read_goal({"a": 2, "b": 1}, ["a", "b"]).values(means) == [40.0]
    several = read_goal(["a", "b"], ["a", "b"])
    assert several.several
    assert several.values(means) == [30.0, 60.0]


@pytest.mark.parametrize("weights", [{"a": math.nan}, {"a": math.inf, "b": 1}, {"a": 1e308, "b": 1e308}, {"a": 0}, {}])
def test_weights_that_make_no_mean_are_refused(weights):
    with pytest.raises(ValueError, match="weights are finite numbers of at least 0, not all of them 0"):
        read_goal(weights, ["a", "b"])


def test_what_is_to_be_kept_names_a_row_and_points():
    assert read_keep({"a": -2, "b": "math + 1.5"}, ["a", "b"]) == (("a", "base", -2.0), ("b", "math", 1.5))
    assert read_keep({"a": "base - 2"}, ["a"]) == (("a", "base", -2.0),)


@pytest.mark.parametrize("wrong", [{"a": "a lot"}, {"c": -1}, {"a": True}, [1]])
def test_what_cannot_be_kept_is_refused(wrong):
    with pytest.raises(ValueError, match=r"write -2|unknown|may lose"):
        read_keep(wrong, ["a"])

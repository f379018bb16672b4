"""How a search is shown while it goes on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from della_bench.cli.search_watching import LiveSearch, SearchLines
from della_bench.search.candidate import Candidate, State
from della_bench.spec import MergeSpec
from tests.search.making import plan


@pytest.fixture(scope="module")
def shown_search(tmp_path_factory):
    return plan(tmp_path_factory.mktemp("search"))


def candidate(made, number: int) -> Candidate:
    return Candidate(made.example(), Path("x"), "proposed", number, seconds={"generate": 8.0})


def text(search: LiveSearch, width: int = 150) -> str:
    console = Console(width=width, color_system=None)
    with console.capture() as captured:
        console.print(search.render())
    return captured.get()


def test_each_worker_is_shown_with_its_candidate_its_bar_and_how_idle_it_was(shown_search):
    search = LiveSearch(shown_search)
    search.shared(lambda: {"worker 1 on a": 0.04, "worker 2 on b": 0.5})
    search.began(candidate(shown_search, 3), "search", "worker 1 on a")
    search.looked(candidate(shown_search, 3), 2, 4, 61.25, "worker 1 on a")
    search.working("answering", 3, 12, "worker 1 on a")
    lines = text(search)
    assert "worker 1 on a (4% idle): #3, block 2 of 4, 61.2 so far: answering 3/12" in lines
    assert ["worker", "2", "on", "b", "(50%", "idle)"] in [line.split() for line in lines.splitlines()]


@pytest.mark.parametrize("width", [80, 100])
def test_each_candidate_takes_one_line_however_long_its_name_and_its_reason(shown_search, width):
    long = {"weights": [0.8287, 0.849], "density": [0.4713, 0.5312], "lambda": 0.9393, "merge_method": "dare_ties"}
    spec = MergeSpec.parse({**shown_search.example().as_keys(), **long})
    search = LiveSearch(shown_search)
    for number in range(8):
        state: State = "failed" if number % 2 else "stopped"
        ended = replace(candidate(shown_search, number), spec=spec, state=state, reason="the tensor holds NaN " * 9)
        search.ended(ended, "search", None, None)
    search.began(replace(candidate(shown_search, 8), spec=spec), "search")
    search.working("answering", 3, 12)
    lines = text(search, width).splitlines()
    named = [line.split()[0] for line in lines if "dare_ties" in line]
    assert named[:8] == [f"#{number}" for number in range(8)]
    assert sum("stopped after" in line for line in lines) == 4
    assert [line for line in lines if "#8, search: answering 3/12: dare_ties" in line] == [lines[-1]]
    assert max(map(len, lines)) <= width


def test_the_seconds_of_a_set_of_items_are_its_own(shown_search, capsys):
    searched = candidate(shown_search, 3)
    tested = replace(searched, seconds={"generate": 10.5})
    for shown in (LiveSearch(shown_search), SearchLines(shown_search)):
        shown.began(replace(searched, seconds={}), "search")
        shown.ended(searched, "search", 50.0, None)
        shown.began(searched, "test")
        shown.ended(tested, "test", 60.0, None)
        lines = text(shown) if isinstance(shown, LiveSearch) else capsys.readouterr().err
        assert "50.0, 8.0 s" in lines
        assert "60.0, 2.5 s" in lines


def test_one_process_alone_is_no_worker(shown_search):
    search = LiveSearch(shown_search)
    search.began(candidate(shown_search, 3), "search")
    search.working("merging", 3, 12)
    assert "#3, search: merging 3/12" in text(search)
    assert "idle" not in text(search)
    search.ended(candidate(shown_search, 3), "search", 50.0, None)
    assert "merging" not in text(search)


def test_with_two_workers_the_end_comes_in_half_the_time(shown_search):
    noon = 1_800_000_000.0
    ends = []
    for workers in (1, 2):
        search = LiveSearch(shown_search, lambda: noon)
        ended = replace(candidate(shown_search, 0), state="failed", workers=workers, seconds={"generate": 1200.0})
        search.ended(ended, "search", None, None)
        ends.append(search.end())
    assert ends[0] != ends[1]
    assert replace(ended, workers=2).took == 600.0

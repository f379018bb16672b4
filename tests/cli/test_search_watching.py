"""How a search is shown while it goes on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from della_bench.cli.search_watching import LiveSearch
from della_bench.search.candidate import Candidate
from tests.search.making import plan


@pytest.fixture(scope="module")
def shown_search(tmp_path_factory):
    return plan(tmp_path_factory.mktemp("search"))


def candidate(made, number: int) -> Candidate:
    return Candidate(made.example(), Path("x"), "proposed", number, seconds={"generate": 8.0})


def text(search: LiveSearch) -> str:
    console = Console(width=150, color_system=None)
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

"""A search spread over workers, which need no Ray here: nothing is lost, or done twice, whoever ends first or dies."""

from __future__ import annotations

import random
import re
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from della_bench.errors import MergeError
from della_bench.search import search as module
from della_bench.search.candidate import Candidate
from della_bench.search.watching import SearchWatcher
from della_bench.workers.wanted import Wanted
from della_bench.workers.worker import Stopped, WorkerLostError
from tests.search.crews import hire
from tests.search.making import SPACE, plan
from tests.search.test_search import table

TWO = Wanted(2)
_TIME = re.compile(r"20\d\d-\d\d-\d\dT\d\d-\d\d-\d\d\.\d+")
_VARYING = re.compile(
    r'"(date|start_time|end_time|total_evaluation_time_seconds|seconds|pretty_env_info|git_hash|digest|propose|merge'
    r'|generate|score|lost|workers)": ("[^"]*"|[\d.e-]+),?'
)


def spread(out: Path, watcher: SearchWatcher | None = None, workers: Wanted | None = TWO, **more: Any) -> Any:
    return module.Search(plan(out, **more), watcher, workers).run()


def contents(out: Path) -> dict[str, str]:
    """Return all files of candidates by name, without times; provenance aside."""
    found = {}
    for path in sorted((out / "runs").rglob("*")):
        if path.is_file() and path.suffix in (".json", ".jsonl", ".yaml") and path.name != "provenance.json":
            text = _VARYING.sub("", _TIME.sub("T", path.read_text()))
            found[_TIME.sub("T", str(path.relative_to(out)) + str("math" in path.read_text()))] = text
    return found


class Twice:
    """Counts the answers that reached the disk or a decision, by merge and documents."""

    def __init__(self) -> None:
        self.asked: Counter[tuple[str, tuple[tuple[str, tuple[int, ...]], ...]]] = Counter()

    def __call__(self, worker: object, spec: Any, places: Any) -> None:
        self.asked[spec.digest, tuple(sorted(places.items()))] += 1


class Together:
    """Lets two workers be asked at the same time: neither is answered before both are asked, as long as two are."""

    def __init__(self) -> None:
        self._barrier = threading.Barrier(2)

    def __call__(self, worker: object, spec: Any, places: Any) -> None:
        try:
            self._barrier.wait(1)
        except threading.BrokenBarrierError:
            self._barrier.reset()


def test_two_workers_leave_what_one_process_leaves_where_proposals_do_not_depend_on_scores(
    worker, monkeypatch, tmp_path
):
    search = {"sampler": "random", "race": False, "trials": 6}
    spread(tmp_path / "alone", workers=None, search=search)
    hire(monkeypatch, 2)
    spread(tmp_path / "two", search=search)
    assert table(tmp_path / "two") == table(tmp_path / "alone")
    assert contents(tmp_path / "two") == contents(tmp_path / "alone")
    assert (tmp_path / "two" / "winner.yaml").read_bytes() == (tmp_path / "alone" / "winner.yaml").read_bytes()
    before = table(tmp_path / "two")
    spread(tmp_path / "two", workers=None, search=search)
    assert table(tmp_path / "two") == before


def test_proposals_take_those_that_are_under_way_into_account_and_race_the_best_so_far(worker, monkeypatch, tmp_path):
    twice = Twice()
    hire(monkeypatch, 2, twice)
    outcome = spread(tmp_path / "out", search={"trials": 12})
    rows = table(tmp_path / "out")
    assert [row["number"] for row in rows] == ["", "", *map(str, range(12))]
    assert {row["state"] for row in rows} == {"complete", "stopped"}
    assert set(twice.asked.values()) == {1}
    assert outcome.winner is not None


def test_tpe_proposes_nothing_beside_what_is_under_way(tmp_path):
    from della_bench.search.scoreboard import Scoreboard
    from della_bench.search.trials import Trials

    made = plan(tmp_path, search={"sampler": {"name": "tpe", "n_startup_trials": 0}, "defaults": False})
    trials = Trials(made, Scoreboard(made))
    trials.begin()
    running = [trials.ask()[1].proposal["lambda"] for _ in range(12)]
    assert max(running) - min(running) > 0.6  # each is taken for a bad one: the range is searched all over


def test_a_merge_that_is_proposed_while_it_is_asked_is_asked_once(worker, monkeypatch, tmp_path):
    twice, together = Twice(), Together()

    def before(*asked: Any) -> None:
        twice(*asked)
        together(*asked)

    hire(monkeypatch, 2, before)
    space = {**SPACE, "merge_method": "ties", "density": {"choices": [0.3, 0.6, 0.9]}, "lambda": 1.0}
    del space["epsilon"]
    outcome = spread(tmp_path / "out", space=space, search={"trials": 50, "race": False, "experts": False})
    assert outcome.ended == "the last 200 proposals were merges that were tried already"
    assert len(table(tmp_path / "out")) == 3
    assert set(twice.asked.values()) == {1}


def test_a_candidate_whose_worker_dies_goes_on_from_its_last_block_with_another(worker, monkeypatch, tmp_path):
    died: list[Any] = []
    twice = Twice()

    def before(worker_: Any, spec: Any, places: Any) -> None:
        if not died and twice.asked[spec.digest, first] and spec.merge_method == "ties":
            died.append(spec)
            raise WorkerLostError("the worker's process has died", "here:/log")
        twice(worker_, spec, places)

    made = plan(tmp_path / "out", search={"race": {"block": 20}})
    first = tuple(sorted((each.task, tuple(place for place, _ in each.items[:20])) for each in made.sets["search"]))
    hire(monkeypatch, 2, before)
    said: list[str] = []

    class Heard(SearchWatcher):
        def said(self, line: str) -> None:
            said.append(line)

    spread(tmp_path / "out", Heard(), search={"race": {"block": 20}})
    assert died
    assert any("is lost: the worker's process has died" in line for line in said)
    assert {row["state"] for row in table(tmp_path / "out")} <= {"complete", "stopped"}
    assert set(twice.asked.values()) == {1}


def test_time_that_is_lost_with_a_worker_counts_once(worker, monkeypatch, tmp_path):
    clock, asked = [0.0], [0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])

    def before(worker_: Any, spec: Any, places: Any) -> None:
        clock[0] += 0.3  # as the answers say that they took
        asked[0] += 1
        if asked[0] == 4:
            raise WorkerLostError("the worker's process has died", "here:/log")

    hire(monkeypatch, 1, before)
    search = {"trials": 1, "experts": False, "race": {"block": 10}}
    outcome = spread(tmp_path / "out", workers=Wanted(1), search=search)
    (candidate,) = outcome.candidates
    assert candidate.seconds["lost"] == pytest.approx(0.3)
    (_, tested) = outcome.roles[0]
    assert sum(tested.seconds.values()) == pytest.approx(clock[0])


def test_a_candidate_that_two_workers_die_with_is_a_row_with_the_reason_and_the_log(worker, monkeypatch, tmp_path):
    def before(worker_: Any, spec: Any, places: Any) -> None:
        if spec.merge_method == "ties":
            raise WorkerLostError("no memory\nleft", "here:/log")

    hire(monkeypatch, 2, before)
    outcome = spread(tmp_path / "out", search={"trials": 10})
    failed = [row for row in table(tmp_path / "out") if row["state"] == "failed"]
    assert {(row["merge_method"], row["reason"]) for row in failed} == {("ties", "no memory left (log: here:/log)")}
    assert len(table(tmp_path / "out")) == 12
    assert outcome.winner is not None


def test_a_candidate_that_cannot_be_merged_is_a_row_with_its_reason(worker, monkeypatch, tmp_path):
    def before(worker_: Any, spec: Any, places: Any) -> None:
        if spec.merge_method == "ties":
            raise MergeError("x: tensor t holds NaN")

    hire(monkeypatch, 2, before)
    spread(tmp_path / "out", search={"trials": 10})
    failed = [row for row in table(tmp_path / "out") if row["state"] == "failed"]
    assert {(row["merge_method"], row["reason"]) for row in failed} == {("ties", "x: tensor t holds NaN")}


class Killed(BaseException):
    """Ends a process as a kill would: nothing catches it."""


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.exhaustive) for seed in range(1, 6))])
def test_killed_at_random_moments_nothing_is_lost_and_nothing_is_asked_twice(worker, monkeypatch, tmp_path, seed):
    rng = random.Random(seed)
    left = [rng.randrange(3, 12) for _ in range(6)]
    proposed: dict[int, str] = {}
    twice, dead, counting = Twice(), threading.Event(), threading.Lock()

    class Seen(SearchWatcher):
        def began(self, candidate: Candidate, which: str, worker: str = "") -> None:
            if candidate.number is not None:
                assert proposed.setdefault(candidate.number, candidate.spec.digest) == candidate.spec.digest

    def before(worker_: Any, spec: Any, places: Any) -> None:
        if dead.is_set():
            raise Stopped
        with counting:
            if left:
                left[0] -= 1
                if not left[0]:
                    left.pop(0)
                    dead.set()
                    raise Killed
        twice(worker_, spec, places)

    hire(monkeypatch, 2, before)
    starts = 0
    while True:
        starts += 1
        dead.clear()
        try:
            spread(tmp_path / "out", Seen(), search={"trials": 9})
        except Killed:
            continue
        break
    assert starts > 3
    rows = table(tmp_path / "out")
    assert [row["number"] for row in rows] == ["", "", *map(str, range(9))]
    assert {row["state"] for row in rows} <= {"complete", "stopped"}
    assert len(proposed) == 9
    assert set(twice.asked.values()) == {1}


def test_a_lost_journal_is_made_anew_from_the_folders(worker, monkeypatch, tmp_path):
    hire(monkeypatch, 2)
    spread(tmp_path / "out")
    before = table(tmp_path / "out")
    (tmp_path / "out" / "optuna.journal").unlink()
    twice = Twice()
    hire(monkeypatch, 2, twice)
    spread(tmp_path / "out")
    assert not twice.asked
    assert table(tmp_path / "out") == before


def test_nobody_is_held_against_a_source_that_has_not_ended(worker, monkeypatch, tmp_path):
    begun, ended = threading.Event(), threading.Event()

    class Seen(SearchWatcher):
        def began(self, candidate: Candidate, which: str, worker: str = "") -> None:
            if candidate.number is not None:
                begun.set()
                assert ended.is_set()

        def ended(self, candidate: Candidate, which: str, value: Any, best: Any) -> None:
            if candidate.name == "math":
                ended.set()

    def before(worker_: Any, spec: Any, places: Any) -> None:
        if spec.display_name == "math":
            begun.wait(1)

    hire(monkeypatch, 2, before)
    outcome = spread(tmp_path / "out", Seen(), search={"keep": {"zoo_math": "math + 20"}, "trials": 6})
    math = next(each for each in outcome.candidates if each.name == "math")
    assert outcome.winner is not None
    assert sum(outcome.winner.values["search"]["zoo_math"]) >= sum(math.values["search"]["zoo_math"]) + 8


def test_patience_counts_those_that_have_ended_and_what_is_under_way_is_finished(worker, monkeypatch, tmp_path):
    hire(monkeypatch, 2)
    outcome = spread(tmp_path / "out", search={"trials": None, "patience": 3})
    assert outcome.ended == "3 candidates in a row brought nothing better"
    assert {each.state for each in outcome.candidates} <= {"complete", "stopped"}

"""The search through its own files, with a worker that needs no model: goes on, repeats nothing, loses nothing."""

from __future__ import annotations

import csv
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from della_bench.benchmarks import Benchmark
from della_bench.errors import DataError, DellaBenchError, MergeError, UsageError
from della_bench.jsonfiles import RowLog, read_json
from della_bench.results.leaderboard import build_table
from della_bench.run.settings import EvalSettings
from della_bench.run.tasks import Tasks
from della_bench.search import plan as plan_module
from della_bench.search import search as module
from della_bench.search.report import Outcome
from della_bench.spec import MergeSpec
from tests.search.making import SPACE, FakeWorker, plan, quality

Searched = Callable[..., Outcome]


def table(out: Path) -> list[dict[str, str]]:
    """Return search.csv without its times."""
    with (out / "search.csv").open() as file:
        return [
            {key: value for key, value in row.items() if not key.startswith("seconds")} for row in csv.DictReader(file)
        ]


def test_a_search_ends_with_a_winner_tested_on_items_that_did_not_choose_it(searched, tmp_path):
    outcome = searched()
    rows = table(tmp_path / "out")
    assert [row["origin"] for row in rows] == ["expert"] * 2 + ["default"] * 3 + ["proposed"] * 5
    assert {role for role, _ in outcome.roles} == {"winner", "runner-up", "default", "expert"}
    winner = outcome.winner
    assert winner is not None
    assert float(max(row["value"] for row in rows if row["value"])) >= 100 * 0.5
    kept = yaml.safe_load((tmp_path / "out" / "winner.yaml").read_text())
    assert MergeSpec.parse(kept["search"]["spec"]).digest == winner.spec.digest
    assert {which: score["items"] for which, score in kept["search"]["scores"].items()} == {
        "search": 80,
        "select": 20,
        "test": 40,
    }
    for row in rows:  # a stopped candidate's part of a score stands nowhere
        assert bool(row["value"]) == bool(row["zoo_math"]) == (row["state"] == "complete")
        assert (int(row["items"]) == 80) == (row["state"] == "complete")


def test_the_leaderboard_marks_the_winner_on_the_items_that_chose_it_and_not_on_the_test(searched, tmp_path):
    outcome = searched()
    assert outcome.winner is not None
    table_ = build_table([tmp_path / "out" / "runs"], baseline="none")
    row = next(each for each in table_.rows if each.fingerprint == outcome.winner.fingerprint)
    marked = {name: cell.chosen_on for name, cell in row.cells.items()}
    assert {count for name, count in marked.items() if "validation" in name} <= {0, 10, 40}
    assert sum(marked.values()) >= 80
    assert marked["zoo_math"] == marked["zoo_code"] == 0
    experts = [each for each in table_.rows if each.method == "passthrough"]
    assert not [cell for each in experts for cell in each.cells.values() if cell.chosen_on]
    stopped = {each.fingerprint for each in outcome.candidates if each.state == "stopped"}
    assert stopped
    assert not stopped & {each.fingerprint for each in table_.rows}  # a part of a score stands in no table


def test_the_winners_file_is_a_spec(searched, tmp_path):
    outcome = searched()
    assert outcome.winner is not None
    assert MergeSpec.parse(tmp_path / "out" / "winner.yaml").digest == outcome.winner.spec.digest


def test_candidates_leave_the_files_of_a_run(searched, tmp_path):
    outcome = searched()
    assert outcome.winner is not None
    folder = outcome.winner.folder
    assert len(list(folder.glob("results_*.json"))) == 6  # two tasks, three sets
    assert {path.name.split("_2")[0] for path in folder.glob("samples_*")} == {
        "samples_zoo_math",
        "samples_zoo_code",
        "samples_zoo_math_validation",
        "samples_zoo_code_validation",
    }
    assert MergeSpec.parse(folder / "spec.yaml").digest == outcome.winner.spec.digest
    score = read_json(folder / "scores" / "zoo_math.lm_eval-answer-is.json")
    assert score["value"] == 100 * sum(outcome.winner.values["test"]["zoo_math"]) / 20
    assert not list(folder.glob("*.blocks.jsonl"))


def test_started_again_it_asks_nothing_and_goes_on_to_more_candidates(searched, worker, tmp_path):
    searched()
    before = table(tmp_path / "out")
    worker.asked.clear()
    searched()
    assert worker.asked == []
    assert table(tmp_path / "out") == before
    searched(search={"trials": 10})
    assert table(tmp_path / "out")[: len(before)] == before
    assert len(table(tmp_path / "out")) == len(before) + 2
    searched("at once", search={"trials": 10})
    assert table(tmp_path / "at once") == table(tmp_path / "out")


class Killed(BaseException):
    """Ends a process as a kill would: nothing catches it."""


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.exhaustive) for seed in (1, 2))])
def test_killed_anywhere_any_number_of_times_it_ends_as_if_undisturbed(searched, worker, monkeypatch, tmp_path, seed):
    searched("undisturbed", search={"trials": 6})
    rng = random.Random(seed)
    left = [rng.randrange(1, 6) for _ in range(12)]

    def deadly(original: Callable[..., Any], half_done: Callable[..., None] | None = None) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            if left:
                left[0] -= 1
                if not left[0]:
                    left.pop(0)
                    if half_done is not None:
                        half_done(*args)
                    raise Killed
            return original(*args, **options)

        return call

    def torn(log: RowLog, row: Any) -> None:
        with log.path.open("a") as file:
            file.write('{"half a row": ')

    from della_bench import jsonfiles
    from della_bench.search import report, run_files

    monkeypatch.setattr(worker, "answer", deadly(worker.answer))
    monkeypatch.setattr(RowLog, "append", deadly(RowLog.append, torn))
    for place, name in ((module, "write_candidate"), (module, "write_candidates"), (run_files, "put_results")):
        monkeypatch.setattr(place, name, deadly(getattr(place, name)))
    monkeypatch.setattr(report, "write_whole", deadly(jsonfiles.write_whole))
    starts = 0
    while True:
        starts += 1
        try:
            searched("killed", search={"trials": 6})
        except Killed:
            continue
        break
    assert starts > 8
    assert table(tmp_path / "killed") == table(tmp_path / "undisturbed")
    first, second = (
        yaml.safe_load((tmp_path / name / "winner.yaml").read_text()) for name in ("killed", "undisturbed")
    )
    assert first == second


def test_the_journal_can_be_lost_for_the_truth_is_in_the_folders(searched, worker, tmp_path):
    searched()
    before, journal = table(tmp_path / "out"), tmp_path / "out" / "optuna.journal"
    text = journal.read_bytes()
    worker.asked.clear()
    for damaged in (None, text[: len(text) // 2], b"", b"\x00\xff nothing\n", text[:-3]):
        if damaged is None:
            journal.unlink()
        else:
            journal.write_bytes(damaged)
        searched()
        assert worker.asked == []
        assert table(tmp_path / "out") == before


def test_a_candidate_whose_folder_is_gone_is_evaluated_again_and_nothing_else_changes(searched, worker, tmp_path):
    outcome = searched()
    before = table(tmp_path / "out")
    lost = next(each for each in outcome.candidates if each.number == 4)
    shutil.rmtree(lost.folder)
    worker.asked.clear()
    searched()
    assert {digest for digest, _ in worker.asked} == {lost.spec.digest}
    assert table(tmp_path / "out") == before


def test_a_candidate_that_fails_is_a_row_with_its_reason_and_the_search_goes_on(
    searched, worker, monkeypatch, tmp_path
):
    answer = worker.answer

    def failing(self: FakeWorker, spec: MergeSpec, places: Any) -> Any:
        if spec.merge_method == "ties":
            raise MergeError("x: tensor t holds NaN or infinity;\na merge needs finite weights")
        return answer(self, spec, places)

    monkeypatch.setattr(worker, "answer", failing)
    outcome = searched(search={"trials": 10})
    rows = table(tmp_path / "out")
    failed = [row for row in rows if row["state"] == "failed"]
    assert failed
    assert {row["merge_method"] for row in failed} == {"ties"}
    assert {row["reason"] for row in failed} == {"x: tensor t holds NaN or infinity; a merge needs finite weights"}
    assert outcome.winner is not None
    assert outcome.winner.spec.merge_method != "ties"


def test_where_everything_fails_the_reasons_are_told(searched, worker, monkeypatch):
    def failing(self: FakeWorker, spec: MergeSpec, places: Any) -> Any:
        raise MergeError("no memory")

    monkeypatch.setattr(worker, "answer", failing)
    with pytest.raises(DellaBenchError, match="no candidate could be evaluated:\nno memory"):
        searched(search={"trials": 3})


def test_the_same_merge_is_never_evaluated_twice(searched, worker, tmp_path):
    space = {**SPACE, "merge_method": "ties", "density": {"choices": [0.3, 0.6, 0.9]}, "lambda": 1.0}
    del space["epsilon"]
    outcome = searched(space=space, search={"trials": 50, "race": False})
    assert outcome.ended == "the last 200 proposals were merges that were tried already"
    assert len(table(tmp_path / "out")) == 2 + 3
    asked = [(digest, tuple(sorted(places.items()))) for digest, places in worker.asked]
    assert len(asked) == len(set(asked))


def test_a_grid_tries_every_merge_once(searched, tmp_path):
    space = {**SPACE, "merge_method": "ties", "density": {"low": 0.3, "high": 0.9, "step": 0.3}, "lambda": 1.0}
    del space["epsilon"]
    outcome = searched(space=space, search={"sampler": "grid", "trials": None})
    assert outcome.ended == "every merge of the grid was tried"
    assert sorted(row["density"] for row in table(tmp_path / "out")[2:]) == ["0.3", "0.6", "0.9"]


def test_racing_saves_answers_and_finds_the_same_winner(searched, worker):
    asked = {}
    winners = {}
    for race in ({"block": 10}, False):
        worker.asked.clear()
        outcome = searched(f"race {race}", search={"race": race, "sampler": "random", "trials": 12})
        asked[bool(race)] = sum(len(ids) for _, places in worker.asked for ids in places.values())
        winners[bool(race)] = outcome.winner and outcome.winner.spec
    assert asked[True] < 0.85 * asked[False]
    assert winners[True] == winners[False]


@pytest.mark.parametrize("pruner", ["wilcoxon", pytest.param("halving", marks=pytest.mark.exhaustive)])
def test_optunas_pruners_race_too(searched, tmp_path, pruner):
    searched(search={"race": {"block": 5, "pruner": pruner}, "trials": 9})
    assert {row["state"] for row in table(tmp_path / "out")} == {"complete", "stopped"}
    before = table(tmp_path / "out")
    (tmp_path / "out" / "optuna.journal").unlink()
    searched(search={"race": {"block": 5, "pruner": pruner}, "trials": 9})
    assert table(tmp_path / "out") == before


@pytest.mark.parametrize(
    ("sampler", "trials"),
    [
        ("qmc", 7),
        ("cmaes", 7),
        ("nsga2", 7),
        pytest.param({"name": "gp", "n_startup_trials": 4}, 7, marks=pytest.mark.exhaustive),
    ],
)
def test_every_sampler_goes_on_as_if_undisturbed(searched, tmp_path, sampler, trials):
    searched("whole", search={"sampler": sampler, "trials": trials, "experts": False})
    for upto in (5, trials):
        searched("parts", search={"sampler": sampler, "trials": upto, "experts": False})
    assert table(tmp_path / "parts") == table(tmp_path / "whole")


def test_several_numbers_give_a_front(searched, worker, monkeypatch, tmp_path):
    outcome = searched(search={"maximize": ["zoo_math", "zoo_code"], "trials": 8})
    rows = table(tmp_path / "out")
    assert {row["state"] for row in rows} == {"complete"}
    front = [row for row in rows if row["front"] == "front"]
    for row in front:
        mine = (float(row["zoo_math"]), float(row["zoo_code"]))
        others = [(float(other["zoo_math"]), float(other["zoo_code"])) for other in rows]
        assert not any(a >= mine[0] and b >= mine[1] and (a, b) != mine for a, b in others)
    assert {row["front"] for row in rows} <= {"front", "within the noise", "dominated"}
    assert {role for role, _ in outcome.roles} <= {"winner", "front", "default", "expert"}
    assert len(yaml.safe_load((tmp_path / "out" / "front.yaml").read_text())) >= 1


def test_the_winner_keeps_what_is_to_be_kept(searched, tmp_path):
    outcome = searched(search={"keep": {"zoo_math": "math + 20"}, "trials": 10})
    rows = table(tmp_path / "out")
    expert = next(row for row in rows if row["spec"].endswith("name=math"))
    assert outcome.winner is not None
    math = 100 * sum(outcome.winner.values["search"]["zoo_math"]) / 40
    assert math >= float(expert["zoo_math"]) + 20


def test_a_search_that_cannot_know_what_is_to_be_kept_ends_with_the_reason_and_tries_again(
    searched, worker, monkeypatch
):
    answer = worker.answer

    def failing(self: FakeWorker, spec: MergeSpec, places: Any) -> Any:
        if spec.display_name == "base":
            raise MergeError("no memory")
        return answer(self, spec, places)

    with monkeypatch.context() as patched:
        patched.setattr(worker, "answer", failing)
        with pytest.raises(DellaBenchError, match="base: `keep` holds the others against it, and it failed: no memory"):
            searched(search={"keep": {"zoo_math": "base + 1"}, "trials": 3})
    assert searched(search={"keep": {"zoo_math": "base + 1"}, "trials": 3}).winner is not None


def test_the_base_is_held_against_and_never_chosen(searched, worker, monkeypatch):
    """Though it is better than all others: it stops none of them, and alone it is nothing to choose among."""

    def worth(spec: MergeSpec) -> float:
        return 1.0 if spec.display_name == "base" else quality(spec)

    monkeypatch.setattr(worker, "worth", staticmethod(worth))
    outcome = searched(search={"keep": {"zoo_math": "base - 100"}, "trials": 4})
    assert outcome.winner is not None
    assert outcome.winner.origin != "base"
    answer = worker.answer

    def failing(self: FakeWorker, spec: MergeSpec, places: Any) -> Any:
        if spec.merge_method != "passthrough":
            raise MergeError("no memory")
        return answer(self, spec, places)

    monkeypatch.setattr(worker, "answer", failing)
    with pytest.raises(DellaBenchError, match="no candidate could be evaluated:\nno memory"):
        searched("alone", search={"keep": {"zoo_math": "base - 100"}, "experts": False, "trials": 3})


def test_patience_and_time_end_a_search(searched):
    assert "candidates in a row" in searched("patience", search={"trials": None, "patience": 3}).ended
    assert "seconds were used" in searched("time", search={"trials": None, "time": "2s"}).ended


def test_time_goes_by_while_everything_fails_and_the_sources_alone_do_not_use_it_up(
    searched, worker, monkeypatch, tmp_path
):
    assert searched("short", search={"trials": None, "time": "0.001s"}).ended == "0.001 seconds were used"
    assert [row["origin"] for row in table(tmp_path / "short")] == ["expert", "expert", "default"]
    clock = [0.0]

    def failing(self: FakeWorker, spec: MergeSpec, places: Any) -> Any:
        clock[0] += 60
        raise MergeError("no memory")

    monkeypatch.setattr(worker, "answer", failing)
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    with pytest.raises(DellaBenchError, match="no candidate could be evaluated"):
        searched(search={"trials": None, "time": "5m", "experts": False})
    assert len(list((tmp_path / "out" / "runs").glob("*/candidate.json"))) == 5


def test_earlier_runs_are_first_candidates_and_are_not_asked_again(searched, worker, tmp_path):
    first = searched("first")
    worker.asked.clear()
    second = searched("second", warm_start=[tmp_path / "first" / "runs"], search={"trials": 12})
    earlier = [each for each in second.candidates if each.origin == "earlier"]
    assert earlier
    known = {each.spec.digest for each in first.candidates if each.state == "complete"}
    on_search = {digest for digest, places in worker.asked if any("validation" in task for task in places)}
    taken = {each.spec.digest for each in earlier} & known
    assert taken
    names = {each.spec.digest for each in second.candidates if each.origin in ("default", "proposed", "expert")}
    assert not (taken & on_search) - names
    assert all(each.fingerprint for each in second.candidates if each.state == "complete")


@pytest.mark.parametrize(
    "options",
    [{"settings": EvalSettings(system_instruction="You are a pirate.")}, {"arguments": {"enable_thinking": True}}],
)
def test_earlier_runs_that_were_asked_in_another_way_are_asked_again(searched, worker, monkeypatch, tmp_path, options):
    monkeypatch.setattr(plan_module, "Tasks", Tasks)
    searched("first", search={"race": False, "trials": 3})
    worker.asked.clear()
    second = searched("second", warm_start=[tmp_path / "first" / "runs"], search={"trials": 4}, options=options)
    assert {digest for digest, _ in worker.asked} == {each.spec.digest for each in second.candidates}


def test_another_search_in_the_folder_is_named_difference_by_difference_and_left_alone(searched, tmp_path):
    searched()
    before = sorted(path.name for path in (tmp_path / "out").rglob("*"))
    with pytest.raises(UsageError) as raised:
        searched(space={**SPACE, "density": {"low": 0.3, "high": 1.0}}, search={"seed": 4})
    assert "density.low: 0.2 there, 0.3 asked for" in str(raised.value)
    assert "search.seed: 3 there, 4 asked for" in str(raised.value)
    assert sorted(path.name for path in (tmp_path / "out").rglob("*")) == before


def test_with_other_arguments_of_the_engine_it_is_another_search_unless_they_change_its_speed_alone(searched, worker):
    searched(options={"arguments": {"enable_thinking": True, "batch_size": 4}})
    with pytest.raises(UsageError, match=r"search.arguments.enable_thinking: true there, false asked for"):
        searched(options={"arguments": {"enable_thinking": False}})
    worker.asked.clear()
    searched(options={"arguments": {"enable_thinking": True, "batch_size": 8}})
    assert worker.asked == []


def test_a_search_that_an_earlier_release_has_begun_is_gone_on_with(searched, worker, tmp_path):
    """It did not write down judge and arguments, and called the study by the search alone."""
    import optuna

    url, arguments = f"sqlite:///{tmp_path}/studies.db", {"arguments": {"enable_thinking": True}}
    made = plan(tmp_path / "out", options=arguments)
    searched(storage=url, search={"trials": 4}, options=arguments)
    (tmp_path / "out" / "optuna.study").unlink()
    path = tmp_path / "out" / "space.yaml"
    kept = yaml.safe_load(path.read_text())
    for name in ("arguments", "tasks", "judges"):
        del kept["search"][name]
    path.write_text(yaml.safe_dump(kept))
    worker.asked.clear()
    searched(storage=url, search={"trials": 4}, options=arguments)
    assert worker.asked == []
    assert f"della-bench-{made.digest[:16]}" in optuna.get_all_study_names(storage=url)


def test_a_storage_that_cannot_be_reached_is_told_without_its_password(searched, tmp_path):
    with pytest.raises(UsageError) as raised:
        searched(storage="postgresql+psycopg://someone:secret@127.0.0.1:1/none")
    assert "cannot be reached" in str(raised.value)
    assert "secret" not in str(raised.value)
    with pytest.raises(UsageError, match="cannot be reached"):
        searched(storage="nonsense://x")
    with pytest.raises(UsageError, match="there is no folder"):
        searched(storage=f"sqlite:///{tmp_path}/none/study.db")
    with pytest.raises(UsageError) as raised:
        searched(storage="postgresql+psycopg://127.0.0.1:1/none?user=someone&password=secret")
    assert "secret" not in str(raised.value)
    assert not (tmp_path / "out").exists()


def test_two_searches_for_the_same_thing_share_a_database_and_no_study(searched, tmp_path):
    import optuna

    url = f"sqlite:///{tmp_path}/studies.db"
    first = searched("first", storage=url, search={"trials": 4})
    second = searched("second", storage=url, search={"trials": 5})
    names = optuna.get_all_study_names(storage=url)
    assert sorted(len(optuna.load_study(study_name=name, storage=url).trials) for name in names) == [4, 5]
    assert [each.spec for each in second.candidates][: len(first.candidates)] == [
        each.spec for each in first.candidates
    ]
    searched("first", storage=url, search={"trials": 6})
    assert sorted(len(optuna.load_study(study_name=name, storage=url).trials) for name in names) == [5, 6]


def test_a_file_that_is_no_database_is_told_before_anything_is_written(searched, tmp_path):
    (tmp_path / "study.db").write_text("no database " * 20)
    for file in ("study.db", ""):
        with pytest.raises(UsageError, match="cannot be reached"):
            searched(storage=f"sqlite:///{tmp_path}/{file}")
    assert [path.name for path in tmp_path.iterdir()] == ["study.db"]
    assert (tmp_path / "study.db").read_text() == "no database " * 20


def test_a_grid_that_nobody_can_go_through_is_refused_at_once(searched, tmp_path):
    space = {**SPACE, "density": {"low": 0.2, "high": 1.0, "step": 1e-4}, "lambda": {"low": 0, "high": 1, "step": 1e-4}}
    with pytest.raises(UsageError, match=r"sampler grid: [\d,]+ points, and at most 100,000 are gone through"):
        searched(space={**space, "epsilon": 0.1}, search={"sampler": "grid"})
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("search", "told"),
    [
        ({"sampler": {"name": "tpe", "n_startup_trails": 3}}, "did you mean 'n_startup_trials'?"),
        ({"sampler": {"name": "tpe", "n_startup_trials": "x"}}, "tpe with n_startup_trials='x'"),
        ({"race": {"pruner": "halving", "min_resorce": 1}}, "did you mean 'min_resource'?"),
        ({"sampler": {"name": "tpe", "n_ei_candidates": -1}}, "tpe with n_ei_candidates=-1"),
        ({"sampler": {"name": "tpe", "gamma": 5}}, "tpe with gamma=5"),
        ({"sampler": "grid"}, "a range without a step has no grid"),
        ({"scorers": {"zoo_math": "judge"}}, "no such number"),
        ({"keep": {"zoo_math": "maths - 2"}}, "no row 'maths'"),
    ],
)
def test_what_cannot_be_searched_by_is_told_before_anything_is_written(searched, tmp_path, search, told):
    with pytest.raises(DellaBenchError) as raised:
        searched(search=search)
    assert told in str(raised.value)
    assert raised.value.exit_code == 2
    assert not (tmp_path / "out").exists()


def test_all_that_is_wrong_with_a_plan_is_told_at_once(searched, tmp_path):
    (tmp_path / "out").write_text("a file")
    search = {
        "sampler": {"name": "tpe", "n_start": 3},
        "keep": {"zoo_math": "maths - 2"},
        "scorers": {"zoo_code": "gpt"},
        "items": {"zoo_math": {"search": 100}, "zoo_code": {"search": {"split": "train"}}},
    }
    with pytest.raises(UsageError) as raised:
        searched(search=search, storage="foo", warm_start=[tmp_path / "nowhere"])
    for told in (
        "storage: foo: cannot be reached",
        "is a file",
        "there is no folder",
        "no option 'n_start'",
        "no row 'maths'; did you mean 'math'?",
        "zoo_code: no train split to search on",
        "scorer 'gpt' of zoo_code: no such number",
        "zoo_math: 100 to search and 0 to select on, but its validation split has 64 items",
    ):
        assert str(raised.value).count(told) == 1, told
    assert (tmp_path / "out").read_text() == "a file"


def test_data_that_is_missing_is_told_with_everything_else(searched, monkeypatch):
    class Missing:
        benchmarks: tuple[Benchmark, ...] = ()

        def build(self) -> None:
            raise DataError("no data for zoo_math")

    monkeypatch.setattr(plan_module, "Tasks", lambda *_, **__: Missing())
    with pytest.raises(UsageError) as raised:
        searched(search={"items": {"search": {"split": "train"}}})
    for told in ("no data for zoo_math", "zoo_math: no train split to search on", "zoo_code: no train split"):
        assert told in str(raised.value)


@pytest.mark.parametrize("experts", [["zoo:math", "/nowhere"], ["zoo:math", {"choices": ["zoo:code", "/nowhere"]}]])
def test_a_source_that_is_not_there_is_told_before_anything_is_written(searched, tmp_path, experts):
    with pytest.raises(UsageError, match="/nowhere: no such folder"):
        searched(space={**SPACE, "experts": experts})
    assert not (tmp_path / "out").exists()


def test_experts_of_the_same_last_name_are_two_rows(tmp_path):
    space = {**SPACE, "experts": ["zoo:math", "/some/run/final", "/another/run/final"]}
    found = plan(tmp_path / "out", space=space, search={"keep": {"zoo_math": "/some/run/final - 2"}}).references()
    assert [spec.display_name for _, spec in found] == ["math", "/some/run/final", "/another/run/final"]


def test_somebody_else_in_the_folder_is_not_disturbed(worker, tmp_path):
    from della_bench.lock import folder_lock

    with folder_lock(tmp_path / "out", wait=False), pytest.raises(UsageError, match="another process searches"):
        module.Search(plan(tmp_path / "out")).run()

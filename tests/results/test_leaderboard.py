from __future__ import annotations

import json
import shutil

import pytest

from della_bench.errors import DataError
from della_bench.results.formats import render
from della_bench.results.items import joined_items
from della_bench.results.leaderboard import build_table
from della_bench.results.table import Comparison, Row
from tests.results.making import BASE_SPEC, EXACT, JUDGE, plain_folder, scored

RIGHT, WRONG = [1.0] * 10, [0.0] * 10
HALF = [1.0, 0.0] * 5


def only(path, **options):
    (row,) = build_table([path], **options).rows
    return row


def versus(row: Row, benchmark: str) -> Comparison:
    found = row.cells[benchmark].versus
    assert found is not None
    return found


def names(table):
    return [row.name for row in table.rows]


def test_a_plain_folder_of_lm_eval_gives_its_row(tmp_path):
    plain_folder(tmp_path / "x7dh2k", "merge", {"zoo_math": HALF, "zoo_code": RIGHT})
    row = only(tmp_path)
    assert (row.name, row.method, row.engine) == ("merge", "ties", "hf")
    cell = row.cells["zoo_math"]
    assert (cell.value, cell.n, cell.unscored) == (50.0, 10, 0)
    assert cell.interval == (pytest.approx(23.66, abs=0.01), pytest.approx(76.34, abs=0.01))
    assert row.average == 75.0
    assert row.average_interval[0] < 75 < row.average_interval[1]


def test_a_row_is_a_model_and_not_a_folder(tmp_path):
    # One model evaluated twice, on one benchmark each, beside another model of the same name.
    plain_folder(tmp_path / "a", "merge", {"zoo_math": HALF}, digest="aa")
    plain_folder(tmp_path / "b", "merge", {"zoo_code": RIGHT}, digest="aa")
    plain_folder(tmp_path / "c", "merge", {"zoo_code": WRONG, "zoo_math": WRONG}, digest="bb")
    table = build_table([tmp_path])
    assert names(table) == ["merge (aaxxxxxx)", "merge (bbxxxxxx)"]
    assert set(table.rows[0].cells) == {"zoo_math", "zoo_code"}


def test_of_several_evaluations_of_a_model_the_one_over_the_most_items_and_then_the_latest_counts(tmp_path):
    plain_folder(tmp_path / "a", "merge", {"zoo_math": HALF}, date=1.0)
    plain_folder(tmp_path / "b", "merge", {"zoo_math": RIGHT}, date=2.0)
    plain_folder(tmp_path / "c", "merge", {"zoo_math": [0.0]}, date=3.0)
    assert only(tmp_path).cells["zoo_math"].value == 100.0


def test_a_folder_named_twice_counts_once(tmp_path):
    folder = plain_folder(tmp_path / "a", "merge", {"zoo_math": HALF})
    assert build_table(str(tmp_path)).rows == build_table(tmp_path).rows == build_table([tmp_path]).rows
    assert build_table([tmp_path, folder, next(folder.glob("results_*"))]).rows == build_table([tmp_path]).rows


def test_a_scorers_number_comes_with_its_items(tmp_path):
    folder = plain_folder(tmp_path / "a", "merge", {"gsm8k_cot_zeroshot_alpaca": WRONG})
    scored(folder, "gsm8k", [1.0, None, *WRONG[2:]], JUDGE)
    cell = only(tmp_path).cells["gsm8k"]
    assert (cell.scorer, cell.n, cell.unscored) == (JUDGE, 9, 1)
    items = list(joined_items(cell))
    assert [item.value for item in items] == [1.0, None, *WRONG[2:]]
    assert (items[3].prompt, items[3].target, items[3].response) == ("prompt 3", "target 3", "response 3")
    assert (items[3].answer, items[3].explanation, items[1].verdict) == ("answer 3", "because of 3", "unscored")


def test_items_behind_a_metric_of_lm_eval_are_joined_too(tmp_path):
    plain_folder(tmp_path, "merge", {"zoo_math": HALF})
    item = list(joined_items(only(tmp_path).cells["zoo_math"]))[1]
    assert (item.prompt, item.response, item.answer, item.verdict) == ("prompt 1", "response 1", "answer 1", "wrong")


def test_a_column_shows_the_scorer_that_most_models_have_and_the_one_asked_for(tmp_path):
    for name in ("a", "b"):
        folder = plain_folder(tmp_path / name, name, {"gsm8k_cot_zeroshot_alpaca": WRONG})
        scored(folder, "gsm8k", HALF)
    scored(tmp_path / "a", "gsm8k", RIGHT, JUDGE)
    table = build_table([tmp_path])
    assert {row.cells["gsm8k"].scorer["name"] for row in table.rows} == {"exact"}
    assert any("on disk too" in note and "gpt for 1" in note for note in table.notes)
    judged = {row.name: row for row in build_table([tmp_path], scorers={"gsm8k": "gpt"}).rows}
    assert judged["a"].cells["gsm8k"].scorer == JUDGE
    assert judged["b"].cells["gsm8k"].scorer == EXACT
    with pytest.raises(DataError, match="no score of that name; did you mean 'exact'"):
        build_table([tmp_path], scorers={"gsm8k": "exakt"})


def test_rows_judged_by_different_judges_are_not_compared_and_the_reason_is_given(tmp_path):
    for name, scorer in (("a", EXACT), ("b", EXACT), ("c", JUDGE)):
        folder = plain_folder(tmp_path / name, name, {"gsm8k_cot_zeroshot_alpaca": HALF})
        scored(folder, "gsm8k", HALF, scorer)
    table = build_table([tmp_path], scorers={"gsm8k": "gpt"}, baseline="a")
    odd = next(row for row in table.rows if row.name == "c")
    assert odd.cells["gsm8k"].excluded == "scored by gpt 1 (gpt-4), the other by lm_eval 1.0"
    assert versus(odd, "gsm8k").reason == odd.cells["gsm8k"].excluded
    assert (odd.average, odd.average_reason) == (None, f"gsm8k: {odd.cells['gsm8k'].excluded}")
    assert any(note.startswith("c, gsm8k: not compared") for note in table.notes)
    assert versus(next(row for row in table.rows if row.name == "b"), "gsm8k").difference == 0.0


def test_documents_of_another_revision_are_named_and_not_compared(tmp_path):
    plain_folder(tmp_path / "a", "a", {"zoo_math": HALF})
    plain_folder(tmp_path / "b", "b", {"zoo_math": RIGHT})
    plain_folder(tmp_path / "c", "c", {"zoo_math": RIGHT}, revision=" v2")
    plain_folder(tmp_path / "d", "d", {"zoo_math": RIGHT[:4]})
    rows = {row.name: row for row in build_table([tmp_path], baseline="a").rows}
    assert "10 of 10 documents differ: another revision" in (rows["c"].cells["zoo_math"].excluded or "")
    assert rows["d"].cells["zoo_math"].excluded == "over 4 documents, the other over 10, 4 of them the same"
    for name in "cd":
        assert rows[name].average is None
        assert versus(rows[name], "zoo_math").p is None
    assert versus(rows["b"], "zoo_math").p == pytest.approx(2 * 0.5**5)


def test_the_average_is_over_the_benchmarks_that_all_rows_have(tmp_path):
    plain_folder(tmp_path / "a", "a", {"zoo_math": RIGHT, "zoo_code": WRONG})
    plain_folder(tmp_path / "b", "b", {"zoo_math": HALF})
    table = build_table([tmp_path])
    assert table.averaged == ("zoo_math",)
    assert [row.average for row in table.rows] == [100.0, 50.0]
    assert any(note == "zoo_code: left out of the average: b has no score" for note in table.notes)
    asked = build_table([tmp_path], benchmarks=["zoo_code", "zoo_math"])
    assert [(row.name, row.average) for row in asked.rows] == [("a", 50.0), ("b", None)]
    assert asked.rows[1].average_reason == "no value for zoo_code"
    with pytest.raises(DataError, match="no run has it; did you mean 'zoo_math'"):
        build_table([tmp_path], benchmarks=["zoo_maths"])


def test_the_base_is_the_baseline_unless_another_is_named(tmp_path):
    plain_folder(tmp_path / "a", "merge", {"zoo_math": HALF})
    plain_folder(tmp_path / "b", "base", {"zoo_math": WRONG}, spec=BASE_SPEC)
    assert build_table([tmp_path]).baseline == "base"
    assert build_table([tmp_path], baseline="merge").baseline == "merge"
    assert build_table([tmp_path], baseline="none").baseline is None
    with pytest.raises(DataError, match="no row has that name; did you mean 'merge'"):
        build_table([tmp_path], baseline="merged")


def test_a_difference_inside_the_noise_is_told_as_such_after_correction(tmp_path):
    base = [0.0] * 40
    plain_folder(tmp_path / "base", "base", {"zoo_math": base}, spec=BASE_SPEC)
    plain_folder(tmp_path / "noise", "noise", {"zoo_math": [1.0] * 5 + base[5:]})
    plain_folder(tmp_path / "better", "better", {"zoo_math": [1.0] * 20 + base[20:]})
    table = build_table([tmp_path])
    assert [row.cells["zoo_math"].versus for row in table.rows if row.name == "base"] == [None]
    rows = {row.name: versus(row, "zoo_math") for row in table.rows if row.name != "base"}
    assert rows["noise"].p == pytest.approx(2 * 0.5**5)
    assert rows["noise"].in_noise is True
    assert rows["better"].in_noise is False
    assert (rows["better"].p_holm or 0.0) > (rows["better"].p or 1.0)
    assert (rows["better"].wins, rows["better"].losses, rows["better"].n) == (20, 0, 40)


def test_rows_are_sorted_by_average_then_name_and_rows_without_one_come_last(tmp_path):
    for name, values in (("b", HALF), ("a", HALF), ("c", RIGHT)):
        plain_folder(tmp_path / name, name, {"zoo_math": values})
    plain_folder(tmp_path / "0", "0", {"zoo_math": RIGHT}, revision=" other")
    assert names(build_table([tmp_path])) == ["c", "a", "b", "0"]


def test_the_papers_rows_are_marked_and_come_last(tmp_path):
    plain_folder(tmp_path, "merge", {"gsm8k_cot_zeroshot_alpaca": HALF})
    table = build_table([tmp_path], paper=True)
    assert [row.name for row in table.rows if not row.reference] == ["merge"]
    references = table.rows[1:]
    assert len(references) == 19
    assert all(row.reference and "2406.11617" in row.note for row in references)
    best = next(row for row in references if row.name == "paper: LM+Math+Code, della")
    assert {name: cell.value for name, cell in best.cells.items()} == {"alpaca_eval": 80.4, "gsm8k": 61.8, "mbpp": 31.4}
    assert best.average == 61.8  # over gsm8k, the one benchmark that the table averages


def test_a_number_that_is_no_mean_of_its_items_is_shown_and_not_tested(tmp_path):
    for name, value in (("a", 40.0), ("b", 60.0)):
        folder = plain_folder(tmp_path / name, name, {"zoo_math": HALF, "alpaca_eval": HALF}, metric="win_rate")
        scored(folder, "alpaca_eval", HALF, JUDGE, value=value, metric="length_controlled_winrate")
    rows = {row.name: row for row in build_table([tmp_path], scorers={"alpaca_eval": "gpt"}, baseline="a").rows}
    assert versus(rows["b"], "alpaca_eval").reason == "length_controlled_winrate is no mean over its items"
    assert (rows["b"].average, rows["b"].average_interval) == (55.0, None)
    assert versus(rows["b"], "zoo_math").p == 1.0


# What cannot be read.


def test_a_run_that_is_half_written_is_named_and_the_others_are_shown(tmp_path):
    plain_folder(tmp_path / "a", "a", {"zoo_math": HALF})
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "provenance.json").write_text("{}")
    folder = plain_folder(tmp_path / "c", "c", {"zoo_math": HALF})
    next(folder.glob("results_*")).write_text('{"results": {"zoo_m')
    folder = plain_folder(tmp_path / "d", "d", {"zoo_math": HALF})
    samples = next(folder.glob("samples_*"))
    samples.write_text(samples.read_text()[:-20])
    table = build_table([tmp_path])
    assert names(table) == ["a", "d"]
    assert table.rows[1].cells == {}
    faults = "\n".join(table.faults)
    assert "half written: no results of lm-eval yet" in faults
    assert f"{tmp_path / 'c'}" in faults
    assert "samples_zoo_math" in faults
    assert set(table.faults) <= set(table.notes)


def test_items_that_do_not_match_their_score_are_named(tmp_path):
    folder = plain_folder(tmp_path, "a", {"gsm8k_cot_zeroshot_alpaca": HALF})
    scored(folder, "gsm8k", HALF)
    items = folder / "scores" / "gsm8k.exact.items.jsonl"
    items.write_text("".join(items.read_text().splitlines(keepends=True)[:-1]))
    table = build_table([tmp_path])
    assert table.rows[0].cells["gsm8k"].scorer["name"] == "lm_eval"
    assert "9 scored and 0 unscored items, but its score counts 10 and 0" in table.faults[0]


def test_a_score_of_another_schema_or_with_nan_is_named_with_who_reads_it(tmp_path):
    folder = plain_folder(tmp_path, "a", {"gsm8k_cot_zeroshot_alpaca": HALF})
    path = scored(folder, "gsm8k", HALF)
    whole = json.loads(path.read_text())
    path.write_text(json.dumps({**whole, "schema": 2}))
    assert "schema 2" in build_table([tmp_path]).faults[0]
    assert "written by a later release" in build_table([tmp_path]).faults[0]
    path.write_text(json.dumps({**whole, "value": float("nan")}))
    assert "must be finite numbers" in build_table([tmp_path]).faults[0]


def test_a_nan_among_lm_evals_values_is_an_unscored_item(tmp_path):
    plain_folder(tmp_path, "a", {"zoo_math": [float("nan"), 1.0, 1.0, None]})
    cell = only(tmp_path).cells["zoo_math"]
    assert (cell.value, cell.n, cell.unscored) == (100.0, 2, 2)


def test_a_benchmark_without_items_has_no_cell(tmp_path):
    folder = plain_folder(tmp_path, "a", {"zoo_math": HALF, "gsm8k_cot_zeroshot_alpaca": []}, samples=False)
    scored(folder, "gsm8k", [], JUDGE)
    table = build_table([tmp_path])
    assert "gsm8k" not in table.rows[0].cells
    assert any("gsm8k by gpt has no items" in fault for fault in table.faults)


def test_nothing_scored_is_no_value_and_no_zero(tmp_path):
    folder = plain_folder(tmp_path, "a", {"gsm8k_cot_zeroshot_alpaca": HALF})
    scored(folder, "gsm8k", [None, None], JUDGE)
    cell = only(tmp_path, scorers={"gsm8k": "gpt"}).cells["gsm8k"]
    assert (cell.value, cell.interval, cell.n, cell.unscored) == (None, None, 0, 2)


def test_results_without_samples_have_a_value_but_no_test(tmp_path):
    plain_folder(tmp_path / "a", "a", {"zoo_math": HALF}, samples=False)
    plain_folder(tmp_path / "b", "b", {"zoo_math": RIGHT}, samples=False)
    rows = {row.name: row for row in build_table([tmp_path], baseline="a").rows}
    assert rows["b"].cells["zoo_math"].value == 100.0
    assert rows["a"].cells["zoo_math"].interval == pytest.approx((50 - 9.8, 50 + 9.8), abs=0.01)
    assert "no samples on disk" in (versus(rows["b"], "zoo_math").reason or "")


def test_a_score_in_a_folder_of_several_models_goes_to_the_one_whose_samples_it_names(tmp_path):
    task = "gsm8k_cot_zeroshot_alpaca"
    plain_folder(tmp_path, "a", {task: HALF}, time="1")
    plain_folder(tmp_path, "b", {task: HALF}, time="2")
    scored(tmp_path, "gsm8k", RIGHT, detail={"samples": f"elsewhere/samples_{task}_2.jsonl"})
    rows = {row.name: row.cells["gsm8k"] for row in build_table([tmp_path], scorers={"gsm8k": "exact"}).rows}
    assert (rows["a"].value, rows["b"].value) == (50.0, 100.0)
    scored(tmp_path, "gsm8k", RIGHT)
    assert "none or several of the evaluations" in build_table([tmp_path]).faults[0]


def test_a_score_of_samples_that_are_not_looked_at_is_nobodys(tmp_path):
    first, second = "2026-01-01T00-00-00.000000", "2026-01-02T00-00-00.000000"
    task = "gsm8k_cot_zeroshot_alpaca"
    plain_folder(tmp_path, "a", {task: HALF}, time=first)
    plain_folder(tmp_path, "b", {task: HALF}, time=second)
    scored(tmp_path, "gsm8k", RIGHT, detail={"samples": f"samples_{task}_{first}.jsonl"})
    table = build_table([tmp_path / f"results_{second}.json"], scorers={})
    assert (table.rows[0].cells["gsm8k"].value, table.faults) == (50.0, ())
    for path in tmp_path.glob(f"*{first}*"):
        path.unlink()
    table = build_table([tmp_path])
    assert table.rows[0].cells["gsm8k"].value == 50.0
    assert "none or several of the evaluations" in table.faults[0]


def test_the_average_over_one_benchmark_is_no_second_comparison(tmp_path):
    plain_folder(tmp_path / "base", "base", {"zoo_math": [0.0] * 9 + [1.0]}, spec=BASE_SPEC)
    plain_folder(tmp_path / "a", "a", {"zoo_math": [1.0] * 9 + [0.0]})
    row = next(row for row in build_table([tmp_path]).rows if row.name == "a")
    assert row.versus == row.cells["zoo_math"].versus
    assert versus(row, "zoo_math").p == versus(row, "zoo_math").p_holm == pytest.approx(0.021484375)


@pytest.mark.parametrize(
    "more",
    [
        {"versions": None}, {"n-samples": None}, {"n-samples": {"zoo_math": None}}, {"group_subtasks": ["zoo"]},
        {"higher_is_better": {"zoo_math": None}}, {"date": 1e300}, {"date": -1e15}, {"date": 10**400},
    ],
)  # fmt: skip
def test_what_is_unusual_in_a_results_file_stops_nothing(tmp_path, more):
    plain_folder(tmp_path / "a", "a", {"zoo_math": HALF}, more=more)
    table = build_table([tmp_path])
    assert table.rows[0].cells["zoo_math"].value == 50.0
    for name in ("csv", "json", "md"):
        assert "a" in render(table, name)


def test_documents_of_which_some_lack_a_metric_are_no_torn_file(tmp_path):
    """lm-eval counts the documents of the metric that most have."""
    count = {"n-samples": {"zoo_math": {"original": 10, "effective": 6}}}
    plain_folder(tmp_path / "a", "a", {"zoo_math": [1.0] * 6 + [None] * 4}, more=count)
    cell = build_table([tmp_path]).rows[0].cells["zoo_math"]
    assert (cell.value, cell.n, cell.unscored) == (100.0, 6, 4)


def test_a_model_that_is_no_merge_has_a_row_too(tmp_path):
    plain_folder(tmp_path, "x", {"zoo_math": HALF})
    path = next(tmp_path.glob("results_*"))
    value = json.loads(path.read_text())
    value["config"] = {"model": "hf", "model_args": {"pretrained": "org/model", "dtype": "float16"}}
    path.write_text(json.dumps(value))
    row = only(tmp_path)
    assert (row.name, row.method, row.spec) == ("org/model", "", "pretrained=org/model,dtype=float16")
    value["config"]["model_args"] = "pretrained=org/model,dtype=float16"
    path.write_text(json.dumps(value))
    assert only(tmp_path).fingerprint == row.fingerprint


def test_a_group_and_its_tasks_are_no_columns_side_by_side(tmp_path):
    plain_folder(tmp_path, "x", {"zoo_math": HALF, "zoo_code": HALF, "zoo": HALF})
    path = next(tmp_path.glob("results_*"))
    value = json.loads(path.read_text())
    # Older releases of lm-eval list single tasks there, too.
    value["group_subtasks"] = {"zoo": ["zoo_math", "zoo_code"], "zoo_math": [], "zoo_code": []}
    path.write_text(json.dumps(value))
    assert build_table([tmp_path]).benchmarks == ("zoo",)
    assert build_table([tmp_path], benchmarks=["zoo_code", "zoo_math"]).benchmarks == ("zoo_code", "zoo_math")


def test_identity_comes_from_provenance_where_it_is_about_the_same_spec(tmp_path):
    folder = plain_folder(tmp_path, "a", {"zoo_math": HALF}, digest="aa")
    known: dict[str, object] = {
        **dict.fromkeys(("name", "spec", "engine", "device", "dtype"), "x"),
        **{key: {} for key in ("versions", "host", "seeds", "arguments", "steps")},
        **{"schema": 1, "digest": "aa", "fingerprint": "ff", "files": [], "command": [], "git": None, "started": 1.0},
    }
    (folder / "provenance.json").write_text(json.dumps(known))
    assert only(tmp_path).fingerprint == "ff"
    (folder / "provenance.json").write_text(json.dumps({**known, "digest": "bb"}))
    assert only(tmp_path).fingerprint.startswith("aa")
    # What the results themselves say was true when they were made.
    (folder / "provenance.json").write_text(json.dumps(known))
    path = next(folder.glob("results_*"))
    value = json.loads(path.read_text())
    value["config"]["della_bench"]["model_fingerprint"] = "11"
    path.write_text(json.dumps(value))
    assert only(tmp_path).fingerprint == "11"


def test_one_model_at_several_paths_is_one_row(tmp_path):
    for name, place, task in (
        ("a", "/models/x", "zoo_math"),
        ("b", "./x/", "zoo_code"),
        ("c", "/link/to/x", "zoo_chat"),
    ):
        spec = f"base={place},experts={place},merge_method=ties,name={name}"
        folder = plain_folder(tmp_path / name, name, {task: HALF}, digest=name * 64, spec=spec)
        path = next(folder.glob("results_*"))
        value = json.loads(path.read_text())
        value["config"]["della_bench"]["model_fingerprint"] = "ff" * 32
        path.write_text(json.dumps(value))
    row = only(tmp_path)
    assert sorted(row.cells) == ["zoo_chat", "zoo_code", "zoo_math"]


def test_a_path_that_does_not_exist_is_an_error(tmp_path):
    with pytest.raises(DataError, match="no such file or folder"):
        build_table([tmp_path / "nowhere"])


def test_a_renamed_folder_is_the_same_run(tmp_path):
    plain_folder(tmp_path / "a", "merge", {"zoo_math": HALF})
    before = only(tmp_path)
    shutil.move(tmp_path / "a", tmp_path / "della-12345678")
    after = only(tmp_path)
    assert (after.name, after.fingerprint, after.average) == (before.name, before.fingerprint, before.average)


def test_many_runs_are_read_one_after_the_other_under_a_bar(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    for index in range(100):
        plain_folder(tmp_path / f"{index}", f"run {index}", {"zoo_math": [1.0, 0.0]})
    table = build_table([tmp_path], progress=True)
    assert len(table.rows) == 100
    assert "Reading runs" in capsys.readouterr().err
    # Runs over the same documents hold them once.
    assert len({id(row.cells["zoo_math"].keys) for row in table.rows}) == 1

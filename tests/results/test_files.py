"""Files as they lie about in the world: other names, groups, links in circles, torn and edited ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from della_bench.errors import DataError
from della_bench.judging.alpaca.outputs import read_answers as read_outputs
from della_bench.judging.gsm8k.read import read_answers
from della_bench.results.items import joined_items
from della_bench.results.leaderboard import build_table
from della_bench.results.samples import read_samples
from della_bench.results.schema import read_score
from tests.results.making import BASE_SPEC, plain_folder, sample, scored, write_rows

TIME = "2026-01-01T00-00-00.000000"


def group_folder(folder: Path, name: str, tasks: dict[str, list[float]], *, macro: bool = False) -> None:
    """Write an evaluation of the group `exam` with a group inside it; macro: tasks of unequal sizes weigh alike."""
    plain_folder(folder, name, tasks, spec=BASE_SPEC if name == "base" else None)
    path = folder / f"results_{TIME}.json"
    value = json.loads(path.read_text())
    means = [sum(values) / len(values) for values in tasks.values()]
    items = [each for values in tasks.values() for each in values]
    mean = sum(means) / len(means) if macro else sum(items) / len(items)
    for group in ("exam", "exam_stem"):
        value["results"][group] = {"alias": group, "exact_match,none": mean, "exact_match_stderr,none": 0.1}
    value["group_subtasks"] = {"exam": ["exam_stem"], "exam_stem": list(tasks), **{task: [] for task in tasks}}
    path.write_text(json.dumps(value))


def test_results_of_any_name_are_found_with_their_samples(tmp_path: Path) -> None:
    plain_folder(tmp_path, "m", {"math": [1.0, 0.0]})
    (tmp_path / f"results_{TIME}.json").rename(tmp_path / f"mine_{TIME}.json")
    (tmp_path / "other.json").write_text('{"no": "results"}')
    for path in (tmp_path, tmp_path / f"mine_{TIME}.json"):
        table = build_table([path])
        assert table.rows[0].cells["math"].keys is not None
        assert not table.faults


def test_samples_belong_to_results_of_the_same_ending_whatever_it_is(tmp_path: Path) -> None:
    plain_folder(tmp_path, "m", {"math": [1.0, 0.0]}, time="of_May")
    assert build_table([tmp_path]).rows[0].cells["math"].keys is not None


def test_files_without_a_time_are_told_by_their_task(tmp_path: Path) -> None:
    plain_folder(tmp_path, "m", {"math": [1.0, 0.0]})
    (tmp_path / f"results_{TIME}.json").rename(tmp_path / "results.json")
    (tmp_path / f"samples_math_{TIME}.jsonl").rename(tmp_path / "pretrained__m_math.jsonl")
    assert build_table([tmp_path]).rows[0].cells["math"].n == 2


def test_a_group_is_one_column_and_stands_for_its_tasks(tmp_path: Path) -> None:
    group_folder(tmp_path / "base", "base", {"exam_a": [0.0] * 10, "exam_b": [0.0] * 20})
    group_folder(tmp_path / "m", "m", {"exam_a": [1.0] * 10, "exam_b": [1.0] * 15 + [0.0] * 5})
    table = build_table([tmp_path])
    assert table.benchmarks == ("exam",)
    row = table.rows[0]
    assert row.cells["exam"].value == pytest.approx(100 * 25 / 30)
    assert row.cells["exam"].n == 30
    assert row.versus is not None
    assert row.versus.difference == pytest.approx(100 * 25 / 30)
    assert row.versus.wins == 25
    assert any(note.startswith("exam stands for its tasks") and note.endswith("(3 in all)") for note in table.notes)
    tasks = build_table([tmp_path], benchmarks=["exam_a", "exam_b"])
    assert tasks.rows[0].cells["exam_b"].value == 75.0


def test_the_samples_of_a_group_are_those_of_its_tasks(tmp_path: Path) -> None:
    group_folder(tmp_path, "m", {"exam_a": [1.0, 0.0], "exam_b": [0.0, 1.0, 1.0]})
    cell = build_table([tmp_path]).rows[0].cells["exam"]
    items = list(joined_items(cell))
    assert [(item.doc_id, item.prompt, item.value) for item in items] == [
        (0, "prompt 0", 1.0), (1, "prompt 1", 0.0), (2, "prompt 0", 0.0), (3, "prompt 1", 1.0), (4, "prompt 2", 1.0),
    ]  # fmt: skip
    assert cell.keys == tuple((item.doc_id, item.doc_hash) for item in items)


def test_a_group_that_weighs_tasks_alike_keeps_lm_evals_number_and_is_not_compared(tmp_path: Path) -> None:
    group_folder(tmp_path / "base", "base", {"exam_a": [0.0] * 10, "exam_b": [1.0] * 20}, macro=True)
    group_folder(tmp_path / "m", "m", {"exam_a": [1.0] * 10, "exam_b": [1.0] * 20}, macro=True)
    rows = {row.name: row for row in build_table([tmp_path]).rows}
    assert rows["base"].cells["exam"].value == pytest.approx(50.0)
    versus = rows["m"].cells["exam"].versus
    assert versus is not None
    assert versus.reason == "exact_match is no mean over its items"


def test_a_task_that_some_model_was_asked_alone_keeps_its_column(tmp_path: Path) -> None:
    group_folder(tmp_path / "m", "m", {"exam_a": [1.0], "exam_b": [1.0]})
    plain_folder(tmp_path / "n", "n", {"exam_a": [1.0]})
    assert build_table([tmp_path]).benchmarks == ("exam", "exam_a")


def test_a_group_without_a_number_leaves_its_tasks_as_columns(tmp_path: Path) -> None:
    group_folder(tmp_path, "m", {"exam_a": [1.0], "exam_b": [1.0]})
    path = tmp_path / f"results_{TIME}.json"
    value = json.loads(path.read_text())
    value["results"] |= {group: {"alias": group, " ": " "} for group in ("exam", "exam_stem")}
    path.write_text(json.dumps(value))
    assert build_table([tmp_path]).benchmarks == ("exam_a", "exam_b")


@pytest.mark.parametrize("reader", [read_samples, read_answers])
def test_results_given_as_samples_are_called_results(tmp_path: Path, reader: Any) -> None:
    plain_folder(tmp_path, "m", {"math": [1.0]})
    with pytest.raises(DataError, match=f"the results of lm-eval.*samples_math_{TIME}.jsonl"):
        reader(tmp_path / f"results_{TIME}.json")


def test_results_given_to_a_judge_of_alpaca_eval_are_called_results(tmp_path: Path) -> None:
    plain_folder(tmp_path, "m", {"alpaca_eval": [1.0]})
    with pytest.raises(DataError, match="the results of lm-eval"):
        read_outputs(tmp_path / f"results_{TIME}.json", None)  # type: ignore[arg-type]


def test_samples_given_as_a_run_are_called_samples(tmp_path: Path) -> None:
    plain_folder(tmp_path, "m", {"math": [1.0]})
    with pytest.raises(DataError, match="lm-eval's samples; name the results file beside them"):
        build_table([tmp_path / f"samples_math_{TIME}.jsonl"])


def test_links_in_a_circle_end_and_show_each_run_once(tmp_path: Path) -> None:
    plain_folder(tmp_path / "runs/m", "m", {"math": [1.0]})
    (tmp_path / "runs/m/up").symlink_to(tmp_path / "runs", target_is_directory=True)
    (tmp_path / "runs/again").symlink_to(tmp_path / "runs/m", target_is_directory=True)
    table = build_table([tmp_path / "runs"])
    assert [row.name for row in table.rows] == ["m"]
    assert "up" not in str(table.rows[0].folders)


def test_a_torn_samples_file_gives_no_number(tmp_path: Path) -> None:
    plain_folder(tmp_path, "m", {"math": [1.0, 1.0, 0.0, 0.0]})
    write_rows(tmp_path / f"samples_math_{TIME}.jsonl", [sample(0, 1.0, "", "exact_match")])
    table = build_table([tmp_path])
    assert "math" not in table.rows[0].cells
    assert "samples of 1 documents, and lm-eval scored 4: torn, or edited" in table.faults[0]


def test_a_score_that_was_edited_by_hand_is_said_and_left_out(tmp_path: Path) -> None:
    plain_folder(tmp_path, "m", {"math": [1.0, 0.0]})
    path = scored(tmp_path, "math", [1.0, 0.0])
    assert read_score(path)["value"] == 50.0
    path.write_text(path.read_text().replace('"value": 50.0', '"value": 90.0'))
    with pytest.raises(DataError, match="changed by hand"):
        read_score(path)
    table = build_table([tmp_path])
    assert table.rows[0].cells["math"].scorer["name"] == "lm_eval"
    assert any("changed by hand" in fault for fault in table.faults)


def test_a_score_of_an_earlier_release_has_no_digest_and_is_read(tmp_path: Path) -> None:
    path = scored(tmp_path, "math", [1.0, 0.0])
    value = json.loads(path.read_text())
    del value["digest"]
    path.write_text(json.dumps(value))
    assert read_score(path)["value"] == 50.0

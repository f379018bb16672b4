from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from della_bench.cli import app
from della_bench.errors import UsageError
from della_bench.visible import visible
from tests.results.making import plain_folder


def call(*arguments):
    return CliRunner().invoke(app, ["compare", *map(str, arguments)], catch_exceptions=False, env={"COLUMNS": "160"})


@pytest.fixture
def folders(tmp_path):
    plain_folder(tmp_path / "a", "one", {"zoo_math": [1.0] * 20 + [0.0] * 20, "zoo_code": [1.0, 0.0] * 20})
    plain_folder(tmp_path / "b", "two", {"zoo_math": [0.0] * 40, "zoo_code": [0.0, 1.0] * 20})
    return tmp_path / "a", tmp_path / "b"


def test_two_runs_are_compared_item_by_item_with_noise_told(folders):
    text = call(*folders).stdout
    (math,) = (line for line in text.splitlines() if line.strip().startswith("zoo_math"))
    (code,) = (line for line in text.splitlines() if line.strip().startswith("zoo_code"))
    assert "+50.0 [+" in math
    assert "20 : 0" in math
    assert "<0.001" in math
    assert "better" in math
    assert "+0.0 [" in code
    assert "20 : 20" in code
    assert "noise" in code


def test_the_order_decides_the_sign(folders):
    text = call(*reversed(folders)).stdout
    assert "-50.0" in text
    assert "worse" in text


def test_items_where_they_differ_are_shown_side_by_side(folders):
    text = call(*folders, "--items", "zoo_math", "--limit", "2").stdout
    assert "20 of 40 items differ" in text
    assert "A, right: response 0" in text
    assert "B, wrong: response 0" in text
    assert "prompt 2" not in text


def test_what_models_or_files_say_is_shown_and_not_obeyed(tmp_path):
    evil = "\x1b[2J\x1b]0;t\x07a\rb\u202ec"
    for name, values in (("one", [1.0, 0.0]), ("two", [0.0, 0.0])):
        folder = plain_folder(tmp_path / name, f"{name}{evil}", {"zoo_math": values})
        samples = next(folder.glob("samples_*"))
        for said in ("response 0", "prompt 0", "target 0"):
            samples.write_text(samples.read_text().replace(said, json.dumps(f"{said}: {evil}")[1:-1]))
    result = call(tmp_path / "one", tmp_path / "two", "--items", "zoo_math")
    for shown in ("one", "two", "response 0: ", "prompt 0: ", "target 0: "):
        assert f"{shown}\\x1b[2J\\x1b]0;t\\x07a\\x0db\\u202ec" in result.stdout
    assert visible(result.output) == result.output


def test_other_documents_are_not_compared_and_the_reason_is_told(folders, tmp_path):
    plain_folder(tmp_path / "c", "three", {"zoo_math": [1.0] * 40}, revision=" v2")
    found = call(folders[0], tmp_path / "c")
    assert "another revision of the data set" in found.stdout + found.stderr


def test_a_folder_of_several_models_is_an_error_that_names_them(folders, tmp_path):
    with pytest.raises(UsageError, match=r"holds 2 models \(one, two\); name the folder of one run"):
        call(tmp_path, folders[0])


def test_a_terminal_of_80_columns_shows_all_numbers_whole(folders):
    found = CliRunner().invoke(app, ["compare", *map(str, folders)], env={"COLUMNS": "80"})
    lines = found.stdout.splitlines()
    assert max(map(len, lines[2:])) <= 80
    for whole in ("zoo_math", "zoo_code", "average", "20 : 20", "<0.001", "+50.0", "noise"):
        assert whole in found.stdout
    assert "[35.2, 64.8]" in found.stdout  # an interval in one piece, below its value


def test_names_of_benchmarks_are_whole_beside_the_widest_numbers_in_80_columns(tmp_path):
    names = ("alpaca_eval", "humaneval", "truthfulqa_mc2")
    plain_folder(tmp_path / "a", "one", {name: [1.0, 0.0] * 200 for name in names})
    plain_folder(tmp_path / "b", "two", {name: [0.0, 1.0] * 199 + [0.0, 0.0] for name in names})
    found = CliRunner().invoke(app, ["compare", str(tmp_path / "a"), str(tmp_path / "b")], env={"COLUMNS": "80"})
    lines = found.stdout.splitlines()
    assert max(map(len, lines[2:])) <= 80
    for whole in (*names, "benchmark", "200 : 199", "[45.1, 54.9]", "[-9.5, +10.0]"):
        assert whole in found.stdout


def test_a_benchmark_that_only_one_has_is_said_to_be_that_ones(folders, tmp_path):
    plain_folder(tmp_path / "c", "three", {"zoo_math": [1.0] * 40})
    lines = call(folders[0], tmp_path / "c").stdout.splitlines()
    code, *_ = (line for line in lines if line.strip().startswith("zoo_code"))  # a reason may stand below the table
    assert code.rstrip().endswith(("only A", "not compared", "see below"))


def test_one_model_twice_is_nothing_to_compare(tmp_path):
    for name, values in (("a", [1.0] * 4), ("b", [0.0] * 4)):
        plain_folder(tmp_path / name, "one", {"zoo_math": values})
    with pytest.raises(UsageError, match="hold the same model, one: nothing to compare"):
        call(tmp_path / "a", tmp_path / "b")

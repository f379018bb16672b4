from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from della_bench.cli import app
from della_bench.errors import UsageError
from della_bench.visible import visible
from tests.results.making import plain_folder


def call(*arguments):
    return CliRunner().invoke(app, ["show", *map(str, arguments)], catch_exceptions=False, env={"COLUMNS": "160"})


def test_a_run_is_shown_with_intervals_and_scorers(tmp_path):
    plain_folder(tmp_path, "merge", {"zoo_math": [1.0, 0.0] * 5, "zoo_code": [1.0] * 10})
    text = call(tmp_path).stdout
    assert "merge_method=ties" in text
    assert "50.0 [23.7, 76.3]" in text
    assert "75.0" in text
    assert "lm_eval 1.0" in text


def test_answers_are_shown_as_they_are_markup_included(tmp_path):
    folder = plain_folder(tmp_path, "merge", {"zoo_math": [1.0, 0.0, 0.0]})
    samples = next(folder.glob("samples_*"))
    samples.write_text(samples.read_text().replace("response 1", "[bold]<script>[/bold]"))
    text = call(tmp_path, "--items", "zoo_math", "--wrong").stdout
    assert "[bold]<script>[/bold]" in text
    assert "prompt 2" in text
    assert "prompt 0" not in text
    assert "and 2 more" in call(tmp_path, "--items", "zoo_math", "--limit", "1").stdout


def test_what_is_not_there_is_an_error(tmp_path):
    plain_folder(tmp_path / "a", "merge", {"zoo_math": [1.0]})
    with pytest.raises(UsageError, match="did you mean 'zoo_math'"):
        call(tmp_path / "a", "--items", "zoo_maths")
    (tmp_path / "b").mkdir()
    with pytest.raises(UsageError, match="no evaluation to show"):
        call(tmp_path / "b")


def test_what_a_model_or_a_file_says_is_shown_and_not_obeyed(tmp_path):
    evil = "\x1b[2J\x1b]0;t\x07a\rb\u202ec"
    folder = plain_folder(tmp_path, f"merge{evil}", {"zoo_math": [1.0, 0.0]})
    samples = next(folder.glob("samples_*"))
    for said in ("response 1", "prompt 1", "target 1", "answer 1"):
        samples.write_text(samples.read_text().replace(said, json.dumps(f"{said}: {evil}")[1:-1]))
    result = call(tmp_path, "--items", "zoo_math")
    for shown in ("merge", "response 1: ", "prompt 1: ", "target 1: "):
        assert f"{shown}\\x1b[2J\\x1b]0;t\\x07a\\x0db\\u202ec" in result.stdout
    assert visible(result.output) == result.output

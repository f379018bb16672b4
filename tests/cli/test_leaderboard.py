from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from della_bench.cli import app, main
from della_bench.cli.leaderboard import columns_of, scorers_of
from della_bench.errors import DataError
from tests.results.making import BASE_SPEC, plain_folder

HALF = [1.0, 0.0] * 5


@pytest.fixture
def runs(tmp_path):
    plain_folder(tmp_path / "runs" / "a", "base", {"zoo_math": [0.0] * 10}, spec=BASE_SPEC)
    plain_folder(tmp_path / "runs" / "b", "merge", {"zoo_math": HALF})
    return tmp_path / "runs"


def call(*arguments):
    return CliRunner().invoke(app, ["leaderboard", *map(str, arguments)])


def test_a_file_is_written_in_the_format_of_its_name(runs, tmp_path):
    for name, start in (("x.csv", "name,method"), ("x.md", "| model"), ("x.json", "{"), ("x.tex", "\\begin{tabular}")):
        found = call(runs, "-o", tmp_path / "new" / name)
        assert found.exit_code == 0
        assert found.stderr == f"{tmp_path / 'new' / name}: 2 rows\n"
        assert (tmp_path / "new" / name).read_text().startswith(start)


def test_without_a_file_the_table_and_nothing_else_is_on_standard_output(runs):
    found = call(runs, "--format", "json")
    assert [row["name"] for row in json.loads(found.stdout)["rows"]] == ["merge", "base"]


def test_what_cannot_be_read_is_a_note_or_with_strict_an_error(runs):
    (runs / "c").mkdir()
    (runs / "c" / "spec.yaml").write_text("")
    found = call(runs)
    assert found.exit_code == 0
    assert "note: " in found.stderr
    assert "half written" in found.stderr
    with pytest.raises(DataError, match="half written"):
        CliRunner().invoke(app, ["leaderboard", str(runs), "--strict"], catch_exceptions=False)


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["--format", "xls"], "format 'xls': no such format"),
        (["--baseline", "bas"], "did you mean 'base'"),
        (["--scorer", "zoo_math=x"], "no score of that name"),
        (["--scorer", "gsm8k=x"], "no such column"),
        (["--benchmarks", "gsm8k"], "no run has it"),
        (["--alpaca-eval", "--format", "md"], "--alpaca-eval writes a CSV"),
        (["--format", "parquet"], "name a file with -o"),
    ],
)
def test_a_wrong_option_is_one_message_and_exit_code_2(runs, arguments, fault, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["leaderboard", str(runs), *arguments])
    assert ended.value.code == 2
    assert fault in capsys.readouterr().err


def test_a_scorer_without_a_benchmark_is_a_usage_error(runs):
    assert call(runs, "--scorer", "gpt").exit_code == 2


@pytest.mark.parametrize(("name", "fault"), [("lb.html", "--html"), ("lb.xlsx", "no format has the ending .xlsx")])
def test_an_ending_that_no_format_has_is_an_error_and_no_csv_is_written(runs, tmp_path, name, fault, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["leaderboard", str(runs), "-o", str(tmp_path / name)])
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("della_bench: error: --out: ")
    assert fault in error
    assert not (tmp_path / name).exists()


def test_an_ending_does_not_matter_where_the_format_is_named_and_none_means_csv(runs, tmp_path):
    for name, options in (("lb.txt", ["--format", "csv"]), ("table", [])):
        with pytest.raises(SystemExit):
            main(["leaderboard", str(runs), "-o", str(tmp_path / name), *options])
        assert (tmp_path / name).read_text().startswith("name,method,")


def test_a_folder_without_evaluations_is_an_error(tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["leaderboard", str(tmp_path)])
    assert ended.value.code == 2
    assert "no evaluation to show" in capsys.readouterr().err


def test_a_column_is_named_with_the_commas_and_equals_signs_in_its_brackets():
    names = "gsm8k (0-shot, temperature=0.7),mbpp"
    assert columns_of(names) == ["gsm8k (0-shot, temperature=0.7)", "mbpp"]
    assert scorers_of(["gsm8k (0-shot, temperature=0.7)=exact"]) == {"gsm8k (0-shot, temperature=0.7)": "exact"}

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess

import pyarrow.parquet
import pytest

from della_bench.errors import DataError
from della_bench.results.formats import FORMATS, alpaca_eval_csv, format_of, render, write
from della_bench.results.leaderboard import build_table
from tests.results.making import BASE_SPEC, JUDGE, plain_folder, scored
from tests.waiting import HANGS

HALF = [1.0, 0.0] * 5
NAMES = [
    "=1+1",
    '=HYPERLINK("http://x","y")',
    "+1",
    "-1",
    "@SUM(A1)",
    "\t=1",
    "a,b",
    'quote "x"',
    "two\nlines",
    "über–é",
]


@pytest.fixture
def table(tmp_path):
    plain_folder(tmp_path / "runs" / "base", "base", {"zoo_math": [0.0] * 10}, spec=BASE_SPEC)
    for index, name in enumerate(NAMES):
        values = [1.0] * (index % 10) + [0.0] * (10 - index % 10)
        plain_folder(tmp_path / "runs" / f"{index}", name, {"zoo_math": values}, digest=f"{index}abc")
    return build_table([tmp_path / "runs"], paper=True)


def rows_of(text):
    return list(csv.DictReader(io.StringIO(text, newline=""), strict=True))


def test_csv_is_rfc_4180_with_unrounded_numbers(table):
    text = render(table, "csv")
    assert text.count("\r\n") == len(table.rows) + 1
    assert "\r" not in text.replace("\r\n", "")
    rows = rows_of(text)
    assert len({len(row) for row in csv.reader(io.StringIO(text, newline=""))}) == 1
    for row, line in zip(table.rows, rows, strict=True):
        cell = row.cells.get("zoo_math")
        assert line["zoo_math"] == ("" if cell is None else repr(cell.value))
        assert line["zoo_math_low"] == ("" if cell is None else repr(cell.interval[0]))
        if cell and cell.versus:
            assert float(line["zoo_math vs base p"]) == cell.versus.p


def test_each_key_of_the_spec_is_a_column_of_its_own_type(tmp_path):
    specs = {
        "one": "base=zoo:base,experts=zoo:math+zoo:code,merge_method=ties,density=0.5,weights=1.0+0.5,lambda=0.7",
        "two": "base=zoo:base,experts=zoo:math+zoo:code,merge_method=task_arithmetic,lambda=1",
        "other": "pretrained=org/name,dtype=float32",
    }
    for name, spec in specs.items():
        plain_folder(tmp_path / "runs" / name, name, {"zoo_math": HALF}, spec=spec)
    table = build_table([tmp_path / "runs"])
    rows = {row["name"]: row for row in rows_of(render(table, "csv"))}
    assert (rows["one"]["spec.lambda"], rows["two"]["spec.lambda"], rows["other"]["spec.lambda"]) == ("0.7", "1.0", "")
    assert (rows["one"]["spec.density"], rows["two"]["spec.density"]) == ("0.5", "")
    assert (rows["one"]["spec.weights"], rows["two"]["spec.weights"]) == ("1.0+0.5", "1.0")
    assert rows["one"]["spec.experts"] == "zoo:math+zoo:code"
    assert {row["name"]: row["spec.lambda"] for row in json.loads(render(table, "json"))["rows"]}["one"] == 0.7


def test_no_cell_is_a_formula_to_a_spreadsheet_and_numbers_stay_numbers(table):
    text = render(table, "csv")
    for row in csv.reader(io.StringIO(text, newline="")):
        for field in row:
            assert not re.match(r"[=+@\t\r]", field)
            if field.startswith("-"):
                float(field)
    assert {f"'{name}" for name in NAMES[:6]} <= {row["name"] for row in rows_of(text)}


def test_the_same_runs_give_the_same_bytes(table, tmp_path):
    assert render(build_table([tmp_path / "runs"], paper=True), "csv") == render(table, "csv")


def test_pandas_reads_the_right_types(table, tmp_path):
    pandas = pytest.importorskip("pandas")
    write(table, tmp_path / "x.csv", "csv")
    frame = pandas.read_csv(tmp_path / "x.csv", parse_dates=["date"])
    assert str(frame["date"].dtype).startswith("datetime64")
    for column in ("zoo_math", "zoo_math_low", "average", "zoo_math vs base p", "zoo_math_n"):
        assert frame[column].dtype == float, column  # whole numbers with gaps are floats to pandas
    assert list(frame["name"]) == [row["name"] for row in rows_of(render(table, "csv"))]
    assert frame["zoo_math"][0] == table.rows[0].cells["zoo_math"].value


def test_duckdb_reads_the_right_types(table, tmp_path):
    duckdb = pytest.importorskip("duckdb")
    write(table, tmp_path / "x.csv", "csv")
    found = duckdb.sql(f"select * from read_csv('{tmp_path / 'x.csv'}')")
    types = dict(zip(found.columns, map(str, found.types), strict=True))
    wanted = {"name": "VARCHAR", "zoo_math": "DOUBLE", "zoo_math_n": "BIGINT", "average": "DOUBLE", "date": "TIMESTAMP"}
    assert wanted.items() <= types.items()
    assert types["zoo_math vs base p"] == "DOUBLE"
    assert len(found.fetchall()) == len(table.rows)


@pytest.mark.slow
def test_libreoffice_reads_the_right_types_and_computes_nothing(table, tmp_path):
    office = shutil.which("soffice")
    if office is None:
        pytest.skip("LibreOffice is not installed")
    import xml.etree.ElementTree as Tree

    write(table, tmp_path / "x.csv", "csv")
    profile = f"-env:UserInstallation=file://{tmp_path / 'profile'}"
    command = [office, profile, "--headless", "--convert-to", "fods", "--infilter=CSV:44,34,UTF8,1"]
    subprocess.run([*command, "--outdir", str(tmp_path), str(tmp_path / "x.csv")], check=True, timeout=HANGS)
    spaces = {
        "table": "urn:oasis:names:tc:opendocument:xmlns:table:1.0",
        "office": "urn:oasis:names:tc:opendocument:xmlns:office:1.0",
        "text": "urn:oasis:names:tc:opendocument:xmlns:text:1.0",
    }
    kind, repeated = f"{{{spaces['office']}}}value-type", f"{{{spaces['table']}}}number-columns-repeated"
    rows = Tree.parse(tmp_path / "x.fods").getroot().findall(".//table:table-row", spaces)
    sheet = []
    for row in rows[: len(table.rows) + 1]:
        cells = []
        for cell in row.findall("table:table-cell", spaces):
            assert f"{{{spaces['table']}}}formula" not in cell.attrib
            shown = "\n".join("".join(line.itertext()) for line in cell.findall("text:p", spaces))
            cells += [(cell.get(kind), shown)] * int(cell.get(repeated, "1"))
        sheet.append(cells)
    head = [shown for _, shown in sheet[0]]
    first = dict(zip(head, sheet[1], strict=False))
    kinds = {name: kind for name, (kind, _) in first.items()}
    assert kinds["zoo_math"] == kinds["average"] == kinds["zoo_math_n"] == kinds["zoo_math vs base p"] == "float"
    assert kinds["date"] == "date"
    assert kinds["name"] == "string"
    assert "über–é" in {cells[0][1] for cells in sheet[1:]}


def test_parquet_keeps_types_and_notes(table, tmp_path):
    from pyarrow import parquet

    write(table, tmp_path / "x.parquet", "parquet")
    found = parquet.read_table(tmp_path / "x.parquet")
    types = {field.name: str(field.type) for field in found.schema}
    wanted = {"name": "string", "zoo_math": "double", "zoo_math_n": "int64", "date": "timestamp[ms, tz=UTC]"}
    assert wanted.items() <= types.items()
    assert found["name"].to_pylist() == [row.name for row in table.rows]  # no spreadsheet reads it: as it is
    assert json.loads(found.schema.metadata[b"notes"]) == list(table.notes)
    with pytest.raises(DataError, match="Parquet is no text"):
        render(table, "parquet")


def test_json_holds_rows_and_notes(table):
    found = json.loads(render(table, "json"))
    assert [row["name"] for row in found["rows"]] == [row.name for row in table.rows]
    assert found["averaged"] == ["zoo_math"]
    assert found["notes"] == list(table.notes)
    assert found["rows"][0]["zoo_math"] == table.rows[0].cells["zoo_math"].value


def test_markdown_holds_one_line_a_row_whatever_a_name_holds(table, tmp_path):
    plain_folder(tmp_path / "more", "a|b <script>alert(1)</script> [x](y) `c`", {"zoo_math": HALF})
    shown = build_table([tmp_path / "more"])
    lines = render(shown, "md").splitlines()
    assert lines[2].startswith(r"| a\|b \<script\>alert(1)\</script\> \[x\](y) \`c\` | ties | 50.0 \[23.7, 76.3\] n=10")
    assert render(table, "md").splitlines()[2 + len(table.rows)] == ""


@pytest.mark.slow
def test_latex_compiles_characters_away(table):
    text = render(table, "latex")
    body = text[: text.index(r"\bottomrule")]
    assert re.search(r"(?<!\\)[_#%$&](?![^&]*&)", body.replace(" & ", "").replace(r"\_", "")) is None
    assert body.count(r"\\") == len(table.rows) + 1


def test_alpaca_evals_own_leaderboard_takes_our_rows(tmp_path):
    pandas = pytest.importorskip("pandas")
    for name, values in (("one", HALF), ("two", [1.0] * 9 + [0.5])):
        folder = plain_folder(tmp_path / name, name, {"alpaca_eval": HALF})
        scored(folder, "alpaca_eval", values, JUDGE, detail={"alpaca_eval": {"avg_length": 1234}}, metric="win_rate")
    plain_folder(tmp_path / "three", "three", {"zoo_math": HALF})
    text = alpaca_eval_csv(build_table([tmp_path], scorers={"alpaca_eval": "gpt"}))
    frame = pandas.read_csv(io.StringIO(text), index_col=0)
    assert list(frame.index) == ["two", "one"]
    assert list(frame.columns) == ["win_rate", "standard_error", "n_total", "avg_length", "mode"]
    assert frame.loc["two", "win_rate"] == 95.0
    assert frame.loc["two", "standard_error"] == pytest.approx(5.0)
    assert frame.loc["one"].n_total == 10
    assert frame.loc["one"].avg_length == 1234
    packaged = pytest.importorskip("alpaca_eval.constants").PRECOMPUTED_LEADERBOARDS
    theirs = pandas.read_csv(next(iter(packaged.values())), index_col=0)
    assert set(frame.columns) <= set(theirs.columns)
    both = pandas.concat([theirs, frame])
    assert both["win_rate"].dtype == both["n_total"].dtype == float or both["n_total"].dtype == int
    assert len(both) == len(theirs) + 2


def test_the_format_is_the_files_ending_unless_it_is_named(tmp_path):
    assert format_of(None, None) == "csv"
    assert format_of(tmp_path / "x.tex", None) == "latex"
    assert format_of(tmp_path / "x.tex", "json") == "json"
    with pytest.raises(DataError, match="no such format; did you mean 'json'"):
        format_of(None, "jsn")
    assert set(FORMATS) == {"csv", "md", "json", "parquet", "latex"}


def test_benchmarks_may_be_called_as_other_columns_are(tmp_path):
    plain_folder(tmp_path, "a", {"race": [1.0, 0.0], "race_high": [0.0, 0.0], "name": [1.0, 1.0]})
    (row,) = json.loads(render(build_table([tmp_path]), "json"))["rows"]
    assert (row["name"], row["race"], row["race_high (2)"], row["name (2)"]) == ("a", 50.0, 0.0, 100.0)
    assert row["race_high"] > 50


def test_a_seed_of_64_bits_is_a_number_of_parquet_too(tmp_path):
    spec = f"base=zoo:base,experts=zoo:math,merge_method=ties,density=0.5,seed={2**64 - 1},name=a"
    plain_folder(tmp_path / "a", "a", {"zoo_math": [1.0]}, spec=spec)
    write(build_table([tmp_path]), tmp_path / "x.parquet", "parquet")
    assert pyarrow.parquet.read_table(tmp_path / "x.parquet").column("spec.seed").to_pylist() == [2**64 - 1]


def test_no_row_of_latex_begins_as_an_argument_of_the_one_above(tmp_path):
    for name in ("a", "[b]", "*c"):
        plain_folder(tmp_path / name, name, {"zoo_math": [1.0]})
    text = render(build_table([tmp_path]), "latex")
    assert "\n{}[b]" in text
    assert "\n{}*c" in text

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from della_bench.results.chosen import Chosen, copy_remembered, remember, with_choices, write_chosen
from della_bench.results.columns import columns
from della_bench.results.formats import render
from della_bench.results.table import Cell, CellSource, Row, Table


@pytest.fixture(autouse=True)
def memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("DELLA_BENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def row(folder: Path, fingerprint: str, hashes: list[str]) -> Row:
    scorer = {"name": "s", "version": "1", "model": None}
    keys = tuple(enumerate(hashes))
    cell = Cell("zoo_math", "m", 50.0, (40.0, 60.0), len(keys), 0, scorer, CellSource(folder), keys=keys)  # type: ignore[arg-type]
    return Row(fingerprint[:4], "della", "", fingerprint, {"zoo_math": cell}, folders=(folder,))


def test_a_row_is_marked_on_the_items_that_chose_it_whatever_folder_its_number_comes_from(tmp_path):
    searched, elsewhere = tmp_path / "searched", tmp_path / "elsewhere"
    write_chosen(searched, Chosen("f" * 64, {"zoo_math_validation": ["a", "b"]}))
    rows, notes = with_choices(
        [
            row(searched, "f" * 64, ["a", "b", "c"]),
            row(elsewhere, "f" * 64, ["b"]),
            row(elsewhere, "f" * 64, ["x"]),
            row(elsewhere, "e" * 64, ["a"]),
            row(elsewhere, "f" * 64, ["zoo_math a", "zoo_code b", "zoo_code x"]),  # of a group
        ]
    )
    assert [each.cells["zoo_math"].chosen_on for each in rows] == [2, 1, 0, 0, 2]
    assert len(notes) == 3
    assert "selected on these items (2 of 3)" in notes[0]


def test_what_is_remembered_goes_into_a_later_runs_folder_and_so_travels(tmp_path, monkeypatch):
    remember(Chosen("f" * 64, {"zoo_math_validation": ["a"]}))
    remember(Chosen("f" * 64, {"zoo_math_validation": ["b"]}))
    copy_remembered(tmp_path / "run", "f" * 64)
    copy_remembered(tmp_path / "other", "e" * 64)
    monkeypatch.setenv("DELLA_BENCH_CACHE", str(tmp_path / "another machine"))
    rows, _ = with_choices([row(tmp_path / "run", "f" * 64, ["a", "b", "c"]), row(tmp_path / "other", "e" * 64, ["a"])])
    assert [each.cells["zoo_math"].chosen_on for each in rows] == [2, 0]


def test_every_table_shows_the_mark(tmp_path):
    marked = row(tmp_path, "f" * 64, ["a"])
    cells = {"zoo_math": replace(marked.cells["zoo_math"], chosen_on=1)}
    table = Table((replace(marked, cells=cells, average=50.0),), ("zoo_math",), ("zoo_math",))
    assert {each.header: each.of(table.rows[0]) for each in columns(table)}["zoo_math_selected_on"] == 1
    assert "†: selected on these items" in render(table, "md")
    assert "†" in render(table, "md").split("selected on")[0]


def test_a_record_that_cannot_be_read_marks_nothing_and_is_told(tmp_path, caplog):
    (tmp_path / "chosen.json").write_text("{")
    rows, _ = with_choices([row(tmp_path, "f" * 64, ["a"])])
    assert rows[0].cells["zoo_math"].chosen_on == 0
    assert "chosen.json" in caplog.text

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType, SimpleNamespace
from typing import Any

from della_bench.results.averages import averaged_benchmarks


def row(name: str, counts: Mapping[str, int], parts: Mapping[str, Any] = MappingProxyType({})) -> Any:
    """Return a row with a cell of so many items for each column; parts: the tasks of groups, each with its file."""
    return SimpleNamespace(
        name=name,
        cells={
            column: SimpleNamespace(value=50.0, n=count, source=SimpleNamespace(parts=parts.get(column, ())))
            for column, count in counts.items()
        },
    )


def test_documents_that_were_asked_in_several_ways_count_once():
    columns = ["math (5 of 200 documents)", "math (7 of 200 documents)", "code (0-shot)", "code (5-shot)", "chat"]
    rows = [row(name, dict(zip(columns, (5, 7, 20, 20, 3), strict=True))) for name in ("a", "b")]
    averaged, notes = averaged_benchmarks(rows, columns, wanted=None)
    assert averaged == [columns[1], columns[2], columns[4]]
    assert notes == [
        f"{columns[0]}: left out of the average, where {columns[1]} stands for math",
        f"{columns[3]}: left out of the average, where {columns[2]} stands for code",
    ]
    assert averaged_benchmarks(rows, columns, wanted=columns) == (columns, [])
    assert averaged_benchmarks(rows, columns[:2], wanted=["math"]) == ([columns[1]], notes[:1])
    rows[1].cells.pop(columns[1])
    assert averaged_benchmarks(rows, columns[:2], wanted=["math"])[0] == [columns[0]]


def test_a_task_beside_its_group_counts_once():
    parts = {"group": (("one", None), ("two", None))}
    rows = [row(name, {"group": 20, "one": 10, "three": 5}, parts) for name in ("a", "b")]
    averaged, notes = averaged_benchmarks(rows, ["group", "one", "three"], wanted=None)
    assert averaged == ["group", "three"]
    assert notes == ["one: left out of the average: it is a part of group"]

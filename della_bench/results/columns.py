"""The leaderboard as plain columns of one type each, which every file format is written from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Literal, cast

from della_bench.errors import SpecError
from della_bench.results.settings import plain_name
from della_bench.results.table import Cell, Comparison, Row, Table, scorer_label
from della_bench.spec import KEYS, MergeSpec

__all__ = ["Column", "Value", "alpaca_eval_cell", "alpaca_eval_columns", "columns", "verdict"]

Value = str | float | bool | datetime | None  # an int is a float to the type checker
Kind = Literal["text", "float", "int", "bool", "date"]


@dataclass(frozen=True)
class Column:
    """One column: its header, the type of its values (None where a row has none) and how a row's value is had."""

    header: str
    kind: Kind
    of: Callable[[Row], Value]


def columns(table: Table) -> list[Column]:
    """Return the columns of the whole table; values are percent, differences points, dates in UTC."""
    out = [
        Column("name", "text", lambda row: row.name),
        Column("method", "text", lambda row: row.method),
        Column("spec", "text", lambda row: row.spec),
        *_spec_columns(table.rows),
        Column("fingerprint", "text", lambda row: row.fingerprint),
        Column("engine", "text", lambda row: row.engine),
        Column("reference", "text", lambda row: row.note),
        Column("average", "float", lambda row: row.average),
        Column("average_low", "float", lambda row: _end(row.average_interval, 0)),
        Column("average_high", "float", lambda row: _end(row.average_interval, 1)),
    ]
    if table.baseline is not None:
        out += _comparison("", table.baseline, lambda row: row.versus)
    for benchmark in table.benchmarks:
        out += _benchmark(benchmark, table.baseline)
    return _told_apart([*out, Column("date", "date", _date)])


def _told_apart(columns: list[Column]) -> list[Column]:
    """Return columns with different headers: a benchmark may be called `name`, or another one's name and `_high`."""
    seen: Counter[str] = Counter()
    out = []
    for column in columns:
        seen[column.header] += 1
        count = seen[column.header]
        out.append(column if count == 1 else replace(column, header=f"{column.header} ({count})"))
    return out


def _spec_columns(rows: Sequence[Row]) -> list[Column]:
    """Return a column for each key that some row's spec has, defaults included: `spec.lambda`, `spec.density`, ..."""
    keys = {row.spec: _keys_of(row.spec) for row in rows}
    used = [key for key in KEYS if any(key in values for values in keys.values())]
    return [_spec_column(key, keys) for key in used if key != "name"]


def _spec_column(key: str, keys: Mapping[str, Mapping[str, object]]) -> Column:
    """Return the column of a key: numbers where every spec has one number for it, else text as in a spec."""
    found = {spec: _one_of_equals(values[key]) for spec, values in keys.items() if key in values}
    kinds = {type(value) for value in found.values()}
    if kinds == {bool}:
        return Column(f"spec.{key}", "bool", lambda row: cast(Value, found.get(row.spec)))
    if kinds == {int}:
        return Column(f"spec.{key}", "int", lambda row: cast(Value, found.get(row.spec)))
    if kinds <= {int, float}:
        numbers = {spec: float(str(value)) for spec, value in found.items()}
        return Column(f"spec.{key}", "float", lambda row: numbers.get(row.spec))
    between = "/" if key == "slices" else "+"
    texts = {
        spec: between.join(map(str, value)) if isinstance(value, list) else str(value) for spec, value in found.items()
    }
    return Column(f"spec.{key}", "text", lambda row: texts.get(row.spec))


def _one_of_equals(value: object) -> object:
    """Return the one number that a list repeats for each expert, else the value as it is."""
    numbers = isinstance(value, list) and value and all(isinstance(each, (int, float)) for each in value)
    return value[0] if isinstance(value, list) and numbers and len(set(value)) == 1 else value


def _keys_of(spec: str) -> Mapping[str, object]:
    """Return the effective keys of a merge's spec; none of another model's arguments, or of another release's spec."""
    try:
        return MergeSpec.parse(spec).as_keys(effective=True)
    except SpecError:
        return {}


def _benchmark(name: str, baseline: str | None) -> list[Column]:
    def of(get: Callable[[Cell], Value]) -> Callable[[Row], Value]:
        return lambda row: get(row.cells[name]) if name in row.cells else None

    out = [
        Column(name, "float", of(lambda cell: cell.value)),
        Column(f"{name}_low", "float", of(lambda cell: _end(cell.interval, 0))),
        Column(f"{name}_high", "float", of(lambda cell: _end(cell.interval, 1))),
        Column(f"{name}_n", "int", of(lambda cell: cell.n or None)),
        Column(f"{name}_unscored", "int", of(lambda cell: cell.unscored if cell.n + cell.unscored else None)),
        Column(f"{name}_judge", "text", of(lambda cell: scorer_label(cell.scorer))),
        Column(f"{name}_not_compared", "text", of(lambda cell: cell.excluded)),
        Column(f"{name}_selected_on", "int", of(lambda cell: cell.chosen_on or None)),
    ]
    if baseline is not None:
        out += _comparison(f"{name} ", baseline, lambda row: row.cells[name].versus if name in row.cells else None)
    return out


def _comparison(prefix: str, baseline: str, get: Callable[[Row], Comparison | None]) -> list[Column]:
    def of(value: Callable[[Comparison], Value]) -> Callable[[Row], Value]:
        def known(row: Row) -> Value:
            comparison = get(row)
            return None if comparison is None else value(comparison)

        return known

    head = f"{prefix}vs {baseline}"
    out = [
        Column(head, "float", of(lambda found: found.difference)),
        Column(f"{head} low", "float", of(lambda found: _end(found.interval, 0))),
        Column(f"{head} high", "float", of(lambda found: _end(found.interval, 1))),
        Column(f"{head} p", "float", of(lambda found: found.p)),
        Column(f"{head} p (Holm)", "float", of(lambda found: found.p_holm)),
        Column(f"{head} verdict", "text", lambda row: verdict(get(row))),
    ]
    return [*out, Column(f"{head} p (mid)", "float", of(lambda found: found.p_mid))] if prefix else out


def verdict(comparison: Comparison | None) -> str | None:
    """Return what a comparison comes to, in a word: better, worse, noise, or why there is none."""
    if comparison is None:
        return None
    if comparison.reason is not None:
        return f"not compared: {comparison.reason}"
    if comparison.in_noise or not comparison.difference:
        return "noise"
    return "better" if comparison.difference > 0 else "worse"


def alpaca_eval_columns(table: Table) -> list[Column]:
    """Return the columns of alpaca_eval's own leaderboards, whose first one has no name; lengths in characters."""

    def of(name: str, own: Callable[[Cell], Value]) -> Callable[[Row], Value]:
        """Prefer what alpaca_eval itself has counted, which the score's detail holds."""

        def value(row: Row) -> Value:
            cell = alpaca_eval_cell(row)
            if cell is None:
                return None
            theirs: Mapping[str, Value] = cell.detail.get("alpaca_eval") or {}
            return theirs.get(name, own(cell))

        return value

    return [
        Column("", "text", lambda row: row.name),
        Column("win_rate", "float", of("win_rate", lambda cell: cell.value)),
        Column("standard_error", "float", of("standard_error", lambda cell: cell.standard_error)),
        Column("n_total", "int", of("n_total", lambda cell: cell.n or None)),
        Column("avg_length", "int", of("avg_length", lambda cell: None)),
        Column("mode", "text", lambda row: "community"),
    ]


def alpaca_eval_cell(row: Row) -> Cell | None:
    """Return the row's AlpacaEval, the first where it was asked in several ways."""
    return next((cell for name, cell in row.cells.items() if plain_name(name) == "alpaca_eval"), None)


def _end(interval: tuple[float, float] | None, index: int) -> float | None:
    return None if interval is None else interval[index]


def _date(row: Row) -> datetime | None:
    return None if row.date is None else datetime.fromtimestamp(int(row.date), tz=timezone.utc)

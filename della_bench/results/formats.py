"""A leaderboard as a file: CSV, JSON and Parquet for programs, unrounded; Markdown and LaTeX for readers, rounded."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from della_bench.errors import DataError, UsageError
from della_bench.jsonfiles import USERS_FILE, whole_file, write_whole
from della_bench.results.columns import Column, Value, alpaca_eval_cell, alpaca_eval_columns, columns, verdict
from della_bench.results.table import Cell, Comparison, Row, Table

__all__ = [
    "FORMATS",
    "alpaca_eval_csv",
    "comparison_text",
    "format_of",
    "legend",
    "number_text",
    "p_text",
    "render",
    "write",
]

# What a spreadsheet takes for a formula at the start of a cell (OWASP, CSV injection), full-width forms included.
_FORMULA = re.compile(r"[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
_SUFFIXES = {".csv": "csv", ".md": "md", ".json": "json", ".parquet": "parquet", ".tex": "latex"}


def format_of(path: Path | None, wanted: str | None) -> str:
    """Return the format: the one asked for, the one that the file's ending tells, or CSV where there is no ending.

    Raises DataError for an unknown format, and UsageError for an ending that no format has.
    """
    if wanted is None:
        ending = path.suffix.lower() if path else ""
        if ending and ending not in _SUFFIXES:
            known = ", ".join(_SUFFIXES)
            raise UsageError(f"{path}: no format has the ending {ending} ({known}); or give --format", argument="out")
        return _SUFFIXES.get(ending, "csv")
    if wanted not in FORMATS:
        from della_bench.suggest import nearest

        raise DataError(f"format {wanted!r}: no such format{nearest(wanted, FORMATS)}", exit_code=USERS_FILE)
    return wanted


def write(table: Table, path: Path, name: str) -> None:
    """Write the table to `path` in the format `name`, whole or not at all."""
    if name == "parquet":
        _write_parquet(table, path)
    else:
        write_whole(path, render(table, name))


def render(table: Table, name: str) -> str:
    """Return the table as text in the format `name`; Parquet is no text and needs `write`."""
    return FORMATS[name](table)


def alpaca_eval_csv(table: Table) -> str:
    """Return the rows that have alpaca_eval as a CSV of alpaca_eval's own leaderboards' columns, the best first."""
    cells = [(row, alpaca_eval_cell(row)) for row in table.rows if not row.reference]
    rows = [row for row, cell in sorted(cells, key=lambda each: (-_value(each[1]), each[0].name)) if cell is not None]
    return _csv_text(alpaca_eval_columns(table), rows)


def _value(cell: Cell | None) -> float:
    return (cell.value if cell is not None else None) or 0.0


def _csv(table: Table) -> str:
    return _csv_text(columns(table), table.rows)


def _csv_text(shown: Sequence[Column], rows: Sequence[Row]) -> str:
    """Return RFC 4180: comma, CRLF, quotes doubled; numbers in their shortest form that reads back the same."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow([_harmless(column.header) for column in shown])
    for row in rows:
        writer.writerow([_csv_value(column.of(row)) for column in shown])
    return text.getvalue()


def _csv_value(value: Value) -> Value:
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    return _harmless(value) if isinstance(value, str) else value


def _harmless(text: str) -> str:
    """Return text that no spreadsheet takes for a formula: an apostrophe goes before one, and NUL, which CSV cannot
    hold, goes away.
    """
    text = text.replace("\0", "")
    return f"'{text}" if _FORMULA.match(text) else text


def _json(table: Table) -> str:
    shown = columns(table)
    rows = [{column.header: _json_value(column.of(row)) for column in shown} for row in table.rows]
    facts = {"benchmarks": table.benchmarks, "averaged": table.averaged, "baseline": table.baseline}
    value = {"schema": 1, **facts, "rows": rows, "notes": table.notes}
    return json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n"


def _json_value(value: Value) -> Value:
    return value.strftime("%Y-%m-%dT%H:%M:%SZ") if isinstance(value, datetime) else value


def _write_parquet(table: Table, path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    types = {
        "text": pa.string(), "float": pa.float64(), "int": pa.int64(), "bool": pa.bool_(),
        "date": pa.timestamp("s", tz="UTC"),
    }  # fmt: skip
    shown = columns(table)
    arrays = []
    for column in shown:
        values = [column.of(row) for row in table.rows]
        large = column.kind == "int" and any(isinstance(each, int) and each >= 2**63 for each in values)
        arrays.append(pa.array(values, pa.uint64() if large else types[column.kind]))  # a seed has 64 bits
    made = pa.table(arrays, names=[column.header for column in shown])
    with whole_file(path) as beside:
        parquet.write_table(made.replace_schema_metadata({"notes": json.dumps(table.notes)}), beside)


def _for_readers(table: Table, escape: Callable[[str], str]) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of the short table: one decimal, the interval beside the value."""
    head = ["model", "method", *table.benchmarks, "average"] + ([f"vs {table.baseline}"] if table.baseline else [])
    rows = []
    for row in table.rows:
        cells = [_cell_text(row.cells.get(name)) for name in table.benchmarks]
        line = [row.name, row.method, *cells, number_text(row.average, row.average_interval)]
        if table.baseline:
            line.append("baseline" if row.name == table.baseline else comparison_text(row.versus))
        rows.append([escape(text) for text in line])
    return [escape(text) for text in head], rows


def number_text(value: float | None, interval: Sequence[float] | None) -> str:
    """Return a percentage for a reader: `61.5 [54.6, 68.0]`; a dash where there is none."""
    if value is None:
        return "–"
    return f"{value:.1f}" + ("" if interval is None else f" [{interval[0]:.1f}, {interval[1]:.1f}]")


def _cell_text(cell: Cell | None) -> str:
    if cell is None:
        return "–"
    text = number_text(cell.value, cell.interval)
    counts = f" n={cell.n}" if cell.n else ""
    unscored = f" ({cell.unscored} unscored)" if cell.unscored else ""
    return text + counts + unscored + (" *" if cell.excluded else "") + (" †" if cell.chosen_on else "")


def comparison_text(comparison: Comparison | None) -> str:
    """Return a difference in points for a reader, with its p value, and whether it is more than noise."""
    if comparison is None or comparison.difference is None:
        return "not compared" if comparison and comparison.reason else "–"
    p = p_text(comparison.p if comparison.p_holm is None else comparison.p_holm)
    shown = f" p{'' if p.startswith('<') else '='}{p}" if p else ""
    return f"{comparison.difference:+.1f}{shown} ({verdict(comparison)})"


def p_text(p: float | None) -> str:
    """Return a p value for a reader: `0.012` or `<0.001`, empty where there is none."""
    return "" if p is None else "<0.001" if p < 0.001 else f"{p:.3f}"


def _markdown(table: Table) -> str:
    head, rows = _for_readers(table, _markdown_text)
    lines = ["| " + " | ".join(head) + " |", "| --- | --- |" + " ---: |" * (len(head) - 2)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    notes = [f"- {_markdown_text(note)}" for note in legend(table)]
    return "\n".join([*lines, "", *notes]) + "\n"


def _markdown_text(text: str) -> str:
    """Return text in which nothing is markup, a cell's end or a line's end."""
    text = " ".join(text.split())
    return re.sub(r"([\\`*_{}\[\]<>#|~])", r"\\\1", text)


_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}", ">": r"\textgreater{}", "–": "--",
}  # fmt: skip


def _latex(table: Table) -> str:
    """Return a tabular of the package booktabs, the notes as comments below it."""
    head, rows = _for_readers(table, _latex_text)
    body = ["{}" * row[0].startswith(("[", "*")) + " & ".join(row) + r" \\" for row in rows]  # else of the row above
    begin = [r"\begin{tabular}{ll" + "r" * (len(head) - 2) + "}", r"\toprule", " & ".join(head) + r" \\", r"\midrule"]
    notes = [f"% {' '.join(note.split())}" for note in legend(table)]
    return "\n".join([*begin, *body, r"\bottomrule", r"\end{tabular}", *notes]) + "\n"


def _latex_text(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in " ".join(text.split()))


def legend(table: Table) -> list[str]:
    """Return what a reader of the rounded tables must know, and then the table's own notes."""
    out = ["Percent with 95 % intervals."]
    if table.averaged:
        out.append(f"Average over {', '.join(table.averaged)}.")
    if table.baseline:
        tests = sorted({row.versus.test for row in table.rows if row.versus and row.versus.test})
        how = f"p by {' or '.join(tests)}, corrected by Holm over the whole table" if tests else "without a test"
        out.append(
            f"vs {table.baseline}: difference of averages in points, {how}; noise: chance alone explains it at 5 %."
        )
    if any(cell.excluded for row in table.rows if not row.reference for cell in row.cells.values()):
        out.append("*: not compared with the others of its column.")
    if any(cell.chosen_on for row in table.rows for cell in row.cells.values()):
        out.append("†: selected on these items; the number flatters.")
    if any(row.reference for row in table.rows):
        out.append(f"Rows of {next(row.note for row in table.rows if row.reference)} are for reference only.")
    return [*out, *table.notes]


def _no_text(table: Table) -> str:
    raise DataError("Parquet is no text: it needs a file to be written to", exit_code=USERS_FILE)


FORMATS: dict[str, Callable[[Table], str]] = {
    "csv": _csv,
    "md": _markdown,
    "json": _json,
    "parquet": _no_text,
    "latex": _latex,
}

"""`della-bench leaderboard`: from runs to one table."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from della_bench.results.table import Table

__all__ = ["columns_of", "leaderboard", "scorers_of"]

_COMMA = re.compile(r",(?![^()]*\))")  # not one in a column's brackets


def leaderboard(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUNS...", help="Folders with runs, of della-bench run or of plain lm_eval.")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="File; default standard output.")
    ] = None,
    format_name: Annotated[
        str | None,
        typer.Option("--format", help="csv, md, json, parquet or latex; default as FILE's name ends, or csv."),
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Row to compare with, by name or fingerprint; 'none' for none. [default: base]"
        ),
    ] = None,
    benchmarks: Annotated[
        str | None, typer.Option(metavar="A,B...", help="Columns, all part of the average. [default: all]")
    ] = None,
    scorer: Annotated[
        list[str] | None, typer.Option(metavar="BENCHMARK=NAME", help="Whose number a column shows; repeatable.")
    ] = None,
    paper: Annotated[bool, typer.Option("--paper", help="Add the DELLA paper's table 1 as reference rows.")] = False,
    alpaca_eval: Annotated[
        bool, typer.Option("--alpaca-eval", help="Write the CSV columns of alpaca_eval's leaderboards instead.")
    ] = False,
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write a page to look at, too.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Make a run that cannot be read an error.")] = False,
) -> None:
    """Write one row a model: each benchmark with its interval, the average, and how it compares with a baseline.

    Runs that cannot be read are named on standard error and left out. CSV, JSON and Parquet hold unrounded numbers.
    """
    from della_bench.cli.console import say, say_data, show_warnings
    from della_bench.errors import DataError, UsageError
    from della_bench.jsonfiles import write_whole
    from della_bench.results.formats import alpaca_eval_csv, format_of, render, write
    from della_bench.results.leaderboard import build_table

    show_warnings()
    if out is not None and format_name is None and out.suffix.lower() in (".html", ".htm"):
        raise UsageError(f"a page is written by --html {out}, beside the table or alone", argument="out")
    chosen = format_of(out, format_name)
    if alpaca_eval and chosen != "csv":
        raise UsageError("--alpaca-eval writes a CSV: leave --format out")
    if chosen == "parquet" and out is None:
        raise UsageError("--format parquet is no text: name a file with -o")
    table = build_table(
        runs,
        baseline=baseline,
        benchmarks=columns_of(benchmarks) if benchmarks else None,
        scorers=scorers_of(scorer or []),
        paper=paper,
        progress=_watched(),
    )
    _tell(table)
    if strict and table.faults:
        raise DataError("\n".join(table.faults), exit_code=2)
    if not table.rows:
        raise UsageError(f"no evaluation to show in {', '.join(map(str, runs))}")
    if html is not None:
        from della_bench.results.page import write_page

        write_page(table, html, progress=_watched())
        say(f"{html}: {len(table.rows)} rows", err=True)
    if out is None:
        say_data(alpaca_eval_csv(table) if alpaca_eval else render(table, chosen))
        return
    if alpaca_eval:
        write_whole(out, alpaca_eval_csv(table))
    else:
        write(table, out, chosen)
    say(f"{out}: {len(table.rows)} rows", err=True)


def columns_of(names: str) -> list[str]:
    """Return the columns that --benchmarks names."""
    return [name.strip() for name in _COMMA.split(names) if name.strip()]


def scorers_of(given: list[str]) -> dict[str, str]:
    """Return by benchmark the scorer that --scorer names."""
    out = {}
    for text in given:
        name, equals, value = text.rpartition("=")
        if not equals or not name or not value:
            raise typer.BadParameter(f"--scorer {text}: write BENCHMARK=NAME, such as gsm8k=exact")
        out[name.strip()] = value.strip()
    return out


def _watched() -> bool:
    import sys

    return sys.stderr.isatty()


def _tell(table: Table) -> None:
    """Say on standard error what a reader of the table must know."""
    from della_bench.cli.console import say

    for note in table.notes:
        say(f"note: {note}", err=True)

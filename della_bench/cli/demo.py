"""`della-bench demo`: the embedded experts and their merges, evaluated."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table as Shown
    from rich.text import Text

    from della_bench.demo import Demo

__all__ = ["demo"]

_NEXT = """
Open {page} in a browser: any two rows compared, and the answers behind every number.
For models of your own:

  della-bench run base=BASE,experts=ONE+TWO,merge_method=della,drop_rate=0.3,window_size=0.14 \\
    --benchmarks gsm8k,alpaca_eval --with-base --with-experts --out runs
  della-bench leaderboard runs --html leaderboard.html

BASE, ONE and TWO are folders or names on the Hugging Face hub; --dry-run shows what a run would do and cost."""


def demo(
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for runs, leaderboard.csv and leaderboard.html.")
    ] = Path("demo"),
    limit: Annotated[
        int | None, typer.Option(min=1, help="Only this many prompts of each task; written into DIR/first-N.")
    ] = None,
) -> None:
    """Evaluate the embedded base, its three experts and their merges on three skills. Minutes on two cores."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from della_bench.cli.console import say, show_warnings
    from della_bench.cli.terminal import Terminal
    from della_bench.demo import run

    show_warnings()
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, transient=True) as progress:
        bar = progress.add_task("")
        shown = run(
            out,
            limit,
            lambda name, done, total: progress.update(bar, description=name, completed=done, total=total),
        )
    Terminal().print(_table(shown))
    say(_NEXT.format(page=shown.page))


def _table(shown: Demo) -> Shown:
    """Return the leaderboard for a terminal: each number above its interval, best rows first."""
    from della_bench.cli.console import plain_table
    from della_bench.results.formats import p_text
    from della_bench.zoo import SKILLS

    rows = shown.table.rows
    table = plain_table("model", "lambda", *SKILLS, "average", "difference", "p")
    table.collapse_padding = True  # a terminal of 80 columns shows all
    for column in table.columns:
        column.no_wrap = True
    prompts = max(cell.n for row in rows for cell in row.cells.values())
    table.title = "Right answers in percent, with 95 % intervals"
    table.caption = (
        f"{prompts} test prompts a skill; bold: the best. lambda: chosen on the validation split, by the average. "
        f"difference: of the average to that of {shown.table.baseline}; "
        "p: paired test of it over the same prompts, corrected by Holm."
    )
    best = {skill: max(row.cells[f"zoo_{skill}"].value or 0.0 for row in rows) for skill in SKILLS}
    for row in rows:
        spec, versus = shown.spec(row), row.versus
        cells = []
        for skill in SKILLS:
            cell = row.cells[f"zoo_{skill}"]
            cells.append(_number(cell.value, cell.interval, bold=cell.value == best[skill]))
        difference = _number(versus.difference, versus.interval, signed=True) if versus else ""
        table.add_row(
            row.name,
            f"{spec.lambda_:g}" if spec.method.kind == "delta" else "",
            *cells,
            _number(row.average, row.average_interval),
            difference,
            p_text(versus.p_holm) if versus else "",
        )
    return table


def _number(
    value: float | None, interval: tuple[float, float] | None, *, signed: bool = False, bold: bool = False
) -> Text | str:
    """Return a number above its interval; `signed` for a difference."""
    from rich.text import Text

    if value is None:
        return ""
    sign, between = ("+", ", ") if signed else ("", "–")
    text = Text(f"{value:{sign}.1f}", "bold" if bold else "")
    ends = "" if interval is None else f"\n{interval[0]:{sign}.0f}{between}{interval[1]:{sign}.0f}"
    return text.append(ends, "dim")

"""`della-bench show`: one run in the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from della_bench.results.table import Row, Table

__all__ = ["show"]


def show(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder, or a results file of lm-eval.")],
    items: Annotated[
        str | None, typer.Option(metavar="BENCHMARK", help="Show the answers behind this number, too.")
    ] = None,
    wrong: Annotated[bool, typer.Option("--wrong", help="Of the answers only those that are not right.")] = False,
    limit: Annotated[int, typer.Option("--most", "--limit", min=1, help="Most answers to show.")] = 20,
) -> None:
    """Show what was evaluated, with every number's interval and scorer, and the answers behind it."""
    from della_bench.cli.console import say, show_warnings
    from della_bench.cli.terminal import Terminal
    from della_bench.results.leaderboard import NO_BASELINE, build_table

    show_warnings()
    table = build_table([run], baseline=NO_BASELINE)
    console = Terminal()
    for row in table.rows:
        _row(console, table, row)
        if items is not None:
            _items(console, row, items, wrong, limit)
    for note in table.notes:
        say(f"note: {note}", err=True)
    if not table.rows:
        from della_bench.errors import UsageError

        raise UsageError(f"no evaluation to show in {run}")


def _row(console: Console, table: Table, row: Row) -> None:
    from rich.text import Text

    from della_bench.cli.console import plain_table
    from della_bench.results.formats import number_text
    from della_bench.results.table import scorer_label
    from della_bench.visible import visible_line

    console.print(Text(visible_line(row.name), style="bold"))
    for label, value in (("spec", row.spec), ("fingerprint", row.fingerprint), ("engine", row.engine)):
        console.print(Text(visible_line(f"{label:12} {value}")), soft_wrap=True)
    shown = plain_table("benchmark", "percent [95 %]", "n", "unscored", "metric", "by")
    for name in table.benchmarks:
        if name in row.cells:
            cell = row.cells[name]
            values = (number_text(cell.value, cell.interval), str(cell.n), str(cell.unscored), cell.metric)
            texts = (name, *values, scorer_label(cell.scorer))
            shown.add_row(*map(visible_line, texts))
    if row.average is not None and len(table.averaged) > 1:
        shown.add_row("average", number_text(row.average, row.average_interval), "", "", "", "")
    console.print(shown)


def _items(console: Console, row: Row, benchmark: str, wrong: bool, limit: int) -> None:
    from rich.text import Text

    from della_bench.cli.console import one_of, say
    from della_bench.results.items import joined_items
    from della_bench.visible import visible, visible_line

    cell = row.cells[one_of("--items", benchmark, row.cells)]
    shown = [item for item in joined_items(cell) if not wrong or item.value != 1.0]
    for item in shown[:limit]:
        console.rule(Text(visible_line(f"{benchmark} {item.doc_id}")), align="left")
        asked = {"prompt": item.prompt, "target": item.target, "response": item.response}
        made = {"answer": item.answer, "verdict": item.verdict, "why": item.explanation}
        for label, text in {**asked, **made}.items():
            if text:
                console.print(Text.assemble((f"{label}: ", "bold"), visible(text)))
    if len(shown) > limit:
        say(f"... and {len(shown) - limit} more (--most)")

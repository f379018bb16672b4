"""`della-bench judge`: score logged answers by a model or a rule. One file a benchmark."""

from __future__ import annotations

import typer

from della_bench.cli.judge import alpaca_eval, gsm8k, judges
from della_bench.cli.judge.options import JudgeCommand

__all__ = ["JudgeCommand", "app"]

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Score logged answers by a judge; started again after any end, it goes on where it was.",
)
app.command("gsm8k", cls=JudgeCommand)(gsm8k.gsm8k)
app.command("alpaca_eval", cls=JudgeCommand)(alpaca_eval.alpaca_eval)
app.command("list")(judges.list_judges)

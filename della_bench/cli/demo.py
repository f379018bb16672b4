"""`della-bench demo`: the embedded experts and their merges, evaluated."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["demo"]


def demo(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for leaderboard.csv.")] = Path("demo"),
    limit: Annotated[int | None, typer.Option(min=1, help="Only this many prompts of each task.")] = None,
) -> None:
    """Evaluate the embedded base, its three experts and their merges on three skills. Minutes on two cores."""
    from della_bench.cli.console import show_warnings
    from della_bench.demo import run

    show_warnings()
    run(out, limit)

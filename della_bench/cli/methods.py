"""`della-bench methods`: the table of merge methods."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["methods"]


def methods(as_json: Annotated[bool, typer.Option("--json", help="Print JSON for other programs.")] = False) -> None:
    """List the merge methods: what each does, in one line, and where it comes from."""
    import json
    from dataclasses import asdict

    from della_bench.spec.methods import METHODS

    if as_json:
        typer.echo(json.dumps([asdict(row) for row in METHODS.values()], indent=2))
        return
    widths = [max(len(getattr(row, column)) for row in METHODS.values()) for column in ("name", "summary")]
    for row in METHODS.values():
        typer.echo(f"{row.name:{widths[0]}}  {row.summary:{widths[1]}}  {row.source}")

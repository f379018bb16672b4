"""`della-bench methods`: the table of merge methods."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["methods"]


def methods(as_json: Annotated[bool, typer.Option("--json", help="Print JSON for other programs.")] = False) -> None:
    """List the merge methods: what each does, in one line, where it comes from, and which keys it has of its own.

    Other packages' methods come last.
    """
    import json

    from della_bench.cli.console import say, say_data, show_warnings
    from della_bench.spec.registry import all_methods

    show_warnings()
    rows = list(all_methods().values())
    if as_json:
        say_data(json.dumps([row.as_dict() for row in rows], indent=2) + "\n")
        return
    widths = [max(len(getattr(row, column)) for row in rows) for column in ("name", "summary")]
    for row in rows:
        pinned = "" if row.pinned else "; its bits may differ between devices"
        say(f"{row.name:{widths[0]}}  {row.summary:{widths[1]}}  {row.origin}{pinned}")
        for option in row.options:
            say(f"{'':{widths[0]}}    {option.name}: {option.described}")

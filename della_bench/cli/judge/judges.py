"""`della-bench judge list`: the judges that `judge gsm8k --judge NAME` can ask, those of other packages included."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["list_judges"]


def list_judges(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for other programs.")] = False,
) -> None:
    """List the judges of GSM8K, with the model each asks and the package that offers it.

    A judge that does not load says so in the place of its model; the command then ends with 2.
    """
    import json

    from della_bench.cli.console import plain_table, say_data, show_warnings
    from della_bench.cli.terminal import Terminal
    from della_bench.errors import JudgeError
    from della_bench.judging.gsm8k.by_number import EXACT
    from della_bench.judging.gsm8k.config import load_judge
    from della_bench.judging.gsm8k.find import offered_judges

    show_warnings()
    rows = [(EXACT, "none: compares the announced number", "", "della-bench")]
    faulty = False
    for offer in offered_judges().values():
        try:
            config = load_judge(offer.name).config
        except JudgeError as error:
            faulty = True
            rows.append((offer.name, str(error), "", offer.package))
        else:
            rows.append((offer.name, config.model, str(config.ends or ""), offer.package))
    columns = ("judge", "model", "ends", "offered by")
    if as_json:
        say_data(json.dumps([dict(zip(columns, row, strict=True)) for row in rows], indent=2) + "\n")
    else:
        table = plain_table(*columns)
        for row in rows:
            table.add_row(*row)
        Terminal().print(table)
    if faulty:
        raise typer.Exit(2)

"""`della-bench judge list`: the judges that `judge gsm8k --judge NAME` can ask, those of other packages included."""

from __future__ import annotations

import typer

__all__ = ["list_judges"]


def list_judges() -> None:
    """List the judges of GSM8K, with the model each asks and the package that offers it.

    A judge that does not load says so in the place of its model; the command then ends with 2.
    """
    from della_bench.cli.console import plain_table, show_warnings
    from della_bench.cli.terminal import Terminal
    from della_bench.errors import JudgeError
    from della_bench.judging.gsm8k.by_number import EXACT
    from della_bench.judging.gsm8k.config import load_judge
    from della_bench.judging.gsm8k.find import offered_judges

    show_warnings()
    table = plain_table("judge", "model", "ends", "offered by")
    table.add_row(EXACT, "none: compares the announced number", "", "della-bench")
    faulty = False
    for offer in offered_judges().values():
        try:
            config = load_judge(offer.name).config
        except JudgeError as error:
            faulty = True
            table.add_row(offer.name, str(error), "", offer.package)
        else:
            table.add_row(offer.name, config.model, str(config.ends or ""), offer.package)
    Terminal().print(table)
    if faulty:
        raise typer.Exit(2)

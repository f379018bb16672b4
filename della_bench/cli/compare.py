"""`della-bench compare`: two runs over the same items, in the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from della_bench.results.table import Comparison, Row

__all__ = ["compare"]

_WIDE = 110  # columns of a terminal that has room for intervals beside their values
_HEADS = ("benchmark", "A", "B", "A - B [95 %]", "better : worse", "p", "p (Holm)", "")
_NARROW_HEADS = ("benchmark", "A", "B", "A - B\n[95 %]", "better\n: worse", "p\n(Holm)", "")


def compare(
    first: Annotated[Path, typer.Argument(metavar="A", help="A run's folder, or a results file of lm-eval.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="The run to compare with.")],
    items: Annotated[
        str | None, typer.Option(metavar="BENCHMARK", help="Show the items that only one of the two has right, too.")
    ] = None,
    limit: Annotated[int, typer.Option("--most", "--limit", min=1, help="Most items to show.")] = 20,
) -> None:
    """Compare A with B on every benchmark that both have: difference, interval, paired test, and whether it is noise.

    p values are corrected by Holm over the rows shown.
    """
    from rich.text import Text

    from della_bench.cli.console import plain_table, say, show_warnings
    from della_bench.cli.terminal import Terminal
    from della_bench.errors import UsageError
    from della_bench.results.columns import verdict
    from della_bench.results.formats import number_text
    from della_bench.results.leaderboard import build_table
    from della_bench.visible import visible_line

    show_warnings()
    mine, baseline = _only(first), _only(second)
    table = build_table([first, second], baseline=baseline)
    rows = {row.fingerprint: row for row in table.rows}
    if mine == baseline or not {mine, baseline} <= rows.keys():  # a name that turned out to be the other's
        raise UsageError(f"{first} and {second} hold the same model, {table.rows[0].name}: nothing to compare")
    ours, theirs = rows[mine], rows[baseline]
    console = Terminal()
    for label, row in (("A", ours), ("B", theirs)):
        console.print(Text(visible_line(f"{label}  {row.name}  {row.spec}")), soft_wrap=True)
    narrow = console.width < _WIDE
    shown = plain_table(*(_NARROW_HEADS if narrow else _HEADS))
    if narrow:
        shown.padding, shown.show_edge = 0, False  # a blank between columns is enough, and names need the others
        for column in shown.columns[1:]:
            column.no_wrap = True  # only names may be broken
    reasons: list[str] = []
    compared: list[tuple[str, tuple[str, str], Comparison | None]] = []
    for name in table.benchmarks:
        cells = [row.cells.get(name) for row in (ours, theirs)]
        values = [number_text(cell.value, cell.interval) if cell else "–" for cell in cells]
        own = ours.cells.get(name)
        compared.append((name, (values[0], values[1]), own.versus if own else None))
    if len(table.averaged) > 1:
        averages = [number_text(row.average, row.average_interval) for row in (ours, theirs)]
        compared.append(("average", (averages[0], averages[1]), ours.versus))
    for name, (a, b), versus in compared:
        difference, counts, p, holm = _numbers(versus)
        numbers = [a, b, difference, counts, p, holm]
        if narrow:  # intervals and corrected p values below what they belong to
            numbers = [each.replace(" [", "\n[") for each in (a, b, difference, counts, f"{p}\n{holm}".strip())]
        word, colon, reason = (verdict(versus) or _only_one(a, b)).partition(": ")
        shown.add_row(visible_line(name), *numbers, "see below" if colon and narrow else word)
        reasons += [f"{name}: {word}: {reason}"] if colon else []
    console.print(shown)
    for line in reasons:
        console.print(visible_line(line), markup=False, highlight=False)
    if items is not None:
        _items(console, ours, theirs, items, limit)
    for note in table.notes:
        say(f"note: {note}", err=True)


def _only(run: Path) -> str:
    """Return the fingerprint of the one model in a folder. Raises UsageError where there is none, or several."""
    from della_bench.errors import UsageError
    from della_bench.results.store import find_evaluations

    faults: list[str] = []
    names = {evaluation.who.fingerprint: evaluation.who.name for evaluation in find_evaluations([run], faults)}
    if len(names) != 1:
        what = f"holds {len(names)} models ({', '.join(sorted(names.values()))})" if names else "holds no evaluation"
        raise UsageError("\n".join([f"{run}: {what}; name the folder of one run", *faults]))
    return next(iter(names))


def _only_one(a: str, b: str) -> str:
    """Say which of the two has a number where only one has."""
    missing = a == "–", b == "–"
    return {(True, False): "only B", (False, True): "only A"}.get(missing, "")


def _numbers(versus: Comparison | None) -> tuple[str, str, str, str]:
    from della_bench.results.formats import p_text

    if versus is None or versus.difference is None:
        return "", "", "", ""
    ends = "" if versus.interval is None else f" [{versus.interval[0]:+.1f}, {versus.interval[1]:+.1f}]"
    counts = f"{versus.wins} : {versus.losses}"
    return f"{versus.difference:+.1f}{ends}", counts, p_text(versus.p), p_text(versus.p_holm)


def _items(console: Console, ours: Row, theirs: Row, benchmark: str, limit: int) -> None:
    from rich.text import Text

    from della_bench.cli.console import one_of, say
    from della_bench.results.items import joined_items
    from della_bench.visible import visible, visible_line

    both = ours.cells.keys() & theirs.cells.keys()
    name = one_of("--items", benchmark, sorted(both))
    others = {(item.doc_id, item.doc_hash): item for item in joined_items(theirs.cells[name])}
    own = joined_items(ours.cells[name])
    pairs = [(item, others[key]) for item in own if (key := (item.doc_id, item.doc_hash)) in others]
    differing = [(a, b) for a, b in pairs if a.value != b.value]
    for a, b in differing[:limit]:
        console.rule(Text(visible_line(f"{name} {a.doc_id}")), align="left")
        parts = {"prompt": a.prompt, "target": a.target, f"A, {a.verdict}": a.response, f"B, {b.verdict}": b.response}
        for label, text in parts.items():
            console.print(Text.assemble((f"{visible_line(label)}: ", "bold"), visible(text)))
    say(f"{len(differing)} of {len(pairs)} items differ")

"""Writing the page: the template filled with the table, the packed items and everything that shows them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from della_bench import __version__
from della_bench.benchmarks import title_of
from della_bench.results.page.assets import HERE, assets, policy
from della_bench.results.page.blocks import pack_items
from della_bench.results.page.content import content, date_text, script_text
from della_bench.results.page.html import fill_template, write_html
from della_bench.results.page.limits import FIRST_COLUMNS, WIDE, Limits, first_with_baseline, shortened
from della_bench.results.page.unfolded import unfolded
from della_bench.results.table import Cell, Row, Table, scorer_label

if TYPE_CHECKING:
    import markupsafe

__all__ = ["write_page"]

LIMITS = Limits()
_NAMED = 8  # benchmarks that the page's first lines name: with more the table would stand below the first screen


def write_page(
    table: Table,
    path: str | os.PathLike[str],
    *,
    title: str = "Leaderboard",
    limits: Limits = LIMITS,
    progress: bool = False,
) -> None:
    """Write `table` to `path` as one HTML file that loads nothing, whole or not at all.

    The samples behind the cells are read here. The page says where `limits` make it hold less than all. progress: show
    a bar on stderr. Raises OSError.
    """
    limits = limits.for_table(table)
    table = shortened(table, limits)
    paired, sampled = (first_with_baseline(table, limit) for limit in (limits.paired, limits.sampled))
    packed = pack_items(table.rows, table.benchmarks, sampled, progress=progress)
    found = assets()
    dates = [row.date for row in table.rows if row.date is not None]
    text = fill_template(
        HERE,
        _filters(),
        title=title,
        table=table,
        columns=table.benchmarks[:FIRST_COLUMNS] if len(table.benchmarks) > WIDE else table.benchmarks,
        wide=len(table.benchmarks) > WIDE,
        compared=sum(not row.reference for row in table.rows),
        version=__version__,
        date=date_text(max(dates, default=None)),
        assets=found,
        policy=policy(found),
        content=script_text(content(table, packed, paired)),
        blocks=packed.blocks,
        reasons=packed.reasons,
        groups=list(unfolded(table)),
    )
    write_html(Path(path), text)


def _filters() -> dict[str, Callable[..., Any]]:
    return {
        "benchmark_title": title_of,
        "some": _some,
        "one": lambda value: f"{value:.1f}",
        "date": date_text,
        "scorer": scorer_label,
        "facts": _facts,
        "breakable": _breakable,
    }


def _some(names: Iterable[str]) -> str:
    """Return a few names in a row, and of many only how many there are."""
    found = list(names)
    return ", ".join(found) if len(found) <= _NAMED else f"{len(found)} tasks"


def _breakable(name: str) -> markupsafe.Markup:
    """Return a name as HTML that may be broken after its parts: names are long and have no spaces."""
    import markupsafe

    parts = re.split(r"(?<=[-_/+,:])", name)
    return markupsafe.Markup("<wbr>").join(parts)


def _facts(row: Row) -> Mapping[str, str]:
    """Return what a row is, by label, for those who unfold its name."""
    judges = {scorer_label(cell.scorer): None for cell in row.cells.values() if isinstance(cell, Cell)}
    facts = {
        "Spec": row.spec,
        "Fingerprint": "" if row.reference else row.fingerprint,
        "Engine": row.engine,
        "Scored by": ", ".join(judges),
        "Evaluated": date_text(row.date),
        "Source": row.note,
    }
    return {label: value for label, value in facts.items() if value}

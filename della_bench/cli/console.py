"""What the commands share: warnings on stderr, and tables."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["plain_table", "show_warnings"]


def show_warnings() -> None:
    """Let this package's warnings reach stderr, a line each."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("della_bench: %(levelname)s: %(message)s"))
    logger = logging.getLogger("della_bench")
    if not logger.handlers:
        logger.addHandler(handler)
        logger.propagate = False


def plain_table(*columns: str) -> Table:
    """Return a rich table without a frame, its first column bold."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for index, column in enumerate(columns):
        table.add_column(column, style="bold" if index == 0 else "", overflow="fold")
    return table

"""What the commands share: warnings on stderr, and tables."""

from __future__ import annotations

import gc
import logging
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

from della_bench.visible import visible, visible_line

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

__all__ = ["cut_to_fit", "one_of", "paused_gc", "plain_table", "say", "say_data", "show_warnings", "start_numba"]


def show_warnings() -> None:
    """Let this package's warnings reach stderr, a line each; what one command says twice is shown once."""
    handler = _StderrHandler()
    handler.setFormatter(logging.Formatter("della_bench: %(levelname)s: %(message)s"))
    logger = logging.getLogger("della_bench")
    if all(isinstance(each, _StderrHandler) for each in logger.handlers):  # none, or that of an earlier command
        logger.handlers[:] = [handler]
        logger.propagate = False


class _StderrHandler(logging.Handler):
    """Writes to the stderr of the moment, which a caller in the same process may have exchanged since.

    A warning that comes again with every model (a judge whose end was announced, say) is one warning.
    """

    def __init__(self) -> None:
        super().__init__()
        self._said: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        line = visible(self.format(record))
        if line not in self._said:
            self._said.add(line)
            print(line, file=sys.stderr)


@contextmanager
def paused_gc() -> Iterator[None]:
    """Switch the garbage collector off while large packages are imported.

    They make hundreds of thousands of objects and no garbage, and looking for it takes a noticeable time.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()


def start_numba() -> None:
    """Import what numba would when its first loop runs, but for scipy's linear algebra.

    numba looks whether it is there for functions that none of our loops calls, which takes a fifth of a second. For a
    process of our own only: compiled code in it can have no `np.dot` from then on.
    """
    absent = "scipy.linalg" not in sys.modules
    if absent:
        sys.modules["scipy.linalg"] = None  # type: ignore[assignment]  # Python's sign for: not to be had
    try:
        import_module("numba.np.arraymath")
    finally:
        if absent:
            del sys.modules["scipy.linalg"]


def say(text: object, *, err: bool = False) -> None:
    """Print a line for people; what a model or a file put into it is shown and not obeyed."""
    import typer

    typer.echo(visible(str(text)), err=err)


def say_data(text: str) -> None:
    """Print what a program may read: as it is into a file or a pipe, made visible on a terminal."""
    print(visible(text) if sys.stdout.isatty() else text, end="")


def plain_table(*columns: str) -> Table:
    """Return a rich table without a frame, its first column bold; text in it is text, and no markup."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    class PlainTable(Table):
        def add_row(self, *cells: RenderableType | None, **options: Any) -> None:
            super().add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in cells), **options)

    table = PlainTable(box=box.SIMPLE_HEAD, pad_edge=False)
    for index, column in enumerate(columns):
        table.add_column(Text(column), style="bold" if index == 0 else "", overflow="fold")
    return table


def cut_to_fit(text: str) -> Text:
    """Return a text that is shown in one line, and ends with an ellipsis where there is no room for all of it."""
    from rich.text import Text

    return Text(visible_line(text), no_wrap=True, overflow="ellipsis")


def one_of(option: str, wanted: str, valid: Iterable[str]) -> str:
    """Return `wanted`. Raises UsageError that names the nearest of `valid` where it is none of them."""
    valid = list(valid)
    if wanted in valid:
        return wanted
    from della_bench.errors import UsageError
    from della_bench.suggest import nearest

    raise UsageError(f"{option} {wanted}: not there{nearest(wanted, valid)}")

"""What all pages of this package are written by: one environment of templates, and a file that is there whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from della_bench.jsonfiles import write_whole

__all__ = ["fill_template", "write_html"]


def fill_template(folder: Path, filters: Mapping[str, Callable[..., Any]], **content: Any) -> str:
    """Return the text of page.html.jinja in `folder`, filled; values are escaped, and a missing one is an error."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= filters
    return environment.get_template("page.html.jinja").render(**content)


def write_html(path: Path, text: str) -> None:
    """Write a page, whole or not at all. A lone surrogate in a name is no UTF-8, and NUL no HTML. Raises OSError."""
    write_whole(path, text.encode("utf-8", "replace").decode("utf-8").replace("\0", "\ufffd"))

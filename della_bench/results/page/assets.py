"""The page's scripts and styles as text, and the content security policy that lets these run and nothing else."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

__all__ = ["Assets", "assets", "assets_of", "policy", "shared_script"]

HERE = Path(__file__).parent
# In the order in which they define what the later ones use.
APP = (
    "elements.js",
    "data.js",
    "state.js",
    "table.js",
    "charts.js",
    "tradeoff.js",
    "heatmap.js",
    "items.js",
    "viewer.js",
    "main.js",
)
# Plot gives each drawing a style sheet, which the policy must name; `chart` is the class that charts.js asks for.
PLOT_STYLE = """:where(.chart) {
  --plot-background: white;
  display: block;
  height: auto;
  height: intrinsic;
  max-width: 100%;
}
:where(.chart text),
:where(.chart tspan) {
  white-space: pre;
}"""


@dataclass(frozen=True)
class Assets:
    """What is written into the page as it is: libraries, our script, the style sheet, and the libraries' licenses."""

    libraries: tuple[str, ...]
    app: str
    style: str
    licenses: tuple[str, ...]


@cache
def assets() -> Assets:
    """Read the files that ship with the package."""
    return assets_of("\n".join(_text(f"app/{name}") for name in APP))


def shared_script() -> str:
    """Return the script that all pages of this package begin with."""
    return _text("app/elements.js")


def assets_of(app: str, style: str = "") -> Assets:
    """Return the assets of a page with a script of its own, and with styles beside those that all pages have."""
    return Assets(
        libraries=(_text("vendor/d3.min.js"), _text("vendor/plot.umd.min.js")),
        app=f'"use strict";\n(() => {{\n{app}\n}})();\n',
        style=_text("style.css") + style,
        licenses=(_text("vendor/LICENSE-d3"), _text("vendor/LICENSE-observable-plot")),
    )


def policy(found: Assets) -> str:
    """Return the content security policy of a page of these assets: no request at all, no script or style but these."""
    scripts = " ".join(_hash(text) for text in (*found.libraries, found.app))
    styles = " ".join(_hash(text) for text in (found.style, PLOT_STYLE))
    rules = {
        "default-src": "'none'",
        "script-src": scripts,
        "style-src": styles,
        "img-src": "data:",  # the empty icon, without which a browser asks a server for one
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in rules.items())


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _text(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")

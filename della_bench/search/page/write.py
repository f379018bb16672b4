"""Writing the page: the template filled with the search and everything that shows it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from della_bench import __version__
from della_bench.results.page.assets import Assets, assets_of, policy, shared_script
from della_bench.results.page.content import script_text
from della_bench.results.page.html import fill_template, write_html
from della_bench.search.page.content import content
from della_bench.search.plan import Plan
from della_bench.search.report import ROLES, Outcome, difference_of, score_of, score_text
from della_bench.search.settings import SETS

__all__ = ["write_page"]

_HERE = Path(__file__).parent
_STYLE = """#tested :is(td, th), #table :is(td, th) { padding: 0.2rem 0.6rem; text-align: left; }
#tested p code { overflow-wrap: anywhere; }
figure { overflow-x: auto; }
.tools[hidden] { display: none; }
"""


@cache
def _assets() -> Assets:
    script = (_HERE / "search.js").read_text(encoding="utf-8")
    return assets_of(f"{shared_script()}\n{script}", _STYLE)


def write_page(plan: Plan, outcome: Outcome, path: Path, *, title: str = "Search") -> None:
    """Write a search to `path` as one HTML file that loads nothing, whole or not at all. Raises OSError."""
    found = _assets()
    tested = [
        {
            "role": ROLES[role],
            "name": each.name,
            "scores": [score_text(score_of(plan, each, which)) for which in SETS],
            "difference": difference_of(plan, each),
        }
        for role, each in outcome.roles
    ]
    shown = content(plan, outcome)
    order = sorted(shown["candidates"], key=lambda each: (each["value"] is None, -(each["value"] or 0.0)))
    text = fill_template(
        _HERE,
        _filters(),
        title=title,
        version=__version__,
        assets=found,
        policy=policy(found),
        plan=plan,
        outcome=outcome,
        winner=outcome.winner,
        tested=tested,
        candidates=order,
        content=script_text(shown),
    )
    write_html(path, text)


def _filters() -> dict[str, Callable[..., Any]]:
    return {"one": lambda value: "–" if value is None else f"{value:.1f}", "signed": _signed}


def _signed(value: float | None) -> str:
    return "" if value is None else f"{value:+.1f}"

"""Where folders lie: those that come with the package, and the user's own cache."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["CACHE_VARIABLE", "cache_folder", "folder"]

CACHE_VARIABLE = "DELLA_BENCH_CACHE"


def cache_folder() -> Path:
    """Return the folder of all that is remembered for a user: what CACHE_VARIABLE names, else in the user's cache."""
    if named := os.environ.get(CACHE_VARIABLE):
        return Path(named).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "della_bench"


def folder(name: str) -> Path:
    """Return the folder `name` ("tasks" or "judges"), inside the package when it is installed, in a checkout beside it.

    Raises FileNotFoundError with both places when neither has it.
    """
    package = Path(__file__).resolve().parent
    places = [package / name, package.parent / name]
    for place in places:
        if place.is_dir():
            return place
    raise FileNotFoundError(f"no folder {name!r}: looked in {places[0]} and {places[1]}")

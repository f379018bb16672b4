"""Where the task and judge folders lie: inside the package when it is installed, beside it in a checkout."""

from __future__ import annotations

from pathlib import Path

__all__ = ["folder"]


def folder(name: str) -> Path:
    """Return the folder `name` ("tasks" or "judges") that ships with the package.

    Raises FileNotFoundError with both places when neither has it.
    """
    package = Path(__file__).resolve().parent
    places = [package / name, package.parent / name]
    for place in places:
        if place.is_dir():
            return place
    raise FileNotFoundError(f"no folder {name!r}: looked in {places[0]} and {places[1]}")

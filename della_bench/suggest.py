"""Naming the nearest valid name in an error."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["nearest", "with_nearest"]


def nearest(name: str, valid: Iterable[str]) -> str:
    """Return "; did you mean 'x'?" for the closest valid names, else "; one of: ..." with all of them."""
    valid = list(valid)
    close = difflib.get_close_matches(name.lower(), valid, n=2, cutoff=0.6)
    if close:
        return "; did you mean " + " or ".join(repr(c) for c in close) + "?"
    return "; one of: " + ", ".join(valid)


def with_nearest(name: object, valid: Iterable[str]) -> str:
    """Return the name, with the closest valid ones behind it in brackets where there are any."""
    hint = nearest(str(name), valid).removeprefix("; ")
    return f"{name} ({hint})" if hint.startswith("did") else str(name)

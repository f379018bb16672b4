"""What the candidate changed in a value of the tests', done there too."""

from __future__ import annotations

from collections import deque
from typing import Any

from della_bench.scoring.sandbox.inside import setorder

__all__ = ["update"]


def update(old: Any, new: Any) -> None:
    """Make the mutable value `old` equal to `new` in place; what is inside keeps its identity where kinds agree."""
    if type(old) is not type(new):
        return
    if isinstance(old, list):
        old[:] = [_kept(old[at], value) if at < len(old) else value for at, value in enumerate(new)]
    elif isinstance(old, dict):
        merged = {key: _kept(old.get(key), value) for key, value in new.items()}
        old.clear()
        old.update(merged)
    elif isinstance(old, set):
        old.clear()
        setorder.follow(old, *setorder.recipe(new))
    elif isinstance(old, bytearray):
        old[:] = new
    elif isinstance(old, deque):
        old.clear()
        old.extend(new)
    elif isinstance(old, tuple) and len(old) == len(new):
        for before, after in zip(old, new, strict=True):
            update(before, after)


def _kept(old: Any, new: Any) -> Any:
    if isinstance(old, (list, dict, set, bytearray, deque)) and type(old) is type(new):
        update(old, new)
        return old
    return new

"""Waiting for what is waited for: a busy machine makes a test slow, never red."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

__all__ = ["HANGS", "until"]

T = TypeVar("T")

HANGS = 1800  # seconds; ends a test that would never end, not one that is slow


def until(look: Callable[[], T], pause: float = 0.2) -> T:
    """Return what `look` returns as soon as that is true. Raises AssertionError after HANGS seconds."""
    end = time.monotonic() + HANGS
    while not (seen := look()):
        assert time.monotonic() < end, f"{look} is still {seen!r} after {HANGS} s"
        time.sleep(pause)
    return seen

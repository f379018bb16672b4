"""Calling a function as a notebook does: where an event loop runs already."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

__all__ = ["as_in_a_notebook"]

_Result = TypeVar("_Result")


def as_in_a_notebook(function: Callable[[], _Result]) -> _Result:
    """Return what a function returns that is called by a coroutine, in a thread: the tests' own may have a loop."""

    async def cell() -> _Result:
        return function()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: asyncio.run(cell())).result()

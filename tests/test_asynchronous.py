from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from della_bench.asynchronous import run
from tests.notebook import as_in_a_notebook


async def half(number: int) -> float:
    await asyncio.sleep(0)
    return number / 2


def in_a_thread(function: Callable[[], float]) -> float:
    """Call a function where no event loop runs; in the tests' own thread a browser's may."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result()


def test_a_coroutine_runs_to_its_end_where_no_loop_runs() -> None:
    assert in_a_thread(lambda: run(half(3))) == 1.5


def test_it_does_so_inside_of_a_running_loop_as_in_a_notebook() -> None:
    assert as_in_a_notebook(lambda: run(half(3))) == 1.5


def test_what_it_raises_is_raised() -> None:
    with pytest.raises(TypeError):
        as_in_a_notebook(lambda: run(half("x")))  # type: ignore[arg-type]

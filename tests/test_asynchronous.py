from __future__ import annotations

import asyncio

import pytest

from della_bench.asynchronous import run


async def half(number: int) -> float:
    await asyncio.sleep(0)
    return number / 2


def test_a_coroutine_runs_to_its_end_where_no_loop_runs() -> None:
    assert run(half(3)) == 1.5


def test_it_does_so_inside_of_a_running_loop_as_in_a_notebook() -> None:
    async def cell() -> float:
        return run(half(3))

    assert asyncio.run(cell()) == 1.5


def test_what_it_raises_is_raised() -> None:
    async def cell() -> float:
        return run(half("x"))  # type: ignore[arg-type]

    with pytest.raises(TypeError):
        asyncio.run(cell())

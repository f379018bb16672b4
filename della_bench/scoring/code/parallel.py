"""A pure function over many arguments, in several processes where that pays.

The processes are Python's own, started anew and told where this package is: unlike multiprocessing's they neither copy
a process that may hold a model and threads, nor import the caller's main script a second time.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

__all__ = ["serve", "spread"]

T = TypeVar("T")

# A start takes about a fifth of a second; so much text takes this process about twice as long.
PAYS_FROM = 400_000

_CHILD = "import sys; sys.path[:] = {path!r}; from della_bench.scoring.code.parallel import serve; serve()"


def spread(
    function: Callable[..., T], calls: Sequence[tuple[Any, ...]], sizes: Sequence[int], workers: int | None = None
) -> list[T]:
    """Return what `function` makes of each tuple of arguments, in their order.

    function: one that can be imported by its name, without side effects. sizes: how much work each call is, in
    characters. workers: processes at most; default one a core. Where a process does not come to an end, its calls are
    done in this one.
    """
    processes = min(workers or len(os.sched_getaffinity(0)), 1 + sum(sizes) // PAYS_FROM, len(calls))
    if processes < 2:
        return [function(*call) for call in calls]
    # The largest calls are dealt out first, so that all processes end at about the same time.
    order = sorted(range(len(calls)), key=lambda index: -sizes[index])
    shares = [order[first::processes] for first in range(processes)]
    done: list[Any] = [None] * len(calls)
    with ThreadPoolExecutor(processes) as pool:
        running = [pool.submit(_elsewhere, function, [calls[index] for index in share]) for share in shares]
        for share, values in zip(shares, running, strict=True):
            for index, value in zip(share, values.result(), strict=True):
                done[index] = value
    return done


def _elsewhere(function: Callable[..., T], calls: list[tuple[Any, ...]]) -> list[T]:
    """Return what `function` makes of `calls`, computed in a process of their own."""
    command = [sys.executable, "-c", _CHILD.format(path=sys.path)]
    ended = subprocess.run(command, input=pickle.dumps((function, calls)), stdout=subprocess.PIPE, check=False)
    if ended.returncode:
        return [function(*call) for call in calls]
    values: list[T] = pickle.loads(ended.stdout)
    return values


def serve() -> None:
    """Compute the calls that standard input holds and write their values to standard output."""
    function, calls = pickle.load(sys.stdin.buffer)
    output = sys.stdout.buffer
    sys.stdout = sys.stderr  # what anything prints must not get among the values
    output.write(pickle.dumps([function(*call) for call in calls]))
    output.flush()

"""The threads that merge on the CPU, each with buffers that it keeps from tensor to tensor.

Memory that is asked for anew has to be cleared and mapped page by page, which for a block's buffers takes longer than
the block.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from della_bench.merge.kernels.cpu_plan import Scratch

__all__ = ["Workers", "thread_count"]

_In = TypeVar("_In")
_Out = TypeVar("_Out")


def thread_count() -> int:
    """Return how many threads to merge with: torch's number where torch is loaded, else what it would be."""
    if torch := sys.modules.get("torch"):
        return int(torch.get_num_threads())
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    if wanted.isdecimal() and int(wanted):
        return int(wanted)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Workers:
    """A fixed number of threads; a context manager, whose end waits for them."""

    def __init__(self, count: int | None = None) -> None:
        """count: of threads; default `thread_count`."""
        self.count = count or thread_count()
        self._own = threading.local()
        self._pool: ThreadPoolExecutor | None = None

    def map(self, work: Callable[[_In], _Out], items: Iterable[_In]) -> list[_Out]:
        """Return [work(item)], worked out in the threads; one alone is worked out where it is asked for."""
        items = list(items)
        if self.count == 1 or len(items) < 2:
            return [work(item) for item in items]
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.count, "della_bench-merge")
        return list(self._pool.map(work, items))

    def scratch(self, step: int, experts: int, wide_keys: bool) -> Scratch:
        """Return this thread's buffers for blocks of up to `step` elements."""
        from della_bench.merge.kernels.cpu_plan import make_scratch

        scratch: Scratch | None = getattr(self._own, "scratch", None)
        kind = experts, wide_keys
        if scratch is None or self._own.kind != kind or scratch.base.size < step:
            self._own.scratch = scratch = None  # before the new one is made
            self._own.scratch, self._own.kind = scratch, _ = make_scratch(step, experts, wide_keys), kind
        return scratch

    def __enter__(self) -> Workers:  # noqa: D105
        return self

    def __exit__(self, *_: object) -> None:
        """Let the threads end."""
        if self._pool is not None:
            self._pool.shutdown()

"""Loading what comes next while what came last is worked on."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

__all__ = ["loaded_ahead"]

_Wanted = TypeVar("_Wanted")
_Loaded = TypeVar("_Loaded")


def loaded_ahead(wanted: Iterator[_Wanted], load: Callable[[_Wanted], _Loaded]) -> Iterator[tuple[_Wanted, _Loaded]]:
    """Yield (each, load(each)); a thread loads the next while the consumer has the last."""
    with ThreadPoolExecutor(1, "della_bench-reader") as reader:
        loading: deque[tuple[_Wanted, Future[_Loaded]]] = deque()

        def load_next() -> None:
            loading.extend((each, reader.submit(load, each)) for each in islice(wanted, 1))

        load_next()
        while loading:
            each, future = loading.popleft()
            loaded = [future.result()]
            del future
            load_next()
            yield each, loaded.pop()  # nothing here may hold it while the consumer does something else

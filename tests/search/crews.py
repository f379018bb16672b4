"""Workers without Ray: a real crew, whose hosts are threads of this process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from della_bench.search import spread
from della_bench.search.answering import Places
from della_bench.spec import MergeSpec
from della_bench.workers import crew
from della_bench.workers.worker import Worker
from tests.search.making import answers

__all__ = ["Asked", "hire"]


class Asked(Worker):
    """A worker that answers as the fake model does; `before` is called with itself and what it is asked."""

    def __init__(self, number: int, stop: threading.Event, before: Callable[..., None]) -> None:
        super().__init__(number, None, stop)
        self.host = self.node = "here"
        self._before = before

    def call(self, method: str, *arguments: Any) -> Any:
        spec, places, *_ = arguments
        assert method == "answer"
        self._before(self, spec, places)
        return answers(spec, places)


def hire(
    monkeypatch: pytest.MonkeyPatch,
    count: int,
    before: Callable[[Worker, MergeSpec, Places], None] = lambda worker, spec, places: None,
) -> None:
    """Let searches with workers have so many of these."""

    class Here:
        """One host with room for all."""

        def __init__(self, *_: Any, stop: threading.Event, **__: Any) -> None:
            self.first_reason, self.lost_starts, self._stop = "", 0, stop

        def room(self) -> dict[str, int]:
            return {"here": count}

        def start(self, number: int) -> Worker:
            return Asked(number, self._stop, before)

        def note_lost(self, error: Exception) -> None:
            self.first_reason = str(error)

        def let_go(self, worker: Worker) -> None: ...

        def unpark(self) -> None: ...

        def let_all_go(self) -> None: ...

    @contextmanager
    def no_ray(wanted: object) -> Iterator[None]:
        yield

    monkeypatch.setattr(spread, "open_ray", no_ray)
    monkeypatch.setattr(crew, "Hosts", Here)
    monkeypatch.setattr(crew, "_LOOK", 0.01)

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from della_bench.run import provenance
from della_bench.run.tasks import Tasks
from della_bench.search import plan as plan_module
from della_bench.search import search as module
from della_bench.search.report import Outcome
from tests.search.making import FakeWorker, plan


@cache
def _tasks(names: tuple[str, ...]) -> Tasks:
    return Tasks(names)


def known_tasks(names: Sequence[str], **_: Any) -> Tasks:
    """Return the tasks, built once for all tests."""
    return _tasks(tuple(names))


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> type[FakeWorker]:
    """Return the class that stands in the place of the worker."""

    class Fake(FakeWorker):
        asked = []  # noqa: RUF012

    monkeypatch.setattr(module, "Answerer", Fake)
    monkeypatch.setattr(module, "check_engine", lambda *_: None)
    monkeypatch.setattr(plan_module, "Tasks", known_tasks)
    monkeypatch.setattr(provenance, "git_state", lambda: None)  # two processes for each candidate
    monkeypatch.setenv("DELLA_BENCH_CACHE", str(tmp_path / "cache"))
    return Fake


@pytest.fixture
def searched(worker: type[FakeWorker], tmp_path: Path) -> Callable[..., Outcome]:
    """Return what searches in a folder of its own: arguments as of `making.plan`."""

    def run(name: str = "out", **more: Any) -> Outcome:
        return module.Search(plan(tmp_path / name, **more)).run()

    return run

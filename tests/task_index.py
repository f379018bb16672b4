"""lm-eval's list of its own tasks, made once: to read their 14,000 files takes a processor eight seconds."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

__all__ = ["few_tasks", "indexed_once"]

_indexes: dict[Path, dict[str, Any]] = {}


@pytest.fixture
def indexed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give a `TaskManager` lm-eval's own tasks as the first of these tests in this process has found them."""
    import lm_eval.tasks
    from lm_eval.tasks._index import TaskIndex

    own = Path(lm_eval.tasks.__file__).parent
    original = TaskIndex.build

    def build(paths: Iterable[Path], **options: Any) -> dict[str, Any]:
        """Do what lm-eval does: of tasks with one name the one of the last folder counts."""
        index: dict[str, Any] = {}
        for path in paths:
            if path == own and own not in _indexes:
                _indexes[own] = original([own], **options)
            index |= _indexes[own] if path == own else original([path], **options)
        return index

    monkeypatch.setattr(TaskIndex, "build", staticmethod(build))


@pytest.fixture(scope="session")
def few_tasks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the environment of a process gets whose lm-eval is the installed one without most of its own tasks."""
    import lm_eval

    installed = Path(lm_eval.__file__).parent
    root = tmp_path_factory.mktemp("few_tasks")
    (root / "lm_eval" / "tasks").mkdir(parents=True)
    for path in (*installed.iterdir(), *(installed / "tasks").iterdir()):
        is_left_out = path.parent.name == "tasks" and path.is_dir() and path.name not in ("__pycache__", "gsm8k")
        if path != installed / "tasks" and not is_left_out:
            (root / path.relative_to(installed.parent)).symlink_to(path)
    return {"PYTHONPATH": os.pathsep.join(filter(None, (str(root), os.environ.get("PYTHONPATH"))))}

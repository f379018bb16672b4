"""The files that a user's own task is made of, and a digest that changes where any of them does."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from della_bench.merge.fingerprint import file_digest
from della_bench.resources import folder
from della_bench.run.task_names import read_task_file

__all__ = ["task_digest"]


def task_digest(path: Path | None) -> str | None:
    """Return a digest over a task's YAML with what it includes, its Python files, and the local data that it names.

    None for a task that comes with lm-eval or with us, or that lies in no file (`path` is None). Raises UsageError
    where the YAML cannot be read, and DataError where a file cannot be, or changes meanwhile.
    """
    if path is None or any(place in path.resolve().parents for place in _shipped()):
        return None
    config = read_task_file(path)
    state = hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode())
    for file in sorted({*_python_files(path, config), *_data_files(config)}):
        name = os.path.relpath(file, path.parent)
        state.update(f"\0{name}\0{file_digest(file)}".encode("utf-8", "surrogateescape"))
    return state.hexdigest()


def _shipped() -> list[Path]:
    import lm_eval.tasks

    return [folder("tasks").resolve(), Path(lm_eval.tasks.__file__).resolve().parent]


def _python_files(path: Path, config: object) -> Iterator[Path]:
    """Yield the Python files beside the YAML, and beside any that it includes and takes functions from."""
    places = {path.parent, *(file.parent for text in _texts(config) if (file := _module_file(text)) is not None)}
    for place in places:
        yield from place.glob("*.py")


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)


def _module_file(text: str) -> Path | None:
    """Return the file that lm-eval takes `!function module.name` from, given what it makes of that; else None.

    It makes a path of the YAML's folder, the module with its dots, a dot and the name.
    """
    folder, _, function = text.rpartition("/")
    module, _, name = function.rpartition(".")
    if not (folder and module and name.isidentifier()) or "\n" in text:
        return None
    path = Path(folder, f"{module.replace('.', '/')}.py")
    return path if path.is_file() else None


def _data_files(config: Mapping[str, Any]) -> Iterator[Path]:
    """Yield the local files that `dataset_path` and `dataset_kwargs` name as data, of a task and of a group's tasks."""
    inner = config.get("task")
    for task in inner if isinstance(inner, list) else []:
        if isinstance(task, Mapping):
            yield from _data_files(task)
    options = config.get("dataset_kwargs")
    if not isinstance(options, Mapping):
        options = {}
    places = [text for key in ("data_files", "data_dir") for text in _texts(options.get(key))]
    within = options.get("data_dir")
    if isinstance(within, str):  # `data_files` may be given below it
        places += [str(Path(within) / text) for text in _texts(options.get("data_files"))]
    for place in [*places, *_texts(config.get("dataset_path"))]:
        for found in _matching(place):
            files = found.rglob("*") if found.is_dir() else [found]
            yield from (file for file in files if file.is_file() and "__pycache__" not in file.parts)


def _matching(place: str) -> Iterator[Path]:
    """Yield what a path or a pattern names. `**` does not go into linked folders, which may lead back."""
    path = Path(place).expanduser()
    try:
        yield from Path(path.anchor).glob(str(path.relative_to(path.anchor)))
    except (OSError, ValueError, NotImplementedError):  # no pattern of pathlib's, or not to be looked into
        yield from [path] if os.path.exists(path) else []

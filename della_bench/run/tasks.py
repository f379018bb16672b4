"""lm-eval's tasks behind the benchmarks of a run: found by name or file, and built before any model is."""

from __future__ import annotations

import glob
import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from della_bench.benchmarks import BENCHMARKS, Benchmark, benchmark_of
from della_bench.errors import DellaBenchError, UsageError
from della_bench.resources import folder
from della_bench.run.settings import EvalSettings
from della_bench.suggest import nearest

__all__ = ["BrokenTasksError", "Tasks"]

_OURS = {*BENCHMARKS, *(task for row in BENCHMARKS.values() for task in row.tasks.values())}


class BrokenTasksError(UsageError):
    """Tasks of lm-eval cannot be built: their data are not to be had, or their templates or code are broken."""


class Tasks:
    """The benchmarks that a run was asked for, each with its task of lm-eval.

    `benchmarks` has a row for each, in order: a row of BENCHMARKS, or one made up for any other task.
    """

    def __init__(
        self, names: Collection[str], *, include_path: Path | None = None, unsafe: bool = False, manager: Any = None
    ) -> None:
        """A name is a benchmark's, a task's of lm-eval, or (a pattern of) a task's YAML files.

        include_path: a folder with more tasks, which come before others of their names. unsafe: tasks that run the
        model's programs are allowed. manager: lm-eval's TaskManager, where the caller has one already.

        Raises UsageError with all faults: an unknown name, a missing folder or file, programs that nobody allowed.
        """
        self._include_path, self._unsafe, self._given_manager = include_path, unsafe, manager
        self._built: dict[str, Any] = {}
        self._digests: dict[str, str | None] = {}
        if include_path is not None and not include_path.is_dir():
            raise UsageError(f"there is no folder {include_path}", argument="include_path")
        self._without_defaults = all(name in _OURS or name.endswith(".yaml") for name in names)
        chosen: dict[str, tuple[Benchmark, Path | None]] = {}
        faults = []
        for name in names:
            try:
                for row, path in self._rows(name):
                    if chosen.setdefault(row.name, (row, path)) != (row, path):
                        raise UsageError(f"{name} is {row.name}, which is asked for already in another form")
            except UsageError as error:
                faults.append(str(error))
        if faults:
            raise UsageError("\n".join(faults), argument="benchmarks")
        self.benchmarks = [row for row, _ in chosen.values()]
        self._files = {name: path for name, (_, path) in chosen.items() if path is not None}
        if (programs := [row.name for row in self.benchmarks if row.unsafe]) and not unsafe:
            raise UsageError(_not_allowed(programs), argument="unsafe")

    @cached_property
    def manager(self) -> Any:
        """lm-eval's TaskManager, made when it is first needed; without lm-eval's own tasks where none is asked for.

        To look through these takes seconds.
        """
        if self._given_manager is not None:
            return self._given_manager
        from lm_eval.tasks import TaskManager

        included = [] if self._include_path is None else [self._include_path]
        if self._without_defaults:
            return TaskManager(include_path=[folder("tasks"), *included], include_defaults=False)
        from della_bench.plugin import register

        register()
        return TaskManager(include_path=included)

    def build(self) -> None:
        """Build every task: load its data and render its first document. Once; later calls do nothing.

        Raises BrokenTasksError with the faults of all of them.
        """
        faults = []
        for row in self.benchmarks:
            if row.name not in self._built:
                try:
                    self._built[row.name] = self._task(row)
                except DellaBenchError as error:
                    faults.append(f"{row.name}: {error}")
                except Exception as error:  # a task's code and templates may raise anything, and it is told
                    reason = " ".join(str(error).split())
                    faults.append(f"{row.name}: task {row.task} cannot be built: {type(error).__name__}: {reason}")
        if faults:
            raise BrokenTasksError("\n".join(faults))

    def task(self, row: Benchmark) -> Any:
        """Return the built task of a benchmark. Raises BrokenTasksError with the faults of all tasks."""
        self.build()
        return self._built[row.name]

    def digest(self, row: Benchmark) -> str | None:
        """Return a digest of a user's own task, None for tasks that come with lm-eval or with us.

        Their version says what they are; a user's file may change at any time. The digest is over the YAML with what it
        includes, the Python files beside it, and the data files that it names.
        """
        if row.name not in self._digests:
            self._digests[row.name] = self._digest(row)
        return self._digests[row.name]

    def _digest(self, row: Benchmark) -> str | None:
        path = self._files.get(row.name)
        if path is None and (self._include_path is not None or not self._without_defaults):
            path = getattr(self.manager.task_index.get(row.task), "yaml_path", None)
        if path is None or any(place in path.resolve().parents for place in _shipped()):
            return None
        config = _read(path)
        state = hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode())
        for file in sorted([*path.parent.glob("*.py"), *_data_files(config)]):
            state.update(file.read_bytes())
        return state.hexdigest()

    def _rows(self, name: str) -> Iterator[tuple[Benchmark, Path | None]]:
        """Yield the benchmarks that a name means, each with its task's file where the name is one."""
        if name.endswith(".yaml"):
            paths = sorted(map(Path, glob.glob(str(Path(name).expanduser().absolute()))))
            if not paths:
                raise UsageError(f"there is no file {name}")
            for path in paths:
                yield _row(_read(path), str(path)), path
        elif name in BENCHMARKS:
            yield BENCHMARKS[name], None
        elif name in self.manager.all_subtasks:
            yield _row({**(self.manager.task_index[name].cfg or {}), "task": name}, name), None
        elif name in self.manager.all_tasks:
            raise UsageError(f"{name} is a group of tasks; name its tasks one by one")
        else:
            raise UsageError(f"{name} is neither a benchmark nor a task of lm-eval{nearest(name, BENCHMARKS)}")

    def _task(self, row: Benchmark) -> Any:
        from lm_eval.tasks._yaml_loader import load_yaml

        path = self._files.get(row.name)
        loaded = self.manager.load([row.task if path is None else load_yaml(path, resolve_func=True)])
        task = loaded["tasks"][row.task]
        if getattr(task, "UNSAFE_CODE", False) and not self._unsafe:  # said by a task's class, not by its file
            raise UsageError(_not_allowed([row.task]))
        task.set_fewshot_seed(EvalSettings().seed[-1])
        task.build_all_requests(limit=1)
        return task


def _read(path: Path) -> Mapping[str, Any]:
    """Return what a task's YAML file says, its functions by name."""
    from lm_eval.tasks._yaml_loader import load_yaml

    try:
        config: Mapping[str, Any] = load_yaml(path, resolve_func=False)
    except Exception as error:  # of YAML, of a missing file that it includes, ...
        raise UsageError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    return config


def _row(config: Mapping[str, Any], place: str) -> Benchmark:
    """Return the benchmark whose test split a task asks, or a row for the task alone."""
    task = config.get("task")
    if not isinstance(task, str):
        raise UsageError(f"{place} is no task: it has no name under 'task'")
    return BENCHMARKS.get(benchmark_of(task)) or Benchmark(
        task, task, {"test": task}, unsafe=bool(config.get("unsafe_code"))
    )


def _not_allowed(names: Sequence[str]) -> str:
    return f"{', '.join(names)}: runs programs that the model wrote, and that must be allowed"


def _shipped() -> list[Path]:
    import lm_eval.tasks

    return [folder("tasks").resolve(), Path(lm_eval.tasks.__file__).resolve().parent]


def _data_files(config: Mapping[str, Any]) -> Iterator[Path]:
    """Yield the local files that a task's `dataset_kwargs` name as its data."""
    pending = [(config.get("dataset_kwargs") or {}).get("data_files")]
    while pending:
        value = pending.pop()
        if isinstance(value, Mapping):
            pending += value.values()
        elif isinstance(value, list):
            pending += value
        elif isinstance(value, str) and Path(value).is_file():
            yield Path(value)

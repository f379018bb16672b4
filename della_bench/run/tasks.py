"""lm-eval's tasks behind the benchmarks of a run: found by name or file, and built before any model is."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from della_bench.benchmarks import BENCHMARKS, Benchmark
from della_bench.errors import DellaBenchError, UsageError
from della_bench.resources import folder
from della_bench.run.settings import EvalSettings
from della_bench.run.task_files import task_digest
from della_bench.run.task_names import Chosen, choose, read_task_file
from della_bench.run.task_settings import ask, effective, setting_faults

__all__ = ["BrokenTasksError", "Tasks"]

_OURS = {*BENCHMARKS, *(task for row in BENCHMARKS.values() for task in row.tasks.values())}


class BrokenTasksError(UsageError):
    """Tasks of lm-eval cannot be built: their data are not to be had, or their templates or code are broken."""


class Tasks:
    """The benchmarks that a run was asked for, each with its task, or group of tasks, of lm-eval.

    `benchmarks` has a row for each, in order: a row of BENCHMARKS, or one made up for any other task.
    """

    def __init__(
        self,
        names: Collection[str],
        *,
        include_path: Path | None = None,
        unsafe: bool = False,
        manager: Any = None,
        settings: EvalSettings | None = None,
        by_benchmark: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        """A name is a benchmark's, a task's, group's or tag's of lm-eval, or (a pattern of) a task's YAML files.

        include_path: a folder with more tasks, which come before others of their names. unsafe: tasks that run the
        model's programs are allowed. manager: lm-eval's TaskManager, where the caller has one already. settings: of all
        benchmarks; by_benchmark: those that a benchmark has of its own, by the name that it is asked for by.

        Raises UsageError with all faults: an unknown name, a missing folder or file, a group that holds a task twice,
        settings that name none of the tasks or contradict each other, programs that nobody allowed. Where there is one,
        what the other tasks lack for their settings is told with it.
        """
        self._include_path, self._unsafe, self._given_manager = include_path, unsafe, manager
        self._built: dict[str, Any] = {}
        self._digests: dict[str, str | None] = {}
        if include_path is not None and not include_path.is_dir():
            raise UsageError(f"there is no folder {include_path}", argument="include_path")
        self._without_defaults = all(name in _OURS or name.endswith(".yaml") for name in names)
        self._chosen: dict[str, Chosen] = {}
        faults = []
        for name in names:
            try:
                for each in choose(name, lambda: self.manager):
                    known = self._chosen.setdefault(each.row.name, each)
                    if (known.row, known.path) != (each.row, each.path):
                        raise UsageError(f"{name} is {each.row.name}, which is asked for already in another form")
            except UsageError as error:
                faults.append(str(error))
        self._settings = settings or EvalSettings()
        self._own = {name: own for name, own in (by_benchmark or {}).items() if name in names}
        self.benchmarks = [each.row for each in self._chosen.values()]
        wrong = setting_faults(self._settings, self._own, self._chosen.values(), all_known=not faults)
        programs = [row.name for row in self.benchmarks if row.unsafe and not unsafe]
        if faults or wrong or programs:
            argument = "benchmarks" if faults else None if wrong else "unsafe"
            told = [*faults, *wrong, *([_not_allowed(programs)] if programs else [])]
            needy = [row for row in self.benchmarks if self.settings(row).num_fewshot or self.settings(row).samples]
            raise UsageError("\n".join([*told, *self._lacking(needy)]), argument=argument)

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
            try:
                self.only(row)
            except BrokenTasksError as error:
                faults.append(str(error))
        if faults:
            raise BrokenTasksError("\n".join(faults))

    def check_settings(self) -> None:
        """Raise UsageError with what the tasks lack for their settings; data that are not here are no fault."""
        if faults := self._lacking(self.benchmarks):
            raise UsageError("\n".join(faults))

    def _lacking(self, rows: Iterable[Benchmark]) -> list[str]:
        """Return what the tasks of these benchmarks lack for their settings."""
        faults = []
        for row in rows:
            try:
                self.only(row)
            except BrokenTasksError as error:
                if isinstance(error.__cause__, UsageError):
                    faults.append(str(error))
        return faults

    def only(self, row: Benchmark) -> Any:
        """Return what `task` does. Raises BrokenTasksError where this one cannot be built, whatever the others can."""
        if row.name not in self._built:
            try:
                self._built[row.name] = self._task(row)
            except DellaBenchError as error:
                raise BrokenTasksError(f"{row.name}: {error}") from error
            except Exception as error:  # a task's code and templates may raise anything, and it is told
                reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
                raise BrokenTasksError(f"{row.name}: task {row.task} cannot be built: {reason}") from error
        return self._built[row.name]

    def task(self, row: Benchmark) -> Any:
        """Return the built task, or group of tasks, of a benchmark. Raises BrokenTasksError with all tasks' faults."""
        self.build()
        return self._built[row.name]

    def settings(self, row: Benchmark) -> EvalSettings:
        """Return the settings that a benchmark is asked with."""
        chosen = self._chosen[row.name]
        return effective(chosen, self._settings, self._own.get(chosen.given, {}), self._config(chosen))

    def without_examples(self) -> list[str]:
        """Return the benchmarks that stay without examples, as their YAML says, though examples are asked for all."""
        if not self._settings.num_fewshot:
            return []
        by_yaml = [each for each in self._chosen.values() if (self._config(each) or {}).get("num_fewshot") == 0]
        return [each.row.name for each in by_yaml if "num_fewshot" not in self._own.get(each.given, {})]

    def leaves(self, row: Benchmark) -> tuple[str, ...]:
        """Return lm-eval's names of a benchmark's tasks: several for a group."""
        return self._chosen[row.name].leaves

    def digest(self, row: Benchmark) -> str | None:
        """Return a digest of a user's own task, None for tasks that come with lm-eval or with us.

        Their version says what they are; a user's file may change at any time. The digest is over the YAML with what it
        includes, the Python files beside it, and the data files that it names; for a group, of all its own tasks. A
        task that is a Python class has its data from wherever it likes: it is built, and its documents count.
        """
        if row.name not in self._digests:
            self._digests[row.name] = self._digest(self._chosen[row.name])
        return self._digests[row.name]

    def _digest(self, chosen: Chosen) -> str | None:
        names = dict.fromkeys((chosen.row.task, *chosen.leaves))
        digests = [digest for name in names if (digest := task_digest(self._path(chosen, name))) is not None]
        if digests and chosen.leaves == (chosen.row.task,) and self._config(chosen) is None:
            digests.append(self._digest_of_documents(chosen.row))
        if len(digests) < 2:
            return digests[0] if digests else None
        return hashlib.sha256(json.dumps(digests).encode()).hexdigest()

    def _digest_of_documents(self, row: Benchmark) -> str:
        state = hashlib.sha256()
        with suppress(BrokenTasksError):  # which is told where it is to be asked
            for document in self.only(row).eval_docs:
                text = json.dumps(document, sort_keys=True, default=lambda value: type(value).__name__)
                state.update(text.encode("utf-8", "surrogatepass") + b"\n")
        return state.hexdigest()

    def _path(self, chosen: Chosen, task: str) -> Path | None:
        """Return the YAML file of a task or group, None where it may only be one that ships."""
        if chosen.path is None and (self._include_path is not None or not self._without_defaults):
            path: Path | None = getattr(self.manager.task_index.get(task), "yaml_path", None)
            return path
        return chosen.path

    def _config(self, chosen: Chosen) -> Mapping[str, Any] | None:
        """Return what a task's YAML says, None for a group, and for a task whose Python class may say more."""
        if chosen.leaves != (chosen.row.task,):
            return None
        if chosen.path is not None:
            config = read_task_file(chosen.path)
        else:
            config = getattr(self.manager.task_index.get(chosen.row.task), "cfg", None) or {"class": ""}
        return None if "class" in config else config

    def _task(self, row: Benchmark) -> Any:
        """Build the task, or group of tasks, of a benchmark, and ask the first document of each of its tasks."""
        from lm_eval.api.group import Group
        from lm_eval.tasks._factory import TaskFactory
        from lm_eval.tasks._index import TaskIndex
        from lm_eval.tasks._yaml_loader import load_yaml

        chosen, settings = self._chosen[row.name], self.settings(row)
        index, overrides = self.manager.task_index, None
        if chosen.path is None:
            entry = index[row.task]
        else:
            overrides = load_yaml(chosen.path, resolve_func=True)
            entry = TaskIndex.entry_from_config(overrides)
        built = TaskFactory(meta=dict(settings.metadata)).build(entry, overrides=overrides, registry=index)
        tasks = built.get_all_tasks() if isinstance(built, Group) else [built]
        known = self._unsafe or row.unsafe  # what a task's file says is told with the names
        if any(getattr(task, "UNSAFE_CODE", False) for task in tasks) and not known:  # its class says so
            raise UsageError(_not_allowed([row.task]))
        if faults := ask(tasks, settings, self._own.get(chosen.given, {})):
            raise UsageError("; ".join(faults))
        for task in tasks:
            task.set_fewshot_seed(settings.seed[-1])
            task.build_all_requests(limit=1, system_instruction=settings.system_instruction)
        return built


def _not_allowed(names: Sequence[str]) -> str:
    return f"{', '.join(names)}: runs programs that the model wrote, and that must be allowed"

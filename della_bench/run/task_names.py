"""Which tasks of lm-eval a name means: a benchmark, a task, its file, a group or a tag of tasks, or a pattern."""

from __future__ import annotations

import glob
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from della_bench.benchmarks import BENCHMARKS, Benchmark, benchmark_of
from della_bench.errors import UsageError
from della_bench.suggest import nearest

__all__ = ["Chosen", "choose", "read_task_file"]


@dataclass(frozen=True)
class Chosen:
    """A benchmark of a run: its row, the name that it was asked for by, its tasks, and its file where it has one.

    leaves: lm-eval's names of the tasks, several for a group.
    """

    row: Benchmark
    given: str
    leaves: tuple[str, ...]
    path: Path | None = None


def choose(name: str, manager: Callable[[], Any]) -> Iterator[Chosen]:
    """Yield the benchmarks that a name means.

    manager: gives lm-eval's TaskManager, which takes seconds to make and is made only where it is needed. A group is
    one benchmark, as lm-eval evaluates it in one call; a tag is only a word for its tasks. Raises UsageError for a name
    that means nothing, for a group that holds a task twice, and for a task of lm-eval whose name is a benchmark's here.
    """
    if name.endswith(".yaml"):
        paths = sorted(map(Path, glob.glob(str(Path(name).expanduser().absolute()))))
        if not paths:
            raise UsageError(f"there is no file {name}")
        for path in paths:
            row = _row(read_task_file(path), str(path))
            yield Chosen(row, name, (row.task,), path)
    elif name in BENCHMARKS:
        yield Chosen(BENCHMARKS[name], name, (BENCHMARKS[name].task,))
    elif name in manager().all_subtasks:
        yield _task(name, name, manager().task_index)
    elif name in manager().all_groups:
        yield _group(name, manager().task_index)
    elif name in manager().all_tags:
        for task in sorted(manager().task_index[name].tags):
            yield _task(task, name, manager().task_index)
    elif matches := manager().match_tasks([name]) if set("*?[") & set(name) else []:
        for match in matches:
            _check_name(match, name)
            for chosen in choose(match, manager):
                yield replace(chosen, given=name)
    else:
        hint = nearest(name, {*BENCHMARKS, *manager().all_tasks})
        hint = nearest(name, BENCHMARKS) if hint.startswith("; one of") else hint  # lm-eval has thousands of names
        raise UsageError(f"{name} is neither a benchmark nor a task or group of lm-eval{hint}")


def read_task_file(path: Path) -> Mapping[str, Any]:
    """Return what a task's YAML file says, its functions by name. Raises UsageError where it cannot be read."""
    from lm_eval.tasks._yaml_loader import load_yaml

    try:
        config: Mapping[str, Any] = load_yaml(path, resolve_func=False)
    except Exception as error:  # of YAML, of a missing file that it includes, ...
        raise UsageError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    return config


def _task(task: str, given: str, index: Mapping[str, Any]) -> Chosen:
    return Chosen(_row({**(index[task].cfg or {}), "task": task}, task), given, (task,))


def _row(config: Mapping[str, Any], place: str) -> Benchmark:
    """Return the benchmark whose test split a task asks, or a row for the task alone."""
    task = config.get("task")
    if not isinstance(task, str):
        raise UsageError(f"{place} is no task: it has no name under 'task'")
    _check_name(task, place)
    return BENCHMARKS.get(benchmark_of(task)) or Benchmark(
        task, task, {"test": task}, unsafe=bool(config.get("unsafe_code"))
    )


def _check_name(task: str, place: str) -> None:
    """Raise UsageError for a task of somebody else's with the name of a benchmark here, which asks another task."""
    row = BENCHMARKS.get(task)
    if row is not None and row.task != task:
        raise UsageError(
            f"{place}: a task {task} that is not the benchmark of that name, which asks {row.task}; to run it, give it "
            "another name: a YAML file with `include: FILE` and `task: NAME`"
        )


def _group(name: str, index: Mapping[str, Any]) -> Chosen:
    leaves = list(_leaves(index[name].cfg.get("task"), name, index, (name,)))
    if doubled := [task for task, count in Counter(leaves).items() if count > 1]:
        raise UsageError(f"{name} holds {', '.join(doubled)} twice")
    configs = [index[task].cfg or {} for task in leaves if task in index]
    unsafe = any(config.get("unsafe_code") or _is_unsafe(config.get("task")) for config in configs)
    return Chosen(Benchmark(name, name, {"test": name}, unsafe=unsafe), name, tuple(leaves))


def _is_unsafe(task: object) -> bool:
    row = BENCHMARKS.get(benchmark_of(str(task)))
    return row is not None and row.unsafe


def _leaves(members: object, group: str, index: Mapping[str, Any], above: Sequence[str]) -> Iterator[str]:
    """Yield the tasks of a group's members as lm-eval calls them: what a group defines itself is called after it."""
    for member in members if isinstance(members, list) else [members]:
        entry = member if isinstance(member, dict) else {"task": member}
        name = entry.get("group") or entry.get("task")
        known = index.get(name) if isinstance(name, str) else None
        if "group" in entry and known is None:
            yield from _leaves(entry.get("task"), f"{group}::{name}", index, above)
        elif known is None:
            yield f"{group}::{name}"
        elif known.kind.name == "TAG":
            yield from sorted(known.tags)
        elif known.kind.name == "GROUP":
            if name not in above:
                yield from _leaves(known.cfg.get("task"), str(name), index, (*above, str(name)))
        else:
            yield str(name)

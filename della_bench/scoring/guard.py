"""Asking whether code may be run, and whether it can be run safely, before a model is merged instead of after it.

lm-eval refuses tasks marked `unsafe_code` without `--confirm_run_unsafe_code`, but only when the model has been loaded.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from della_bench.errors import DellaBenchError
from della_bench.resources import folder

__all__ = ["ALLOW_UNSAFE", "check_before_merging", "running_evaluation", "templated_tasks", "unsafe_allowed"]

ALLOW_UNSAFE = "DELLA_BENCH_ALLOW_UNSAFE_CODE"


def unsafe_allowed() -> bool:
    """Return whether the environment allows running code with limits only, where no level of isolation holds."""
    return os.environ.get(ALLOW_UNSAFE, "0") not in ("", "0")


def check_before_merging() -> None:
    """Refuse what lm-eval, or the sandbox, would refuse after the model is there; called by our model types.

    Looks at the evaluation that is making the model, if there is one: lm-eval's `simple_evaluate` further up the stack,
    which the command line calls too. Where it is not to be seen, or is of a release that keeps its arguments under
    other names, nothing is checked here, and lm-eval's own check comes later.

    Raises DellaBenchError (exit code 2) where a task is marked `unsafe_code` and was not confirmed, and SandboxError
    where one of our tasks is to run code and no level of isolation holds.
    """
    evaluation = running_evaluation(sys._getframe(1))
    if evaluation is None or "confirm_run_unsafe_code" not in evaluation:
        return
    unsafe = dict(_unsafe_tasks(evaluation.get("tasks"), evaluation.get("task_manager")))
    if not unsafe:
        return
    if not evaluation["confirm_run_unsafe_code"]:
        raise DellaBenchError(
            f"the code that the model writes is run by {', '.join(unsafe)}: "
            "confirm with --confirm_run_unsafe_code (confirm_run_unsafe_code=True in Python)",
            exit_code=2,
        )
    if any(unsafe.values()) and not evaluation.get("predict_only"):
        from della_bench.scoring.sandbox import find_level

        find_level(allow_unsafe=unsafe_allowed())


def running_evaluation(frame: FrameType | None) -> Mapping[str, Any] | None:
    """Return the arguments of the innermost `simple_evaluate` that is running above `frame`, or None."""
    while frame is not None:
        if frame.f_code.co_name == "simple_evaluate" and frame.f_globals.get("__name__") == "lm_eval.evaluator":
            return dict(frame.f_locals)
        frame = frame.f_back
    return None


def templated_tasks(evaluation: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (task, whose template) of each task of a running evaluation that says that its prompts hold one.

    A task says so under `metadata`, as `prompt_template`.
    """
    for name, config, _ in _all_tasks(evaluation.get("tasks"), evaluation.get("task_manager")):
        template = (config.get("metadata") or {}).get("prompt_template")
        if template:
            yield name, str(template)


def _unsafe_tasks(tasks: Any, manager: Any) -> Iterator[tuple[str, bool]]:
    """Yield (name, whether it is ours) of each task that lm-eval will take for unsafe."""
    for name, config, ours in _all_tasks(tasks, manager):
        if config.get("unsafe_code"):
            yield name, ours


def _all_tasks(tasks: Any, manager: Any) -> Iterator[tuple[str, Mapping[str, Any], bool]]:
    """Yield (name, configuration, whether it is ours) of each task that is asked for, those of groups and tags too."""
    listed = tasks if isinstance(tasks, (list, tuple)) else [tasks]
    if manager is None and any(isinstance(task, (str, Mapping)) for task in listed):
        from lm_eval.tasks.manager import TaskManager

        manager = TaskManager()
    index: Mapping[str, Any] = getattr(manager, "task_index", None) or {}
    seen: set[str] = set()
    for task in listed:
        if isinstance(task, (str, Mapping)):
            yield from _named(task, index, seen)
        elif task is not None:
            config = getattr(task, "config", None)
            known = {"unsafe_code": getattr(task, "UNSAFE_CODE", False), "metadata": getattr(config, "metadata", None)}
            yield str(getattr(config, "task", task)), known, False


def _named(
    task: str | Mapping[str, Any], index: Mapping[str, Any], seen: set[str]
) -> Iterator[tuple[str, Mapping[str, Any], bool]]:
    """Yield what `_all_tasks` does for a task, group or tag by name, a task's file, or a configuration."""
    if isinstance(task, Mapping):
        members = task.get("task")
        if not isinstance(members, list) and task.get("unsafe_code"):
            yield str(members), task, False
            return
        for member in members if isinstance(members, list) else [members]:
            if isinstance(member, (str, Mapping)):
                yield from _named(member, index, seen)
        return
    if task in seen:
        return
    seen.add(task)
    entry = index.get(task)
    path = entry.yaml_path if entry else Path(task) if task.endswith((".yaml", ".yml")) else None
    config = (entry.cfg if entry else None) or _config(path)
    if isinstance(config.get("task"), list):
        yield from _named({"task": config["task"]}, index, seen)
    else:
        yield task, config, path is not None and folder("tasks") in path.resolve().parents
    for name, tagged in index.items():
        if task in (tagged.tags or ()):
            yield from _named(name, index, seen)


def _config(path: Path | None) -> Mapping[str, Any]:
    """Return a task file's configuration; nothing where it cannot be read, which lm-eval will say."""
    from lm_eval.tasks._yaml_loader import load_yaml

    if path is None or not path.is_file():
        return {}
    config: Mapping[str, Any] = load_yaml(path, resolve_func=False)
    return config

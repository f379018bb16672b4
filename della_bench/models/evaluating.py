"""A merge through lm-evaluation-harness, from Python, in one call."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

from della_bench.errors import UsageError
from della_bench.models.merged import MergedModel
from della_bench.plugin import register
from della_bench.spec import MergeSpec
from della_bench.suggest import with_nearest

if TYPE_CHECKING:
    from lm_eval.tasks import TaskManager

__all__ = ["evaluate"]


def evaluate(
    model: MergedModel | MergeSpec | str | PathLike[str] | Mapping[str, Any],
    tasks: str | Sequence[str],
    *,
    arguments: Mapping[str, Any] | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Evaluate a merge on tasks of lm-eval and return what `lm_eval.simple_evaluate` returns.

    model: a spec in any form that `MergeSpec.parse` takes, or a running model such as DellaMergedLM. tasks: names, ours
    among them (`lm_eval ls tasks` lists all). arguments: of the model type, where `model` is a spec: `engine` ("hf" or
    "vllm"), `attn_implementation` and the like. options: of `simple_evaluate`: `batch_size`, `device`, `limit`,
    `log_samples`, `confirm_run_unsafe_code`, ...

    The result has the metrics by task in `["results"]`, and spec, digest and fingerprint of the merge in
    `["config"]["della_bench"]`. Nothing is written to disk; `della-bench run` keeps results.

    Raises SpecError or CheckpointError for a faulty spec or sources, UsageError before anything is merged for a task
    that is not there, and what lm-eval raises.
    """
    if isinstance(model, MergedModel) and arguments:
        raise UsageError("a running model has its own; give them to its constructor", argument="arguments")
    keys = {} if isinstance(model, MergedModel) else MergeSpec.parse(model).as_keys()
    register()
    import lm_eval
    from lm_eval.tasks import TaskManager

    names = [tasks] if isinstance(tasks, str) else list(tasks)
    arguments = {**keys, **(arguments or {})}
    if options.get("task_manager") is None:  # as lm-eval makes it else, when the model is there
        options["task_manager"] = TaskManager(metadata={**arguments, **(options.get("metadata") or {})})
    _check_names(names, options["task_manager"])
    if isinstance(model, MergedModel):
        return dict(lm_eval.simple_evaluate(model=model, tasks=names, **options))
    return dict(lm_eval.simple_evaluate(model="della_merged", model_args=arguments, tasks=names, **options))


def _check_names(names: Sequence[object], manager: TaskManager) -> None:
    unknown = [
        f"no task, tag or group of lm-eval: {with_nearest(name, manager.all_tasks)}"
        for name in names
        if isinstance(name, str) and not os.path.exists(name) and not manager.match_tasks([name])
    ]
    if unknown:
        raise UsageError("\n".join(unknown), argument="tasks")

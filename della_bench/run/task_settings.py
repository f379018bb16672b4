"""What settings come to for one benchmark: what its tasks make of them, and what they lack for them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from della_bench.run.settings import EvalSettings
from della_bench.run.task_names import Chosen
from della_bench.suggest import nearest

__all__ = ["ask", "effective", "setting_faults"]


def effective(
    chosen: Chosen, settings: EvalSettings, own: Mapping[str, Any], config: Mapping[str, Any] | None
) -> EvalSettings:
    """Return the settings that a benchmark is asked with, without those that change nothing about it.

    own: the settings of this benchmark alone. config: what the task's YAML says, None for a group and where nobody
    knows. As in lm-eval, a task that is 0-shot by its YAML stays so whatever is said for all, and generation arguments
    are for tasks that generate.
    """
    made = settings.changed(own)
    for name in (chosen.given, chosen.row.name):
        made = made if made.samples is None or name not in made.samples else made.of_tasks(name, chosen.leaves)
    made = made.of_tasks(chosen.row.name, chosen.leaves)
    if config is None:
        return made
    shots = config.get("num_fewshot")
    if made.num_fewshot == (shots or 0) or (shots == 0 and "num_fewshot" not in own):
        made = replace(made, num_fewshot=None)
    if config.get("output_type", "generate_until") != "generate_until":
        made = replace(made, gen_kwargs={})
    return made


def setting_faults(
    settings: EvalSettings,
    own: Mapping[str, Mapping[str, Any]],
    benchmarks: Iterable[Chosen],
    *,
    all_known: bool = True,
) -> list[str]:
    """Return what is wrong with settings whatever is in the data.

    all_known: whether `benchmarks` are all that were asked for; else samples may be of one that nobody could find.
    """
    chosen = list(benchmarks)
    names = {name for each in chosen for name in (each.given, each.row.name, *each.leaves)}
    given = [settings, *(settings.changed(changes) for changes in own.values())]
    unknown = dict.fromkeys(name for each in given for name in each.samples or () if name not in names and all_known)
    faults = [f"samples: {name} is no task of this run{nearest(name, names)}" for name in unknown]
    faults += [
        f"samples: {each.row.name} has {len(each.leaves)} tasks: name them, such as {each.leaves[0]}"
        for each in chosen
        if len(each.leaves) > 1 and any(each.row.name in (made.samples or ()) for made in given)
    ]
    if any(each.fewshot_as_multiturn and not each.apply_chat_template for each in given):
        faults.append("fewshot_as_multiturn: turns need a chat template, and apply_chat_template is not set")
    lengths = _LENGTHS & {name for each in given for name in each.gen_kwargs}
    faults += [f"gen_kwargs: {name}: write max_gen_toks, before which it does not count" for name in sorted(lengths)]
    return faults


_LENGTHS = {"max_new_tokens", "max_tokens", "max_completion_tokens"}  # lm-eval's other names, which a task's own beats


def ask(tasks: Sequence[Any], settings: EvalSettings, own: Collection[str]) -> list[str]:
    """Prepare built tasks of lm-eval for their settings; returns what they lack for them.

    own: names of the settings that are this benchmark's alone: few-shot examples count even where a YAML says none.
    """
    faults = []
    for task in tasks:
        if settings.num_fewshot is not None and ("num_fewshot" in own or task.get_config("num_fewshot") != 0):
            task.set_config("num_fewshot", settings.num_fewshot)
            if settings.num_fewshot > 0 and not _has_examples(task):
                faults.append(
                    f"num_fewshot={settings.num_fewshot}: task {task.task_name} has no examples: no training or "
                    "validation problems are to be had, and none of its own"
                )
        places = (settings.samples or {}).get(task.task_name, ())
        if places and places[-1] >= (count := len(task.eval_docs)):
            faults.append(
                f"samples: task {task.task_name} has {count} documents, from 0 to {count - 1}: {places[-1]} is none"
            )
    return faults


def _has_examples(task: Any) -> bool:
    """Return whether few-shot examples have a source other than the questions themselves."""
    config = getattr(task, "fewshot_cfg", None)
    if config is not None and (config.split is not None or config.samples is not None):
        return len(task.sampler.df) > 0
    return bool(task.has_training_docs() or (task.has_validation_docs() and task.has_test_docs()))

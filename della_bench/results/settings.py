"""How a task was asked: few-shot examples, generation arguments, system prompt, chat template, seeds, prompts, limit.

A number depends on all of them. Numbers of one task that were had in different ways stand in columns of their own,
whose names say how they differ: `gsm8k (0-shot)`, `gsm8k (5-shot)`. The documents of one column are compared one by one
elsewhere.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from della_bench.jsonfiles import read_rows

__all__ = [
    "UNKNOWN",
    "Settings",
    "column_names",
    "plain_name",
    "prompts_digest",
    "settings_of",
    "settings_of_all",
    "settings_text",
    "subtable",
]

_SHOTS, _SYSTEM, _TURNS, _TEMPLATE = "n-shot", "system prompt", "few-shot turns", "chat template"
_SEED, _SAMPLES, _LIMIT = "seed", "samples", "limit"
# What a column's name says where one way of asking has a setting and this one does not.
_ABSENT = {
    _SHOTS: "n-shot not recorded",
    _SYSTEM: "no system prompt",
    _TURNS: "few-shot in one turn",
    _TEMPLATE: "no chat template",
    _SEED: "lm-eval's seeds",
    _SAMPLES: "no samples chosen",
    _LIMIT: "all documents",
}


@dataclass(frozen=True)
class Settings:
    """How one task was asked.

    `asked` has a word for each setting, by its name: what is compared lies in one column where these are equal.
    `template` is lm-eval's digest of the chat template, None where none was applied: models have templates of their
    own. `prompts` is lm-eval's digest of the task's documents, prompts and targets, None where it logged none.
    """

    asked: tuple[tuple[str, str], ...] = ()
    template: str | None = None
    prompts: str | None = None


UNKNOWN = Settings()


def settings_of(value: Mapping[str, object], task: str, leaves: Sequence[str] = ()) -> Settings:
    """Return how lm-eval's results `value` say that `task` was asked; `leaves` are the tasks of a group."""
    return settings_of_all(value, {task: leaves})[task]


def settings_of_all(value: Mapping[str, object], tasks: Mapping[str, Sequence[str]]) -> dict[str, Settings]:
    """Return how lm-eval's results `value` say that each of `tasks`, given with those of a group, was asked."""
    system, template = value.get("system_instruction_sha"), value.get("chat_template_sha")
    before = {_SYSTEM: f"system prompt {str(system)[:8]}"} if system else {}
    if template:
        before[_TEMPLATE] = "chat template"
    turns = {_TURNS: "few-shot as turns"} if template and value.get("fewshot_as_multiturn") else {}
    after = _seed(value) | _by_run(value)
    configs, prompts = subtable(value, "configs"), subtable(value, "task_hashes")
    found = {}
    for task, leaves in tasks.items():
        asked: dict[str, str] = {}
        shots = [number for name in leaves or [task] if (number := _shots(value, name)) is not None]
        if shots:
            asked[_SHOTS] = "/".join(map(str, sorted(set(shots)))) + "-shot"
        kinds = [_generation(subtable(configs, name)) for name in leaves or [task]]
        if all(each == kinds[0] for each in kinds):
            asked |= kinds[0]
        asked |= before | (turns if any(shots) else {}) | after | _limit(value, leaves or [task])
        digest = prompts.get(task)
        found[task] = Settings(
            asked=tuple(asked.items()),
            template=str(template) if template else None,
            prompts=digest if isinstance(digest, str) else None,
        )
    return found


def settings_text(settings: Settings) -> str:
    """Return how a task was asked, in a line; empty where nothing is known."""
    return ", ".join(text for _, text in settings.asked)


def column_names(benchmark: str, ways: Iterable[tuple[str, Settings]]) -> dict[Settings, str]:
    """Return the column of each way in which a benchmark was asked; a single way has the benchmark's name.

    ways: (fingerprint of the model, its settings), as often as the benchmark was evaluated. A chat template counts as
    another way only where one model was asked with two.
    """
    templates: dict[str, set[str]] = {}
    plain: dict[Settings, Settings] = {}
    for fingerprint, settings in ways:
        if settings.template is not None:
            templates.setdefault(fingerprint, set()).add(settings.template)
        plain[settings] = replace(settings, prompts=None)
    by_template = any(len(found) > 1 for found in templates.values())
    asked = {
        settings: dict(each.asked)
        | ({_TEMPLATE: f"chat template {each.template[:8]}"} if by_template and each.template else {})
        for settings, each in plain.items()
    }
    names = list(dict.fromkeys(name for each in asked.values() for name in each))
    differing = [name for name in names if len({each.get(name) for each in asked.values()}) > 1]
    if not differing:
        return dict.fromkeys(asked, benchmark)
    return {
        settings: f"{benchmark} ({', '.join(each.get(name) or _absent(name) for name in differing)})"
        for settings, each in asked.items()
    }


def plain_name(column: str) -> str:
    """Return the benchmark of a column, whose name may say how it was asked."""
    return column.partition(" (")[0]


def prompts_digest(samples: Path) -> str | None:
    """Return a digest of the prompts by document that lm-eval logged, or None where it did not log their hashes.

    Raises DataError where the file cannot be read.
    """
    found = {row.get("doc_id"): row.get("prompt_hash") for _, row in read_rows(samples)}
    if not found or not all(isinstance(each, str) for each in found.values()):
        return None
    return hashlib.sha256(json.dumps(sorted(found.items(), key=str)).encode()).hexdigest()


def _absent(name: str) -> str:
    return _ABSENT.get(name, f"{name} by default")


def _shots(value: Mapping[str, object], task: str) -> int | None:
    """Return the number of few-shot examples; releases that have no table of them have it in the task's settings."""
    for found in (subtable(value, "n-shot").get(task), subtable(subtable(value, "configs"), task).get("num_fewshot")):
        if isinstance(found, int):
            return found
    return None


def _generation(config: Mapping[str, object]) -> dict[str, str]:
    """Return the generation arguments, a word each; what has no effect on greedy answers is left out."""
    arguments = {key: each for key, each in subtable(config, "generation_kwargs").items() if each is not None}
    until = arguments.get("until")
    if isinstance(until, (list, tuple)):
        arguments["until"] = sorted(map(str, until))
    greedy = not arguments.get("temperature") if "temperature" in arguments else not arguments.get("do_sample")
    if greedy:
        arguments = {key: each for key, each in arguments.items() if key not in _SAMPLING}
    repeats = config.get("repeats")
    if isinstance(repeats, int) and repeats != 1:
        arguments["repeats"] = repeats
    return {key: f"{key}={_short(arguments[key])}" for key in sorted(arguments)}


def _seed(value: Mapping[str, object]) -> dict[str, str]:
    """Return a word for the seeds where they are recorded and not lm-eval's own."""
    config = subtable(value, "config")
    seeds = [config.get(name, default) for name, default in _SEEDS.items()]
    if seeds == list(_SEEDS.values()):
        return {}
    return {_SEED: f"seed {','.join(map(str, seeds if len(set(seeds)) > 1 else seeds[:1]))}"}


def _limit(value: Mapping[str, object], tasks: Sequence[str]) -> dict[str, str]:
    """Return a word for lm-eval's limit where it left documents out, of any of the tasks."""
    limit = subtable(value, "config").get("limit")
    if limit is None:
        return {}
    counts = [subtable(subtable(value, "n-samples"), name) for name in tasks]
    asked, there = ([each.get(key) for each in counts] for key in ("effective", "original"))
    if not all(isinstance(each, int) for each in (*asked, *there)):  # older releases do not count
        return {_LIMIT: f"limit={limit}"}
    if asked == there:
        return {}
    return {_LIMIT: f"{sum(map(int, map(str, asked)))} of {sum(map(int, map(str, there)))} documents"}


def _by_run(value: Mapping[str, object]) -> dict[str, str]:
    """Return what `della-bench run` alone records: which documents, what tasks were told, how a model may think."""
    run = subtable(subtable(subtable(value, "config"), "della_bench"), "run")
    asked, arguments = subtable(run, "asked"), subtable(run, "arguments")
    found = {name: asked[name] for name in (_SAMPLES, "metadata") if name in asked}
    found |= {name: arguments[name] for name in _ENGINES if arguments.get(name) is not None}
    return {name: f"{name}={_short(each)}" for name, each in found.items()}


_SEEDS = {"random_seed": 0, "numpy_seed": 1234, "torch_seed": 1234, "fewshot_seed": 1234}
# Arguments of an engine that answers depend on, on whatever engine and machine.
_ENGINES = (
    "enable_thinking", "think_end_token", "chat_template_args", "max_length", "truncation",
    "add_bos_token", "prefix_token_id", "quantization", "load_in_4bit", "load_in_8bit", "kv_cache_dtype",
)  # fmt: skip
_SAMPLING = ("do_sample", "temperature", "top_p", "top_k", "min_p")


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 24 else f"#{hashlib.sha256(text.encode('utf-8', 'replace')).hexdigest()[:8]}"


def subtable(value: Mapping[str, object], key: str) -> Mapping[str, Any]:
    """Return the table that a results file has under a key; an empty one where it has none, or something else."""
    found = value.get(key)
    return found if isinstance(found, dict) else {}

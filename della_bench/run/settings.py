"""lm-eval's settings of an evaluation: their names, values and defaults, checked before any weight is read.

Everything here can change a number, and so is part of what makes an evaluation the one that was asked for. What only
changes how fast answers come (batch size, device) is an argument of the model type.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from della_bench.suggest import nearest

__all__ = ["DEFAULT_SEED", "SETTINGS", "EvalSettings", "checked_settings"]

Seeds = tuple[int | None, int | None, int | None, int | None]

# lm-eval's own defaults, given to it explicitly so that a later release's defaults change nothing here.
DEFAULT_SEED: Seeds = (0, 1234, 1234, 1234)
_SEED_NAMES = ("random_seed", "numpy_random_seed", "torch_random_seed", "fewshot_random_seed")
_LONGEST = 40  # characters of a value that a label shows


@dataclass(frozen=True)
class EvalSettings:
    """How one benchmark is asked; names, values and defaults are those of `lm_eval run`.

    num_fewshot: None leaves it to the task. gen_kwargs: put over the task's own generation arguments.
    apply_chat_template: True, or the name of one of the tokenizer's templates. fewshot_as_multiturn: None is True where
    a template is applied. limit: a number of documents, or a share of them below 1. samples: by task, which documents,
    by their place in the data. predict_only: answers are logged, and nothing is scored. seed: of random, numpy, torch
    and the few-shot examples. metadata: handed to the tasks.
    """

    num_fewshot: int | None = None
    gen_kwargs: Mapping[str, Any] = field(default_factory=dict)
    apply_chat_template: bool | str = False
    fewshot_as_multiturn: bool | None = None
    system_instruction: str | None = None
    limit: int | float | None = None
    samples: Mapping[str, tuple[int, ...]] | None = None
    predict_only: bool = False
    seed: Seeds = DEFAULT_SEED
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def changed(self, changes: Mapping[str, Any]) -> EvalSettings:
        """Return the settings with some of them replaced by values that `checked_settings` has returned.

        A limit takes the place of samples, and samples that of a limit.
        """
        changes = dict(changes)
        if changes.get("limit") is not None:
            changes.setdefault("samples", None)
        if changes.get("samples") is not None:
            changes.setdefault("limit", None)
        return replace(self, **changes)

    def of_tasks(self, benchmark: str, tasks: Sequence[str]) -> EvalSettings:
        """Return the settings with the samples of a benchmark's tasks alone, by the names that lm-eval has for them.

        A benchmark of a single task may be named instead of the task.
        """
        if self.samples is None:
            return self
        own = {task: self.samples[task] for task in tasks if task in self.samples}
        if len(tasks) == 1 and benchmark in self.samples:
            own = {tasks[0]: self.samples[benchmark]}
        return replace(self, samples=own or None)

    @property
    def multiturn(self) -> bool:
        """Whether few-shot examples are turns of a conversation."""
        if self.fewshot_as_multiturn is None:
            return bool(self.apply_chat_template)
        return self.fewshot_as_multiturn

    @property
    def partial(self) -> bool:
        """Whether not all documents are asked."""
        return self.limit is not None or self.samples is not None

    @property
    def seeds(self) -> dict[str, int | None]:
        """The four seeds as `lm_eval.simple_evaluate` names them."""
        return dict(zip(_SEED_NAMES, self.seed, strict=True))

    def count(self, documents: int) -> int:
        """Return how many of a single task's documents are asked."""
        if self.samples is not None:
            return sum(map(len, self.samples.values()))
        if self.limit is None:
            return documents
        return min(documents, self.limit if isinstance(self.limit, int) else math.ceil(documents * self.limit))

    def record(self) -> dict[str, Any]:
        """Return what differs from lm-eval's defaults, as JSON has it, without limit and seed.

        These two stand in places of their own in what an evaluation depends on.
        """
        values = {
            "num_fewshot": self.num_fewshot,
            "gen_kwargs": dict(self.gen_kwargs) or None,
            "apply_chat_template": self.apply_chat_template or None,
            "fewshot_as_multiturn": self.multiturn if self.multiturn != bool(self.apply_chat_template) else None,
            "system_instruction": self.system_instruction,
            "samples": self.samples,
            "predict_only": self.predict_only or None,
            "metadata": dict(self.metadata) or None,
        }
        return dict(json.loads(json.dumps({name: each for name, each in values.items() if each is not None})))

    @property
    def label(self) -> str:
        """What differs from lm-eval's defaults, in words for a step's name; empty where nothing does."""
        values = self.record()
        if self.limit is not None:
            values["limit"] = self.limit
        if self.seed != DEFAULT_SEED:
            values["seed"] = ",".join(map(str, self.seed))
        return ", ".join(f"{name}={_short(each)}" for name, each in values.items())


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST else f"#{hashlib.sha256(text.encode('utf-8', 'replace')).hexdigest()[:8]}"


def checked_settings(values: Mapping[str, object], place: str = "") -> tuple[dict[str, Any], list[str]]:
    """Return settings by name, each in the form that `EvalSettings` has, and a fault for each that cannot be.

    None stands for lm-eval's default. place: goes before every fault.
    """
    out: dict[str, Any] = {}
    faults = []
    for name, value in values.items():
        if name not in SETTINGS:
            faults.append(f"{place}{name}: lm-eval has no such setting{nearest(name, SETTINGS)}")
        elif value is None and name != "seed":
            out[name] = _DEFAULTS[name]
        else:
            try:
                out[name] = SETTINGS[name](value)
            except ValueError as error:
                faults.append(f"{place}{name}={value}: {error}")
    if out.get("limit") is not None and out.get("samples") is not None:
        faults.append(f"{place}samples and limit exclude each other")
    return out, faults


def _whole_number(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError("a whole number from 0 on")
    return value


def _limit(value: object) -> int | float:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if number and 0 < float(str(value)) < 1:
        return float(str(value))
    if number and float(str(value)) >= 1 and float(str(value)).is_integer():
        return int(float(str(value)))
    raise ValueError("a number of documents from 1 on, or a share of them between 0 and 1")


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def _template(value: object) -> bool | str:
    if not isinstance(value, (bool, str)) or value == "":
        raise ValueError("true, false, or the name of a template")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("a text")
    return value


def _table(value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise ValueError("names with values")
    return dict(value)


def _samples(value: object) -> Mapping[str, tuple[int, ...]]:
    if not isinstance(value, Mapping) or not value or not all(isinstance(key, str) for key in value):
        raise ValueError("places of documents, by task")
    return {task: _places(task, places) for task, places in value.items()}


def _places(task: str, value: object) -> tuple[int, ...]:
    """Return places of documents in order: lm-eval numbers the documents wrongly where they are in another."""
    if not isinstance(value, (list, tuple)) or not value:
        raise ValueError(f"{task}: a list of places of documents, counted from 0")
    for place in value:
        if isinstance(place, bool) or not isinstance(place, int) or place < 0:
            raise ValueError(f"{task}: {place!r} is no place of a document, counted from 0")
    if len(set(value)) < len(value):
        raise ValueError(f"{task}: a document stands there twice")
    return tuple(sorted(value))


def _seed(value: object) -> Seeds:
    """Return the four seeds, of which lm-eval takes one for all, or the first three."""
    given = list(value) if isinstance(value, (list, tuple)) else [value]
    if len(given) == 1:
        given = given * len(DEFAULT_SEED)
    if len(given) == len(DEFAULT_SEED) - 1:
        given.append(DEFAULT_SEED[-1])
    seeds = [each for each in given if each is None or (isinstance(each, int) and not isinstance(each, bool))]
    if len(given) != len(DEFAULT_SEED) or len(seeds) != len(given):
        raise ValueError("one whole number, or four (random, numpy, torch, few-shot examples), where None sets no seed")
    return (seeds[0], seeds[1], seeds[2], seeds[3])


# What lm-eval calls each setting, and what takes its value.
SETTINGS: Mapping[str, Callable[[object], Any]] = {
    "num_fewshot": _whole_number,
    "gen_kwargs": _table,
    "apply_chat_template": _template,
    "fewshot_as_multiturn": _flag,
    "system_instruction": _text,
    "limit": _limit,
    "samples": _samples,
    "predict_only": _flag,
    "seed": _seed,
    "metadata": _table,
}
_DEFAULTS = {each: getattr(EvalSettings(), each) for each in SETTINGS}

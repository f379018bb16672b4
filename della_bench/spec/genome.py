"""The genome of a mergekit-evolve file as the space of a search: a spec whose numbers may be ranges.

A range is `{low: ..., high: ...}`. What mergekit-evolve starts its strategy from is left out: it has no ends there, and
numbers beyond the range are possible but far from the start. Its groups of layers (`layer_granularity`) are the anchors
of a gradient here, as they are there with `smooth: true`; without it mergekit steps from group to group.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from della_bench.errors import SpecError
from della_bench.spec.mergekit import read_name
from della_bench.spec.mergekit_tokenizer import tokenizer_settings
from della_bench.suggest import nearest

__all__ = ["genome_space"]

log = logging.getLogger(__name__)

Range = dict[str, float]

# The methods of mergekit-evolve, each with the numbers that a model has and with what mergekit gives it beside them.
_METHODS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "linear": (("weights",), {}),
    "task_arithmetic": (("weights",), {}),
    "ties": (("weights", "density"), {}),
    "dare_ties": (("weights", "density"), {"rescale": "l1"}),
    "slerp": (("weights",), {}),
}
_NORMALIZED = ("linear", "ties", "dare_ties")
_KEYS = (
    "models", "merge_method", "base_model", "tokenizer_source", "layer_granularity", "normalize",
    "allow_negative_weights", "filters", "smooth",
)  # fmt: skip
_DENSITY: Range = {"low": 0.01, "high": 1.0}  # of 0, which mergekit allows, nothing would be left


def genome_space(data: Mapping[str, object], layers: int | None = None, where: str = "") -> dict[str, Any]:
    """Return the keys of a space file for what a mergekit-evolve file holds, its tasks under `search`.

    layers: how many the models have; needed where the genome has groups of layers. where: what errors begin with.
    Raises SpecError with every fault found.
    """
    genome = data.get("genome")
    faults: list[str] = []
    if not isinstance(genome, Mapping):
        raise SpecError(f"{where}genome={genome!r}: not a mapping")
    faults += [f"genome.{key}: not a key of a genome{nearest(str(key), _KEYS)}" for key in genome if key not in _KEYS]
    method = str(genome.get("merge_method"))
    if method not in _METHODS:
        faults.append(f"genome.merge_method={method!r}: not one that mergekit-evolve knows{nearest(method, _METHODS)}")
    base, experts = _sources(genome, method, faults)
    groups = _groups(genome, layers, faults)
    filters = genome.get("filters") or []
    if not isinstance(filters, list) or not all(isinstance(each, str) and each for each in filters):
        faults.append(f"genome.filters={filters!r}: not a list of parts of tensors' names")
        filters = []
    if method == "slerp" and (filters or genome.get("smooth")):
        faults.append("genome: slerp takes neither filters nor smooth in mergekit-evolve")
    settings = {"tokenizer_source": genome.get("tokenizer_source")}
    tokenizer = tokenizer_settings(settings, [base, *experts], read_name, [], faults)
    search = _search(data, faults)
    if faults:
        raise SpecError([f"{where}{fault}" for fault in faults])
    if groups > 1 and not genome.get("smooth"):
        log.warning("%sthe numbers run in straight lines between groups of layers, which have steps in mergekit", where)
    space: dict[str, Any] = {"base": base, "experts": experts, "merge_method": method}
    numbers, given = _METHODS[method]
    ranges = {"weights": {"low": -1.0 if genome.get("allow_negative_weights") else 0.0, "high": 1.0}}
    if method == "slerp":
        ranges["weights"] = {"low": 0.0, "high": 1.0}
    ranges["density"] = _DENSITY
    for key in numbers:
        space[key] = [_template(ranges[key], groups, filters) for _ in experts]
    if method != "slerp":
        normalize = genome.get("normalize")
        space["normalize"] = method in _NORMALIZED if normalize is None else bool(normalize)
    return {**space, **given, **tokenizer, "dtype": "bfloat16", **search}


def _sources(genome: Mapping[str, Any], method: str, faults: list[str]) -> tuple[str, list[str]]:
    """Return the base and the experts."""
    models, base = genome.get("models"), genome.get("base_model")
    if not isinstance(models, list) or not models:
        faults.append(f"genome.models={models!r}: not a list of models")
        return "missing", []
    experts: list[Any] = models[1:]
    if base is None and method in ("task_arithmetic", "ties", "dare_ties"):
        faults.append(f"genome.base_model: missing, and {method} needs it")
    if method == "linear":
        if base is not None and base not in models:
            faults.append(f"genome.base_model={base}: a model of no weight; list it among the models")
        base, experts = models[0] if base is None else base, models
    elif method == "slerp":
        if len(models) != 2:
            faults.append(f"genome.models: slerp between two models is a space here, not the best two of {len(models)}")
        if base is not None and base not in models:
            faults.append(f"genome.base_model={base}: mergekit's slerp takes two models, and the base is one of them")
        base = models[0]
    else:
        experts = [model for model in models if model != base]
        if not experts:
            faults.append("genome.models: the base alone")
    read = [read_name(model, "genome.models", faults) for model in experts]
    return read_name(base or "missing", "genome.base_model", faults), read


def _groups(genome: Mapping[str, Any], layers: int | None, faults: list[str]) -> int:
    """Return how many groups of layers have numbers of their own."""
    size = genome.get("layer_granularity") or 0
    if not isinstance(size, int) or isinstance(size, bool):
        faults.append(f"genome.layer_granularity={size!r}: not a number of layers")
        return 1
    if size < 1:
        return 1
    if layers is None:
        faults.append("genome.layer_granularity: how many layers the models have is not known")
        return 1
    if layers % size:
        faults.append(f"genome.layer_granularity={size}: the models have {layers} layers, which is no multiple of it")
    return max(1, layers // size)


def _template(each: Range, groups: int, filters: list[str]) -> Any:
    """Return the ranges of one number of a model: for each group of layers, and for each filter and the rest."""
    value: Any = dict(each) if groups == 1 else {"gradient": [dict(each) for _ in range(groups)]}
    if not filters:
        return value
    return [*({"filter": pattern, "value": value} for pattern in filters), {"value": value}]


def _search(data: Mapping[str, Any], faults: list[str]) -> dict[str, Any]:
    """Return what is searched for: the tasks with their weights, by mergekit-evolve's strategy."""
    tasks = data.get("tasks") or []
    weights: dict[str, float] = {}
    for task in tasks if isinstance(tasks, list) else [tasks]:
        named = {"name": task} if isinstance(task, str) else task
        if not isinstance(named, Mapping) or not isinstance(named.get("name"), str):
            faults.append(f"tasks: {task!r} is no task's name, and no mapping with one")
            continue
        weight = named.get("weight", 1.0)
        if isinstance(weight, bool) or not isinstance(weight, (int, float)):
            faults.append(f"tasks: {named['name']} has a weight of {weight!r}, which is no number")
            continue
        weights[named["name"]] = weights.get(named["name"], 0.0) + float(weight)
    return {"search": {"benchmarks": list(weights), "maximize": weights, "sampler": "cmaes"}} if weights else {}

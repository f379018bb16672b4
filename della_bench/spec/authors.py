"""Reading the YAML that the DELLA authors' merge.py writes: mergekit's form, with `window_size` and their methods.

Their fork of mergekit knows 28 methods, whose names mean here what they mean there. Unlike in mergekit, `rescale` is
their flag (kept deltas are divided by their keep probability, or not), and a density is a number for all models.
Of mergekit's own methods their script writes `linear` without a weight of the base and `slerp` without t, which
mergekit wants: here the base is no part of `linear`, and the weight of the one expert is t.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from della_bench.errors import SpecError
from della_bench.spec.source import encode
from della_bench.suggest import nearest

__all__ = ["is_authors", "translate_authors"]

_KEYS = ("models", "merge_method", "base_model", "dtype", "parameters")
_NUMBERS = ("density", "lambda", "window_size", "rescale")


def is_authors(data: Mapping[str, object]) -> bool:
    """Whether a YAML mapping is what the authors' merge.py writes: mergekit itself has no window size."""
    parameters = data.get("parameters")
    return isinstance(parameters, Mapping) and "window_size" in parameters


def translate_authors(data: Mapping[str, object], where: str) -> dict[str, Any]:
    """Return our keys for a configuration of the authors' merge.py; errors begin with `where`.

    A single model is pruned: its delta is dropped from and rescaled, and nothing is merged with it. Raises SpecError
    with every fault found.
    """
    faults = [f"{key}: not a key of the authors' config{nearest(key, _KEYS)}" for key in data if key not in _KEYS]
    shared = data["parameters"]
    assert isinstance(shared, Mapping)  # is_authors has seen it
    faults += [
        f"parameters.{key}: not a parameter of the authors' config{nearest(str(key), _NUMBERS)}"
        for key in shared
        if key not in _NUMBERS
    ]
    experts, weights = _models(data, faults)
    base = data.get("base_model")
    if not isinstance(base, str):
        faults.append("base_model: missing, or not the name of a model")
        base = "missing"
    if faults:
        raise SpecError([f"{where}{fault}" for fault in faults])
    numbers = {key: shared[key] for key in _NUMBERS if key in shared}
    out = {"merge_method": data.get("merge_method"), "base": _source(base), "experts": experts, "weights": weights}
    return {**out, **numbers, **({"dtype": data["dtype"]} if data.get("dtype") else {})}


def _models(data: Mapping[str, object], faults: list[str]) -> tuple[list[str], list[Any]]:
    listed = data.get("models")
    if not isinstance(listed, list) or not listed:
        faults.append(f"models={listed!r}: not a list of models")
        return [], []
    experts, weights = [], []
    for index, item in enumerate(listed):
        source = item.get("model") if isinstance(item, Mapping) else None
        parameters = (item.get("parameters") if isinstance(item, Mapping) else None) or {}
        if not isinstance(source, str) or not isinstance(parameters, Mapping) or parameters.keys() - {"weight"}:
            faults.append(f"models[{index}]: expected a model's name and its weight")
            continue
        experts.append(_source(source))
        weights.append(parameters.get("weight", 1.0))
    return experts, weights


def _source(name: str) -> str:
    return name if name.startswith("zoo:") else encode(name)

"""Reading a mergekit YAML as what mergekit itself computes from it (checked against mergekit 0.1.5).

mergekit's defaults differ from ours: della's epsilon is 0.15, dare and della rescale to the L1 norm, a density left out
is 1, and every weight must be given. Per-layer gradients, filters, slices, modules and tokenizer settings have no
counterpart yet and are refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from della_bench.errors import SpecError
from della_bench.spec.keys import read_bool
from della_bench.spec.source import encode
from della_bench.suggest import nearest

__all__ = ["is_mergekit", "translate"]

_REFUSED = ("slices", "modules", "tokenizer_source", "tokenizer", "chat_template")
_KEYS = ("merge_method", "base_model", "models", "parameters", "dtype", "out_dtype", *_REFUSED)
_PER_MODEL = ("weight", "density", "epsilon")
_GLOBAL = ("normalize", "rescale", "lambda", "int8_mask", "t")


@dataclass(frozen=True)
class _Method:
    """What a mergekit method is here, with the defaults that mergekit gives it."""

    name: str
    normalize: bool | None = False
    rescale: bool | None = None
    epsilon: bool = False


_METHODS = {
    "linear": _Method("linear", normalize=True),
    "slerp": _Method("slerp", normalize=None),
    "passthrough": _Method("passthrough", normalize=None),
    "task_arithmetic": _Method("task_arithmetic"),
    "ties": _Method("ties", normalize=True, rescale=False),
    "dare_linear": _Method("dare_linear", rescale=True),
    "dare_ties": _Method("dare_ties", rescale=True),
    "della": _Method("della", normalize=True, rescale=True, epsilon=True),
    "della_linear": _Method("della_noelect", rescale=True, epsilon=True),
}


def is_mergekit(data: Mapping[str, object]) -> bool:
    """Whether a YAML mapping is written in mergekit's form: models as mappings, parameters, or slices."""
    models = data.get("models")
    listed = isinstance(models, list) and any(isinstance(m, Mapping) and "source" not in m for m in models)
    return listed or any(key in data for key in ("parameters", "slices", "modules", "tokenizer_source", "out_dtype"))


def translate(data: Mapping[str, object], where: str) -> dict[str, Any]:
    """Return our keys for a mergekit configuration; `where` names the file in errors.

    Raises SpecError with every fault found.
    """
    faults: list[str] = []
    for key in data:
        if key in _REFUSED and data[key] is not None:
            faults.append(f"{key}: this part of mergekit's format is not supported")
        elif key not in _KEYS:
            faults.append(f"{key}: not a key of a mergekit config{nearest(key, _KEYS)}")
    name = data.get("merge_method")
    method = _METHODS.get(str(name))
    if method is None:
        faults.append(f"merge_method={name!r}: not supported{nearest(str(name), _METHODS)}")
        method = _METHODS["passthrough"]  # asks the least of what follows
    shared = data.get("parameters") or {}
    if not isinstance(shared, Mapping):
        faults.append(f"parameters={shared!r}: not a mapping")
        shared = {}
    faults += _parameter_faults(shared, "parameters", (*_PER_MODEL, *_GLOBAL))
    base, models = _models(data, method, faults)
    out: dict[str, Any] = {"merge_method": method.name, "base": base, "experts": [source for source, _ in models]}
    if dtype := data.get("out_dtype") or data.get("dtype"):
        out["dtype"] = dtype
    _numbers(out, method, models, shared, faults)
    if faults:
        raise SpecError([f"{where}: {fault}" for fault in faults])
    return out


def _models(
    data: Mapping[str, object], method: _Method, faults: list[str]
) -> tuple[str, list[tuple[str, dict[str, Any]]]]:
    """Return the base and the other models with their parameters.

    A base listed among the models is no expert of a delta. For linear it is one, listed or not.
    """
    base = data.get("base_model")
    found: list[tuple[str, dict[str, Any]]] = []
    listed = data.get("models") or []
    if not isinstance(listed, list):
        faults.append(f"models={listed!r}: not a list of models")
        listed = []
    for index, item in enumerate(listed):
        source = item.get("model") if isinstance(item, Mapping) else item
        if not isinstance(source, str):
            faults.append(f"models[{index}]: not a mapping with a model's name")
            continue
        if isinstance(item, Mapping):
            faults += [f"models[{index}].{k}: not a key of a model" for k in item if k not in ("model", "parameters")]
        parameters = (item.get("parameters") if isinstance(item, Mapping) else None) or {}
        faults += _parameter_faults(parameters, f"models[{index}].parameters", _PER_MODEL)
        if not isinstance(parameters, Mapping):
            parameters = {}
        if source != base or method.name in ("linear", "passthrough"):
            found.append((source, dict(parameters)))
    if base is None and method.name in ("linear", "passthrough") and found:
        base = found[0][0]  # mergekit takes config and tokenizer from the first model then
    elif method.name == "linear" and isinstance(base, str) and all(source != base for source, _ in found):
        found.append((base, {}))  # mergekit adds it, with the weight that all models share
    if base is None:
        faults.append(f"base_model: missing, and {method.name} needs it")
        base = "missing"
    return _source(base, "base_model", faults), [(_source(s, "models", faults), p) for s, p in found]


def _source(text: Any, where: str, faults: list[str]) -> str:
    if not isinstance(text, str):
        faults.append(f"{where}={text!r}: not the name of a model")
        return "missing"
    if "+" in text:
        faults.append(f"{where}={text!r}: a LoRA adapter after a plus sign is not supported")
    if text.startswith("zoo:"):
        return text  # mergekit has no zoo; a config to try things with may name it all the same
    place, at, revision = text.partition("@")
    return encode(place) + (f"@{encode(revision)}" if at else "")


def _parameter_faults(parameters: Any, where: str, known: tuple[str, ...]) -> list[str]:
    if not isinstance(parameters, Mapping):
        return [f"{where}={parameters!r}: not a mapping"]
    faults = []
    for key, value in parameters.items():
        if key in _GLOBAL and key not in known:
            faults.append(f"{where}.{key}: of no effect here; mergekit reads it from the top-level parameters only")
        elif key not in known:
            faults.append(f"{where}.{key}: not a parameter of the supported methods{nearest(str(key), known)}")
        elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
            faults.append(f"{where}.{key}: filters are not supported")
        elif isinstance(value, (list, Mapping)):
            faults.append(f"{where}.{key}: gradients over layers and filters are not supported, only a single value")
    return faults


def _numbers(
    out: dict[str, Any],
    method: _Method,
    models: list[tuple[str, dict[str, Any]]],
    shared: Mapping[str, object],
    faults: list[str],
) -> None:
    def each(key: str, default: Any) -> list[Any]:
        return [parameters.get(key, shared.get(key, default)) for _, parameters in models]

    if method.name == "slerp":
        if "t" not in shared:
            faults.append("parameters.t: missing, and slerp needs it")
        out["weights"] = shared.get("t")
    elif method.name != "passthrough":
        out["weights"] = each("weight", None)
        pairs = zip(models, out["weights"], strict=True)
        faults += [f"models: {source} has no weight, and mergekit needs one" for (source, _), w in pairs if w is None]
    if method.normalize is not None:
        out["normalize"] = shared.get("normalize", method.normalize)
    if method.name not in ("linear", "slerp", "passthrough"):
        out["lambda"] = shared.get("lambda", 1.0)
    if method.rescale is not None:
        out["density"] = each("density", 1.0)
        try:
            out["rescale"] = "l1" if read_bool(shared.get("rescale", method.rescale)) else "none"
        except ValueError as error:
            faults.append(f"parameters.rescale={shared['rescale']!r}: {error}")
    if method.epsilon:
        epsilons = each("epsilon", 0.15)
        if len(set(map(str, epsilons))) > 1:
            faults.append("epsilon: one value for all models is supported, not one each")
        out["epsilon"] = epsilons[0] if epsilons else 0.15

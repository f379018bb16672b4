"""Reading a mergekit YAML as what mergekit itself computes from it (checked against mergekit 0.1.5).

mergekit's defaults differ from ours: della's epsilon is 0.15, dare and della rescale to the L1 norm, a density left out
is 1, and every weight must be given. A number may be a gradient or a list of filters at each place where mergekit looks
for it: at the model first, then among the shared parameters, then its default. What mergekit does not read it ignores,
and so does this, with a warning. Slices that are more than the whole model, modules and the tokenizer's settings have
no counterpart yet and are refused by name.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from della_bench.errors import SpecError
from della_bench.spec.keys import read_bool
from della_bench.spec.registry import find_method
from della_bench.spec.source import encode
from della_bench.spec.varying import Rule, Value, Varying, read_value, simplified
from della_bench.suggest import nearest

__all__ = ["is_mergekit", "translate"]

log = logging.getLogger(__name__)

_REFUSED = ("slices", "modules", "tokenizer_source", "tokenizer", "chat_template")
_KEYS = ("merge_method", "base_model", "models", "parameters", "dtype", "out_dtype", *_REFUSED)
_PER_MODEL = ("weight", "density", "epsilon")
_SHARED = ("normalize", "rescale", "lambda", "int8_mask", "t")


@dataclass(frozen=True)
class _Method:
    """What a mergekit method is here, with the defaults that mergekit gives it.

    None: the method does not have the parameter. options: those that only it has, with our names for them; where they
    are left out, our defaults are mergekit's.
    """

    name: str
    normalize: bool | None = False
    rescale: bool | None = None
    epsilon: bool = False
    weight: bool = True
    lambda_: bool = False
    base: Literal["needed", "an expert", "optional"] = "needed"
    options: Mapping[str, str] = field(default_factory=dict)
    per_model: tuple[str, ...] = ()  # those of the options that each model may have


def _same(*names: str) -> dict[str, str]:
    return {name: name for name in names}


_METHODS = {
    "linear": _Method("linear", normalize=True, base="an expert"),
    "slerp": _Method("slerp", normalize=None, weight=False),
    "passthrough": _Method("passthrough", normalize=None, weight=False, base="an expert"),
    "task_arithmetic": _Method("task_arithmetic", lambda_=True),
    "ties": _Method("ties", normalize=True, rescale=False, lambda_=True),
    "dare_linear": _Method("dare_linear", rescale=True, lambda_=True),
    "dare_ties": _Method("dare_ties", rescale=True, lambda_=True),
    "della": _Method("della", normalize=True, rescale=True, epsilon=True, lambda_=True),
    "della_linear": _Method("della_noelect", rescale=True, epsilon=True, lambda_=True),
    "breadcrumbs": _Method("breadcrumbs", rescale=False, lambda_=True, options=_same("gamma"), per_model=("gamma",)),
    "breadcrumbs_ties": _Method(
        "breadcrumbs_ties", rescale=False, lambda_=True, options=_same("gamma"), per_model=("gamma",)
    ),
    "model_stock": _Method("model_stock", normalize=None, weight=False, options=_same("filter_wise")),
    "sce": _Method("sce", normalize=None, weight=False, options=_same("select_topk")),
    "nuslerp": _Method(
        "nuslerp", normalize=None, base="optional", options=_same("nuslerp_flatten", "nuslerp_row_wise")
    ),
    "multislerp": _Method(
        "multislerp", normalize=None, base="optional", options={"eps": "eps", "normalize_weights": "normalize"}
    ),
    "karcher": _Method("karcher", normalize=None, weight=False, base="an expert", options=_same("max_iter", "tol")),
    "nearswap": _Method("nearswap", normalize=None, weight=False, options=_same("t")),
    "arcee_fusion": _Method("arcee_fusion", normalize=None, weight=False),
    "ram": _Method("ram", normalize=None, weight=False, options={"epsilon": "threshold"}),
    "ramplus_tl": _Method(
        "ramplus_tl", normalize=None, weight=False, options={"r": "r", "alpha": "alpha", "epsilon": "threshold"}
    ),
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
    ignored = [_told(key, _KEYS) for key in data if key not in _KEYS]
    for key in data:
        if key in _REFUSED and data[key] is not None:
            faults.append(f"{key}: this part of mergekit's format is not supported")
    name = data.get("merge_method")
    method = _METHODS.get(str(name))
    if method is None:
        faults.append(f"merge_method={name!r}: not supported{nearest(str(name), _METHODS)}")
        method = _METHODS["passthrough"]  # asks the least of what follows
    shared = data.get("parameters") or {}
    if not isinstance(shared, Mapping):
        faults.append(f"parameters={shared!r}: not a mapping")
        shared = {}
    known = (*_PER_MODEL, *_SHARED, *method.options)
    ignored += [f"parameters.{_told(key, known)}" for key in shared if key not in known]
    base, models = _models(data, method, ignored, faults)
    out: dict[str, Any] = {"merge_method": method.name, "base": base, "experts": [source for source, _ in models]}
    if dtype := data.get("out_dtype") or data.get("dtype"):
        out["dtype"] = dtype
    _numbers(out, method, models, shared, faults)
    if method.base == "optional":
        out["deltas"] = data.get("base_model") is not None
    if faults:
        raise SpecError([f"{where}: {fault}" for fault in faults])
    if ignored:
        log.warning("%s: mergekit does not read these, nor does this: %s", where, ", ".join(ignored))
    return out


def _told(key: object, known: Sequence[str]) -> str:
    """Return a key that is ignored, with what it may have been meant for."""
    hint = nearest(str(key), known).removeprefix("; ")
    return f"{key} ({hint})" if hint.startswith("did") else str(key)


def _models(
    data: Mapping[str, object], method: _Method, ignored: list[str], faults: list[str]
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
            ignored += [f"models[{index}].{k}" for k in item if k not in ("model", "parameters")]
        parameters = (item.get("parameters") if isinstance(item, Mapping) else None) or {}
        if not isinstance(parameters, Mapping):
            faults.append(f"models[{index}].parameters={parameters!r}: not a mapping")
            parameters = {}
        known = (*_PER_MODEL, *method.per_model)
        ignored += [f"models[{index}].parameters.{_told(k, known)}" for k in parameters if k not in known]
        if source != base or method.base == "an expert":
            found.append((source, dict(parameters)))
    if base is None and method.base != "needed" and found:
        base = found[0][0]  # mergekit takes config and tokenizer from the first model then
    elif method.name in ("linear", "karcher") and isinstance(base, str) and all(source != base for source, _ in found):
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


def _numbers(
    out: dict[str, Any],
    method: _Method,
    models: list[tuple[str, dict[str, Any]]],
    shared: Mapping[str, object],
    faults: list[str],
) -> None:
    """Put the numbers into our keys."""
    read = _Reader(shared, faults)
    if method.name == "slerp":
        if "t" not in shared:
            faults.append("parameters.t: missing, and slerp needs it")
        out["weights"] = [read.value("t", None)]
    elif method.weight:
        out["weights"] = [read.of_model("weight", model, None) for model in models]
        pairs = zip(models, out["weights"], strict=True)
        faults += [f"models: {source} has no weight, and mergekit needs one" for (source, _), w in pairs if w is None]
    if method.normalize is not None:
        out["normalize"] = read.flag("normalize", method.normalize)
    if method.lambda_:
        out["lambda"] = read.value("lambda", 1.0)
    if method.rescale is not None:
        out["density"] = [read.of_model("density", model, 1.0) for model in models]
        out["rescale"] = "l1" if read.flag("rescale", method.rescale) else "none"
    if method.epsilon:
        out["epsilon"] = [read.of_model("epsilon", model, 0.15) for model in models]
    for theirs, ours in method.options.items():
        option = find_method(method.name).option(ours)
        if theirs in method.per_model:
            default = None if option is None else option.default
            out[ours] = [read.of_model(theirs, model, default) for model in models]
        elif theirs in shared and option is not None and option.kind is float:
            out[ours] = read.value(theirs, option.default)
        elif theirs in shared:
            out[ours] = shared[theirs]


@dataclass(frozen=True)
class _Reader:
    """Reads parameters where mergekit looks for them, and notes what cannot be read."""

    shared: Mapping[str, object]
    faults: list[str]

    def flag(self, key: str, default: bool) -> bool:
        """Return a flag of all models, which is the same for all tensors here."""
        try:
            return read_bool(self.shared.get(key, default))
        except ValueError as error:
            self.faults.append(f"parameters.{key}={self.shared[key]!r}: {error}")
            return default

    def value(self, key: str, default: float | None) -> Value | None:
        """Return a value of all models."""
        return self._first(key, [("parameters", self.shared)], default)

    def of_model(self, key: str, model: tuple[str, dict[str, Any]], default: float | None) -> Value | None:
        """Return a value of one model: its own, the shared one for what that has no rule for, then the default."""
        source, own = model
        return self._first(key, [(f"models: {source}", own), ("parameters", self.shared)], default)

    def _first(
        self, key: str, places: Sequence[tuple[str, Mapping[str, object]]], default: float | None
    ) -> Value | None:
        rules: list[Rule] = []
        for where, parameters in places:
            try:
                rules += _rules(parameters[key]) if parameters.get(key) is not None else []
            except ValueError as error:
                self.faults.append(f"{where}.{key}={parameters[key]!r}: {error}")
                return 1.0  # given, but of no use to the checks that follow
        if default is not None:
            rules.append(Rule(None, (default,)))
        return simplified(tuple(rules)) if rules else None


def _rules(setting: Any) -> list[Rule]:
    """Return the rules that mergekit reads in a setting, where a list of numbers is a gradient."""
    if isinstance(setting, list) and not any(isinstance(item, Mapping) for item in setting):
        setting = {"gradient": setting}
    value = read_value(setting)
    return list(value.rules) if isinstance(value, Varying) else [Rule(None, (value,))]

"""Reading a mergekit YAML as what mergekit itself computes from it (checked against mergekit 0.1.5).

mergekit's defaults differ from ours: della's epsilon is 0.15, dare and della rescale to the L1 norm, a density left out
is 1, and every weight must be given. A number may be a gradient or a list of filters at each place where mergekit looks
for it: at the model first, then among the shared parameters, then its default. What mergekit does not read it ignores,
and so does this, with a warning.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from della_bench.errors import SpecError
from della_bench.spec.mergekit_numbers import put_numbers
from della_bench.spec.mergekit_slices import without_slices
from della_bench.spec.mergekit_table import COUNTERPARTS, Counterpart
from della_bench.spec.mergekit_tokenizer import TOKENIZER_KEYS, tokenizer_settings
from della_bench.spec.registry import find_method, method_names
from della_bench.spec.source import encode
from della_bench.spec.stages import Stage
from della_bench.suggest import nearest

__all__ = ["MERGEKITS_KEYS", "is_mergekit", "read_name", "translate"]

log = logging.getLogger(__name__)

ReadSource = Callable[[Any, str, list[str]], str]
"""Returns our text for the name of a model, given where it stands; what is wrong with it becomes a fault."""

_LISTS = ("models", "slices", "modules")
MERGEKITS_KEYS = ("merge_method", "base_model", *_LISTS, "parameters", "dtype", "out_dtype", *TOKENIZER_KEYS)
_PER_MODEL = ("weight", "density", "epsilon")
_SHARED = ("normalize", "rescale", "lambda", "int8_mask", "t")


def is_mergekit(data: Mapping[str, object]) -> bool:
    """Whether a YAML mapping is written in mergekit's form: models as mappings, parameters, or slices."""
    models = data.get("models")
    ours = {"source", "base", "base_model"}
    listed = isinstance(models, list) and any(isinstance(m, Mapping) and not ours & m.keys() for m in models)
    slices = data.get("slices")
    listed |= isinstance(slices, list) and any(isinstance(s, Mapping) and "sources" in s for s in slices)
    return listed or any(key in data for key in ("parameters", "modules", "tokenizer_source", "out_dtype"))


def translate(data: Mapping[str, object], where: str, stage: Stage = lambda _: None) -> dict[str, Any]:
    """Return our keys for a mergekit configuration.

    where: what errors begin with. stage: the merge that a model's name stands for, if it stands for one. Raises
    SpecError with every fault found.
    """
    faults: list[str] = []
    ignored = [_told(key, MERGEKITS_KEYS) for key in data if key not in MERGEKITS_KEYS]
    name = data.get("merge_method")
    method = COUNTERPARTS.get(str(name))
    if method is None:
        ours = "; it is no method of mergekit: name it in this package's own keys (base, experts, merge_method)"
        hint = ours if name in method_names() else nearest(str(name), COUNTERPARTS)
        faults.append(f"merge_method={name!r}: not supported{hint}")
        method = COUNTERPARTS["passthrough"]  # asks the least of what follows
    if name == "slerp":
        data = _with_slerps_base(data, where)
    unsliced = without_slices(data, method, where, ignored, faults)
    data, sliced = unsliced.data, bool(unsliced.slices)
    shared = data.get("parameters") or {}
    if not isinstance(shared, Mapping):
        faults.append(f"parameters={shared!r}: not a mapping")
        shared = {}
    known = (*_PER_MODEL, *_SHARED, *method.options)
    ignored += [f"parameters.{_told(key, known)}" for key in shared if key not in known]
    read_source = partial(read_name, stage=stage)
    base, models = _models(data, method, read_source, ignored, faults)
    if (wanted := find_method(method.name).experts) and len(models) != wanted and name in COUNTERPARTS and not sliced:
        faults.append(f"models: {name} takes exactly {wanted} beside the base, got {len(models)}")
    out: dict[str, Any] = {"merge_method": method.name, "base": base, "experts": [source for source, _ in models]}
    if dtype := data.get("out_dtype") or data.get("dtype"):
        out["dtype"] = dtype
    out |= tokenizer_settings(data, [base, *out["experts"]], read_source, ignored, faults)
    put_numbers(out, method, models, shared, faults)
    if unsliced.slices:
        out["slices"] = unsliced.slices
        if unsliced.base is not None:
            out["base"] = read_source(unsliced.base, "base_model", faults)
    if method.base == "optional":
        out["deltas"] = data.get("base_model") is not None
    if faults:
        raise SpecError([f"{where}{fault}" for fault in faults])
    if ignored:
        log.warning("%smergekit does not read these, nor does this: %s", where, ", ".join(ignored))
    return out


def _with_slerps_base(data: Mapping[str, object], where: str) -> Mapping[str, object]:
    """Return a configuration of slerp whose base is one of its two models.

    People name another or none, meaning the way from the first to the second, and mergekit refuses that.
    """
    models = dict.fromkeys(_model_names(data.get("models") or data.get("slices")))
    base = data.get("base_model")
    if len(models) != 2 or base in models:
        return data
    first, second = models
    what = "there is no base_model" if base is None else f"base_model {base} is not one of slerp's two models"
    log.warning("%s%s, which mergekit refuses: taken as slerp from %s to %s", where, what, first, second)
    return {**data, "base_model": first}


def _model_names(listed: object) -> Iterator[str]:
    """Yield the names of all models in a list of them or of slices."""
    for item in listed if isinstance(listed, list) else []:
        if isinstance(item, str):
            yield item
        elif isinstance(item, Mapping):
            yield from _model_names([item["model"]] if isinstance(item.get("model"), str) else item.get("sources"))


def _told(key: object, known: Sequence[str]) -> str:
    """Return a key that is ignored, with what it may have been meant for."""
    hint = nearest(str(key), known).removeprefix("; ")
    return f"{key} ({hint})" if hint.startswith("did") else str(key)


def _models(
    data: Mapping[str, object], method: Counterpart, read_source: ReadSource, ignored: list[str], faults: list[str]
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
    return read_source(base, "base_model", faults), [(read_source(s, "models", faults), p) for s, p in found]


def read_name(text: Any, where: str, faults: list[str], stage: Stage = lambda _: None) -> str:
    """Return our text for the name of a model, with a LoRA adapter behind a plus sign."""
    if not isinstance(text, str):
        faults.append(f"{where}={text!r}: not the name of a model")
        return "missing"
    parts = text.split("+")
    if len(parts) > 2 or not all(parts):
        faults.append(f"{where}={text!r}: a model has one LoRA adapter at most, behind a plus sign: model+adapter")
        return "missing"
    return "::".join(_part(part, stage) for part in parts)


def _part(text: str, stage: Stage) -> str:
    if text.startswith("zoo:"):
        return text  # mergekit has no zoo; a config to try things with may name it all the same
    place, at, revision = text.partition("@")
    if (merge := stage(place)) is not None:
        return str(merge)
    return encode(place) + (f"@{encode(revision)}" if at else "")

"""Reading a mergekit YAML as what mergekit itself computes from it (checked against mergekit 0.1.5).

mergekit's defaults differ from ours: della's epsilon is 0.15, dare and della rescale to the L1 norm, a density left out
is 1, and every weight must be given. A number may be a gradient or a list of filters at each place where mergekit looks
for it: at the model first, then among the shared parameters, then its default. What mergekit does not read it ignores,
and so does this, with a warning.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from della_bench.errors import SpecError
from della_bench.spec.keys import KEYS
from della_bench.spec.mergekit_numbers import put_numbers
from della_bench.spec.mergekit_reference import Reference
from della_bench.spec.mergekit_slices import without_modules, without_slices
from della_bench.spec.mergekit_table import COUNTERPARTS, Counterpart
from della_bench.spec.mergekit_tokenizer import TOKENIZER_KEYS, tokenizer_settings
from della_bench.spec.own_keys import read_option
from della_bench.spec.registry import find_method, method_names
from della_bench.spec.source import encode
from della_bench.spec.stages import Stage
from della_bench.suggest import nearest, with_nearest

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
    ignored = [with_nearest(key, MERGEKITS_KEYS) for key in data if key not in MERGEKITS_KEYS]
    name = data.get("merge_method")
    method = COUNTERPARTS.get(str(name))
    if method is None:
        ours = "; it is no method of mergekit: name it in this package's own keys (base, experts, merge_method)"
        hint = ours if str(name) in method_names() else nearest(str(name), COUNTERPARTS)
        faults.append(f"merge_method={name!r}: not supported{hint}")
        method = COUNTERPARTS["passthrough"]  # asks the least of what follows
    data = without_modules(data, method, faults)
    if name == "slerp":
        data = _with_slerps_base(data, where)
    if _is_base_alone(data, method):
        log.warning("%sno model beside the base is merged: the merge is the base itself", where)
        method = replace(COUNTERPARTS["passthrough"], options={}, per_model=())
    unsliced = without_slices(data, method, where, ignored, faults)
    data, sliced = unsliced.data, bool(unsliced.slices)
    shared = data.get("parameters") or {}
    if not isinstance(shared, Mapping):
        faults.append(f"parameters={shared!r}: not a mapping")
        shared = {}
    known = (*_PER_MODEL, *_SHARED, *method.options)
    ignored += [f"parameters.{with_nearest(key, known)}" for key in shared if key not in known]
    read_source = partial(read_name, stage=stage)
    base, models = _models(data, method, read_source, ignored, faults)
    is_counted = str(name) in COUNTERPARTS and not sliced and not any(fault.startswith(_LISTS) for fault in faults)
    if is_counted and (wanted := find_method(method.name).experts) and len(models) != wanted:
        faults.append(f"models: {name} takes exactly {wanted} beside the base, got {len(models)}")
    out: dict[str, Any] = {"merge_method": method.name, "base": base, "experts": [source for source, _ in models]}
    if key := next((key for key in ("out_dtype", "dtype") if data.get(key)), None):
        out["dtype"] = _dtype(key, data[key], faults)
    out |= tokenizer_settings(data, [base, *out["experts"]], read_source, ignored, faults)
    put_numbers(out, method, models, shared, ignored, faults)
    if unsliced.slices:
        out["slices"] = unsliced.slices
        if unsliced.base is not None:
            out["base"] = read_source(unsliced.base, "base_model", faults)
    if method.base == "optional":
        out["deltas"] = data.get("base_model") is not None
    if ignored:
        log.warning("%smergekit does not read these, nor does this: %s", where, ", ".join(ignored))
    if faults:
        faults += _faults_to_come(out)
        raise SpecError([f"{where}{fault}" for fault in dict.fromkeys(faults)])
    return out


def _faults_to_come(out: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with our keys on their own, which nobody comes to read where other faults are told."""
    for key, value in out.items():
        if value == []:  # numbers of no model
            continue
        option = find_method(out["merge_method"]).option(key)
        try:
            if option is not None:
                read_option(option, value)
            elif key == "epsilon":
                KEYS[key].read(value)
        except ValueError as error:
            yield f"{key}={value!r}: {error}"


def _dtype(key: str, value: Any, faults: list[str]) -> Any:
    try:
        return KEYS["dtype"].read(value)
    except ValueError as error:
        faults.append(f"{key}={value!r}: {error}")
        return None


def _with_slerps_base(data: Mapping[str, object], where: str) -> Mapping[str, object]:
    """Return a configuration of slerp whose base is one of its two models.

    People name another or none, meaning the way from the first to the second, and mergekit refuses that.
    """
    try:
        models = dict.fromkeys(_references(data.get("models") or data.get("slices")))
        base = None if data.get("base_model") is None else Reference.read(data["base_model"])
    except ValueError:
        return data  # told where the models are read
    listed = data.get("slices")
    slices = listed if isinstance(listed, list) else []
    if len(models) != 2 or base in models or any(isinstance(s, Mapping) and s.get("base_model") for s in slices):
        return data
    first, second = models
    what = "there is no base_model" if base is None else f"base_model {base} is not one of slerp's two models"
    log.warning("%s%s, which mergekit refuses: taken as slerp from %s to %s", where, what, first, second)
    return {**data, "base_model": first}


def _is_base_alone(data: Mapping[str, object], method: Counterpart) -> bool:
    """Whether a method of deltas has no other model than the base, and takes that: nothing is added to the base."""
    row = find_method(method.name)
    if method.base != "needed" or row.experts is not None or row.least_experts > 1 or data.get("base_model") is None:
        return False
    try:
        models = set(_references(data.get("models") or data.get("slices")))
        return models == {Reference.read(data["base_model"])}
    except ValueError:
        return False


def _references(listed: object) -> Iterator[Reference]:
    """Yield all models in a list of them or of slices. Raises ValueError."""
    for item in listed if isinstance(listed, list) else []:
        if isinstance(item, Mapping) and "model" not in item:
            yield from _references(item.get("sources"))
        else:
            yield Reference.read(item["model"] if isinstance(item, Mapping) else item)


def _models(
    data: Mapping[str, object], method: Counterpart, read_source: ReadSource, ignored: list[str], faults: list[str]
) -> tuple[str, list[tuple[str, dict[str, Any]]]]:
    """Return the base and the other models with their parameters.

    A base listed among the models is no expert of a delta. For linear it is one, listed or not.
    """
    base = _read_base(data, faults)
    found: list[tuple[Reference, dict[str, Any]]] = []
    listed = data.get("models")
    if not isinstance(listed, list) or not listed:
        if not any(fault.startswith(_LISTS[1:]) for fault in faults):  # else it is told what is wrong there
            faults.append(f"models={listed!r}: not a list of models" if listed else "models: no model is named")
        listed = []
    for index, item in enumerate(listed):
        name = item.get("model") if isinstance(item, Mapping) else item
        try:
            source = Reference.read(name)
        except ValueError as error:
            what = f"{name!r}: {error}" if isinstance(name, (str, Mapping)) else "not a mapping with a model's name"
            faults.append(f"models[{index}]: {what}")
            continue
        if isinstance(item, Mapping):
            keys = ("model", "parameters")
            ignored += [f"models[{index}].{with_nearest(k, keys)}" for k in item if k not in keys]
        parameters = (item.get("parameters") if isinstance(item, Mapping) else None) or {}
        if not isinstance(parameters, Mapping):
            faults.append(f"models[{index}].parameters={parameters!r}: not a mapping")
            parameters = {}
        known = method.of_models
        ignored += [f"models[{index}].parameters.{with_nearest(k, known)}" for k in parameters if k not in known]
        if source != base or method.base == "an expert":
            found.append((source, dict(parameters)))
    if base is None and method.base != "needed" and found:
        base = found[0][0]  # mergekit takes config and tokenizer from the first model then
    elif method.name in ("linear", "karcher") and base is not None and all(source != base for source, _ in found):
        found.append((base, {}))  # mergekit adds it, with the weight that all models share
    if base is None:
        if method.base == "needed" and data.get("base_model") is None:
            faults.append(f"base_model: missing, and {method.name} needs it")
        base = Reference("missing")
    return read_source(base, "base_model", faults), [(read_source(s, "models", faults), p) for s, p in found]


def _read_base(data: Mapping[str, object], faults: list[str]) -> Reference | None:
    try:
        return None if data.get("base_model") is None else Reference.read(data["base_model"])
    except ValueError as error:
        faults.append(f"base_model={data['base_model']!r}: {error}")
        return None


def read_name(name: Any, where: str, faults: list[str], stage: Stage = lambda _: None) -> str:
    """Return our text for the name of a model, which may be a mapping or have a LoRA adapter behind a plus sign."""
    try:
        reference = Reference.read(name)
    except ValueError as error:
        faults.append(f"{where}={name!r}: {error}")
        return "missing"
    parts = [reference, *([reference.adapter] if reference.adapter else [])]
    return "::".join(_part(part, stage) for part in parts)


def _part(part: Reference, stage: Stage) -> str:
    if part.path.startswith("zoo:"):
        return part.path  # mergekit has no zoo; a config to try things with may name it all the same
    if (merge := stage(part.path)) is not None:
        return str(merge)
    return encode(part.path) + (f"@{encode(part.revision)}" if part.revision else "")

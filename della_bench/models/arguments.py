"""Splitting what stands after --model_args into the merge's spec and the engine's own arguments."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from typing import Any

from della_bench.errors import SpecError
from della_bench.spec import KEYS, OTHER_NAMES, MergeSpec
from della_bench.spec.documents import FOREIGN_KEYS, is_foreign
from della_bench.spec.files import is_file_name
from della_bench.spec.own_keys import method_of, own_key_names
from della_bench.suggest import nearest

__all__ = [
    "SPEC_NAMES",
    "SPEED_ONLY",
    "answering_arguments",
    "beside",
    "doubled_names",
    "option_faults",
    "split_arguments",
]

SPEC_NAMES = frozenset({*KEYS, *OTHER_NAMES, "config"})

# Arguments, by engine, that change how fast an answer comes, not which.
_SPEED = frozenset({"batch_size", "max_batch_size", "device", "resident"})
SPEED_ONLY = {
    "hf": _SPEED | {"logits_cache", "device_map", "parallelize", "max_memory_per_gpu", "max_cpu_memory",
                    "offload_folder", "tp_plan"},
    "vllm": _SPEED | {"gpu_memory_utilization", "disable_log_stats", "data_parallel_size"},
}  # fmt: skip


_DTYPES = ("float32", "float16", "bfloat16", "float64")
_BACKENDS = ("default", "causal", "seq2seq")

# Arguments of lm-eval's model types that make no sense on a merge, with what to write instead.
_REFUSED = {
    "pretrained": "a merge has no single checkpoint; write base=... and experts=...",
    "revision": "a revision belongs to a source: base=org/name@revision",
    "subfolder": "a source is a whole repository or folder",
    "peft": "an adapter is an expert, not an argument",
    "delta": "a delta is what an expert minus the base is; give the expert",
    "gguf_file": "a merge reads safetensors",
    "autogptq": "quantised weights cannot be merged",
    "gptqmodel": "quantised weights cannot be merged",
}


def answering_arguments(engine: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of an engine that answers depend on, and not their speed alone."""
    return {name: value for name, value in arguments.items() if name not in SPEED_ONLY[engine]}


def split_arguments(
    arguments: Mapping[str, Any], known: Collection[str], *, engine: str, refused: Mapping[str, str] | None = None
) -> tuple[MergeSpec, dict[str, Any]]:
    """Return the spec and the engine's arguments.

    The spec's keys may be a mergekit configuration's. known: names that the engine takes. A name that is both
    (tokenizer, dtype) is the spec's, and so is a key that the spec's method has of its own; those of other methods are
    where the engine does not take them. refused: names that it takes too but that make no sense on a merge, beside
    those that no engine takes, with what to write instead.

    Raises SpecError with all faults of the spec, all arguments that are refused on a merge, and all unknown ones.
    """
    arguments = {name.strip(): value for name, value in arguments.items()}  # "a=1, b=2"
    if files := [name for name, value in arguments.items() if value == "" and is_file_name(name)]:
        # lm-eval's reading of a string that is a file's name alone
        arguments = {name: value for name, value in arguments.items() if name not in files} | {"config": files[0]}
    method = method_of(arguments.items())
    own = {option.name for option in method.options} if method else set()
    own |= own_key_names().difference(known)
    foreign = {name: arguments[name] for name in FOREIGN_KEYS if name in arguments} if is_foreign(arguments) else {}
    ours = {name: value for name, value in arguments.items() if name in SPEC_NAMES or name in own or name in foreign}
    rest = {name: value for name, value in arguments.items() if name not in ours}
    refused = {**_REFUSED, **(refused or {})}
    faults = [
        f"{name}={rest.pop(name)!r}: not on a merge: {why}"
        for name, why in refused.items()
        if rest.get(name) not in (None, False)
    ]
    rest = {name: value for name, value in rest.items() if name not in refused}
    if (wanted := rest.pop("engine", engine)) != engine:
        faults.append(f"engine={wanted!r}: not available; this model type runs engine={engine}")
    valid = sorted({*SPEC_NAMES, *own, *known, "engine"})
    faults += _read_as_numbers(ours)
    faults += [f"{name}={rest[name]!r}: unknown argument{nearest(name, valid)}" for name in rest if name not in known]
    try:
        beside = {name: value for name, value in ours.items() if name not in foreign}
        spec = MergeSpec.parse(foreign, **beside) if foreign else MergeSpec.parse(beside)
    except SpecError as error:
        raise SpecError([*faults, *error.faults]) from None
    if faults:
        raise SpecError(faults)
    return spec, rest


def _read_as_numbers(ours: Mapping[str, Any]) -> list[str]:
    """Return a fault for each name of a folder that lm-eval's command line took for a number: 007 is 7 then."""
    faults = []
    for name in ("base", "base_model", "experts", "tokenizer", "chat_template"):
        given = ours.get(name)
        for value in given if isinstance(given, list) else [given]:
            is_number = isinstance(value, (bool, int, float))
            if is_number and (isinstance(value, (bool, float)) or not os.path.isdir(str(value))):
                faults.append(f"{name}={value}: read as a number; a folder of such a name is ./NAME")
    return faults


def option_faults(options: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with an engine's options, which lm-eval finds out when the model is there."""
    return [
        *_batch_size_faults(options),
        *_number_faults(options),
        *_choice_faults(options),
        *_thinking_faults(options),
    ]


def _number_faults(options: Mapping[str, Any]) -> list[str]:
    faults = []
    for name, least in (("max_length", 1), ("prefix_token_id", 0)):
        value = options.get(name)
        if value is not None and not _is_from(value, least):
            faults.append(f"{name}={value}: a whole number from {least} on")
    return faults


def _is_from(value: Any, least: int) -> bool:
    """Whether a value, or its text, is a whole number from `least` on."""
    return str(value).isdecimal() and int(str(value)) >= least


def _choice_faults(options: Mapping[str, Any]) -> list[str]:
    import torch

    faults = []
    for name in ("softmax_dtype", "mixed_precision_dtype"):
        value = options.get(name)
        if isinstance(value, str) and value != "auto" and not isinstance(getattr(torch, value, None), torch.dtype):
            faults.append(f"{name}={value}: no dtype{nearest(value, _DTYPES)}")
    backend = options.get("backend")
    if backend not in (None, *_BACKENDS):
        faults.append(f"backend={backend}: not a kind of model{nearest(str(backend), _BACKENDS)}")
    return faults


def _batch_size_faults(options: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with `batch_size` and `max_batch_size`."""
    faults = []
    for name in ("batch_size", "max_batch_size"):
        value = options.get(name)
        auto = name == "batch_size" and re.fullmatch(r"auto(:\d+(\.\d+)?)?", str(value))
        if value is not None and not auto and not _is_from(value, 1):
            allowed = "a number from 1 on" + (", auto, or auto:N" if name == "batch_size" else "")
            faults.append(f"{name}={value}: {allowed}")
    return faults


def _thinking_faults(options: Mapping[str, Any]) -> list[str]:
    """Return what lm-eval misses for a model that thinks first."""
    if options.get("enable_thinking") and options.get("think_end_token") is None:
        return ["enable_thinking: needs think_end_token, behind which the answer begins, such as </think>"]
    return []


def beside(arguments: Mapping[str, Any], additional: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return lm-eval's own settings (device, batch size) but for those that stand among the model's arguments, too."""
    given = {name.strip() for name in arguments}
    return {name: value for name, value in (additional or {}).items() if name not in given}


def doubled_names(text: str) -> list[str]:
    """Return a fault for each key that an argument string `key=value,...` gives twice."""
    names = [item.partition("=")[0].strip() for item in text.split(",") if item]
    return [f"{name}: given twice" for name in dict.fromkeys(names) if names.count(name) > 1]

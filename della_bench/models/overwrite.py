"""From a merge into the parameters of a live transformers model, tensor by tensor and in place."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import torch

from della_bench.errors import MergeError, SpecError
from della_bench.merge.stream import Merge
from della_bench.models.bars import with_bar

__all__ = ["check_writable", "overwrite"]


@dataclass
class _Group:
    """Tensors of the checkpoint that become parameters together; `converter` is None where one is one."""

    target: str
    converter: Any = None
    sources: dict[str, str] = field(default_factory=dict)  # name in the checkpoint: the converter's pattern for it


def check_writable(model: Any) -> None:
    """Raise SpecError where a model's parameters do not all lie, whole, on a device of this process."""
    from torch.distributed.tensor import DTensor

    for name, parameter in model.named_parameters():
        if parameter.is_meta:
            raise SpecError(f"{name} is offloaded, and cannot be merged into; give the model room or load it anew")
        if isinstance(parameter, DTensor):
            raise SpecError(f"{name} is split by tp_plan, and cannot be merged into; load the model anew")


@torch.no_grad()
def overwrite(model: Any, merge: Merge, device: torch.device | str, *, progress: bool = True) -> None:
    """Write a merge into the model's parameters, whose storage stays: tied ones stay tied. `progress` shows a bar.

    model: made by `build_model` from a merge of the same base. Tensors that transformers converts on loading go through
    its own conversion. Peak memory on `device` is the model plus the sources and results of one group of such tensors.

    Raises MergeError where a parameter is left over: it would still be the old merge's.
    """
    live = model.state_dict()
    groups = _groups(model, merge.names, live)
    written: set[int] = set()
    names = [name for group in groups for name in group.sources]
    stream = merge.stream(device, with_bar(names, f"Merging by {merge.spec.merge_method}", progress=progress))
    for group in groups:
        tensors = dict(next(stream) for _ in group.sources)
        for name, value in _converted(group, tensors, model).items():
            live[name].copy_(value)
            written.add(live[name].data_ptr())
    computed = getattr(model, "_keys_to_ignore_on_save", None) or ()  # by the model itself, the same in every merge
    left = [
        name
        for name, parameter in model.named_parameters()
        if parameter.data_ptr() not in written and name not in computed
    ]
    if left:
        raise MergeError(f"{merge.base.label}: no tensor of the merge went into {', '.join(sorted(left))}")


def _groups(model: Any, names: Iterable[str], live: dict[str, torch.Tensor]) -> list[_Group]:
    """Map checkpoint names to the model's as transformers does on loading; names it has no place for are left out."""
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import (
        WeightConverter,
        WeightRenaming,
        dot_natural_key,
        rename_source_key,
    )

    mapping = get_model_conversion_mapping(model)
    renamings = [entry for entry in mapping if isinstance(entry, WeightRenaming)]
    converters = [entry for entry in mapping if isinstance(entry, WeightConverter)]
    by_pattern = {pattern: converter for converter in converters for pattern in converter.source_patterns}
    prefix = model.base_model_prefix
    groups: dict[str, _Group] = {}
    for name in sorted(names, key=dot_natural_key):  # in transformers' order: conversion stacks what it is given
        target, pattern = rename_source_key(name, renamings, converters, prefix, live)
        if target not in live and name in live:
            target, pattern = rename_source_key(name, [], [], prefix, live)
        if target in live:
            converter = None if pattern is None else by_pattern[pattern]
            group = groups.setdefault(target, _Group(target, converter))
            group.sources[name] = pattern or name
    return list(groups.values())


def _converted(group: _Group, tensors: dict[str, torch.Tensor], model: Any) -> dict[str, torch.Tensor]:
    if group.converter is None:
        return dict.fromkeys([group.target], *tensors.values())
    converter = deepcopy(group.converter)
    for name, tensor in tensors.items():
        converter.add_tensor(group.target, name, group.sources[name], tensor)
    found = converter.convert(group.target, model=model, config=model.config)
    return {name: value[0] if isinstance(value, list) else value for name, value in found.items()}

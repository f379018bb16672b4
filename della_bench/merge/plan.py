"""The plan of a merge: the plain numbers of each tensor, worked out from what varies over layers and modules."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping

from della_bench.errors import SpecError
from della_bench.spec import MergeSpec
from della_bench.spec.slices import Place
from della_bench.spec.tensor import TensorSpec
from della_bench.spec.varying import Varying

__all__ = ["plan"]

log = logging.getLogger(__name__)

_FEW = 3  # names that a message shows


def plan(spec: MergeSpec, places: Mapping[str, float | Place]) -> dict[str, TensorSpec]:
    """Return the numbers of each tensor.

    places: where each tensor lies among the layers: how deep, as `della_bench.spec.varying.depth` returns it, or a
    `Place` of a merge of slices. A pattern that is
    part of no tensor's name is logged as a warning. Raises SpecError with all tensors' faults, those of a kind as one.
    """
    _warn_of_patterns(spec, places)
    made: dict[str, TensorSpec] = {}
    faults: dict[str, list[str]] = {}
    for name, place in places.items():
        try:
            made[name] = spec.at(name, place)
        except SpecError as error:
            for fault in error.faults:
                faults.setdefault(fault.replace(name, "{}"), []).append(name)
    if faults:
        raise SpecError([fault.format(_some(names)) for fault, names in faults.items()])
    return made


def _warn_of_patterns(spec: MergeSpec, names: Collection[str]) -> None:
    patterns = {
        rule.pattern for value in spec.values if isinstance(value, Varying) for rule in value.rules if rule.pattern
    }
    for pattern in sorted(patterns):
        if not any(pattern in name for name in names):
            log.warning("filter %s is part of no tensor's name; there are %s", pattern, _some(list(names)))


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _FEW} more" if len(names) > _FEW else ""
    return ", ".join(names[:_FEW]) + more

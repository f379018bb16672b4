"""The space of a search: every merge that may be proposed, none of which is an invalid spec.

What is proposed depends on the method that is chosen: a key that it does not use is not.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from della_bench.errors import SpecError
from della_bench.search.dimension import Dimension
from della_bench.search.fitting import fitted, unsqueezed
from della_bench.search.template import dimensions_of, filled
from della_bench.spec import KEYS, MergeSpec, Method
from della_bench.spec.keys import is_used
from della_bench.spec.registry import find_method

__all__ = ["METHOD", "Proposal", "Space"]

METHOD = "merge_method"
_COUNTED = 20_000  # grid points that are looked at one by one, to count those that are the same merge once
Proposal = Mapping[str, Any]
"""What Optuna proposes, by a dimension's name."""


@dataclass(frozen=True)
class Space:
    """Keys of a spec with their templates. Made by `reading.read_space`, which checks everything."""

    keys: Mapping[str, Any]

    @cached_property
    def all_dimensions(self) -> tuple[Dimension, ...]:
        """Every dimension, in the order of the keys, the method's first."""
        found = [dimension for template in self.keys.values() for dimension in dimensions_of(template)]
        return tuple(sorted(found, key=lambda dimension: dimension.key != METHOD))

    @property
    def methods(self) -> list[str]:
        """The methods that may be chosen."""
        template = self.keys.get(METHOD, KEYS[METHOD].default)
        return list(template.choices or {}) if isinstance(template, Dimension) else [str(template)]

    def dimensions(self, method: str) -> list[Dimension]:
        """Return the dimensions that mean something to a method, but for the choice of the method itself."""
        row = find_method(method)
        return [each for each in self.all_dimensions if each.key != METHOD and _has(row, each.key)]

    def method_of(self, proposal: Proposal) -> str:
        """Return the method of a proposal."""
        template = self.keys.get(METHOD, KEYS[METHOD].default)
        return str(proposal[METHOD] if isinstance(template, Dimension) else template)

    def spec(self, proposal: Proposal) -> MergeSpec:
        """Return the merge that a proposal is."""
        return MergeSpec.parse(self.values(proposal))

    def values(self, proposal: Proposal) -> dict[str, Any]:
        """Return the keys of a spec for a proposal, those that its method does not use left out."""
        method = self.method_of(proposal)
        row = find_method(method)
        used = {key: template for key, template in self.keys.items() if key != METHOD and _has(row, key)}
        chosen = {each.name: each.value(proposal[each.name]) for each in self.dimensions(method)}
        if row.magprune and "density" in used and "epsilon" in used:
            chosen = fitted(used["density"], used["epsilon"], chosen)
        return {**{key: filled(template, chosen) for key, template in used.items()}, METHOD: method}

    def shown(self, proposal: Proposal) -> dict[str, Any]:
        """Return a proposal as people read it: by dimension's name the value that the spec gets."""
        method = self.method_of(proposal)
        values = self.values(proposal)
        found = {METHOD: method} if isinstance(self.keys.get(METHOD), Dimension) else {}
        for each in self.dimensions(method):
            value = _at(self.keys[each.key], values[each.key], each.name)
            found[each.name] = proposal[each.name] if each.choices is not None else value
        return found

    def proposal_of(self, spec: MergeSpec) -> dict[str, Any] | None:
        """Return the proposal that gives a spec; None where the space does not hold it, or it varies over layers."""
        if spec.varies or spec.merge_method not in self.methods:
            return None
        keys = spec.as_keys(effective=True)
        found: dict[str, Any] = {}
        if isinstance(self.keys.get(METHOD), Dimension):
            found[METHOD] = spec.merge_method
        for each in self.dimensions(spec.merge_method):
            given = keys.get(each.key)
            value = given if each.choices is not None else _at(self.keys[each.key], given, each.name)
            if each.choices is not None:
                same = [text for text, choice in each.choices.items() if _as_given(each.key, choice) == value]
                if not same:
                    return None
                found[each.name] = same[0]
            elif not isinstance(value, (int, float)):
                return None
            else:
                found[each.name] = value
        if spec.method.magprune:
            found |= unsqueezed(self.dimensions(spec.merge_method), spec.density, found)
        try:
            return found if self.spec(found).digest == spec.digest else None
        except (SpecError, KeyError):
            return None

    def middle(self, method: str) -> dict[str, Any]:
        """Return the untuned default of a method: each key's own default where it has one, else the middle."""
        found: dict[str, Any] = {METHOD: method} if isinstance(self.keys.get(METHOD), Dimension) else {}
        row = find_method(method)
        for each in self.dimensions(method):
            option = row.option(each.key)
            default = KEYS[each.key].default if option is None else option.default
            default = {"rescale": row.rescale, "elect": row.elect, "normalize": row.normalize}.get(each.key, default)
            if each.choices is not None:
                text = str(default).lower() if isinstance(default, bool) else str(default)
                found[each.name] = text if text in each.choices else next(iter(each.choices))
            elif isinstance(default, (int, float)):
                found[each.name] = each.value(min(each.high, max(each.low, default)))
            else:
                found[each.name] = each.middle
        return found

    @cached_property
    def grid(self) -> list[dict[str, Any]] | None:
        """A proposal for every merge of the space, each once; None where a range has no steps.

        A merge that several points of the grid mean (an epsilon that is squeezed) is there once.
        """
        found: dict[str, dict[str, Any]] = {}
        for method in self.methods:
            grids = [(each.name, each.grid) for each in self.dimensions(method)]
            if any(grid is None for _, grid in grids):
                return None
            start = {METHOD: method} if isinstance(self.keys.get(METHOD), Dimension) else {}
            for values in itertools.product(*(grid or [] for _, grid in grids)):
                point = {**start, **dict(zip((name for name, _ in grids), values, strict=True))}
                found.setdefault(self.spec(point).digest, point)
        return list(found.values())

    @cached_property
    def size(self) -> int | None:
        """How many merges there are, None where there is a number between any two; large grids count all points."""
        total = 0
        for method in self.methods:
            points = [each.points for each in self.dimensions(method)]
            if any(count is None for count in points):
                return None
            total += math.prod(count or 0 for count in points)
        return total if total > _COUNTED else len(self.grid or [])

    def corners(self) -> Iterator[dict[str, Any]]:
        """Yield proposals that between them hold both ends of every range and every choice."""
        for method in self.methods:
            start = {METHOD: method} if isinstance(self.keys.get(METHOD), Dimension) else {}
            dimensions = self.dimensions(method)
            ends = [list(each.choices) if each.choices is not None else [each.low, each.high] for each in dimensions]
            middle = self.middle(method)
            yield middle
            for place in (0, -1):
                yield start | {each.name: end[place] for each, end in zip(dimensions, ends, strict=True)}
            for each, values in zip(dimensions, ends, strict=True):
                for value in values:
                    yield {**middle, each.name: value}

    def as_dict(self) -> dict[str, Any]:
        """Return the space in plain values, from which it can be read again."""
        return {key: _plain(template) for key, template in self.keys.items()}


def _has(method: Method, key: str) -> bool:
    return method.option(key) is not None or is_used(key, method)


def _at(template: Any, value: Any, name: str) -> Any:
    """Return what stands in `value` where its template has the dimension `name`."""
    if isinstance(template, Dimension):
        if template.name != name:
            return None
        return value[0] if isinstance(value, list) and len(set(map(str, value))) == 1 else value
    if isinstance(template, Mapping) and isinstance(value, Mapping):
        pairs = [(part, value.get(key)) for key, part in template.items()]
    elif isinstance(template, list) and isinstance(value, list) and len(template) == len(value):
        pairs = list(zip(template, value, strict=True))
    elif isinstance(template, list):  # a spec writes equal ones as one
        pairs = [(part, value) for part in template]
    else:
        return None
    found = (_at(part, inside, name) for part, inside in pairs)
    return next((each for each in found if each is not None), None)


def _as_given(key: str, choice: Any) -> Any:
    """Return a choice as a spec's keys have it."""
    if key == "experts" and not isinstance(choice, list):
        return str(choice).split("+")
    return choice


def _plain(template: Any) -> Any:
    if isinstance(template, Dimension):
        if template.choices is None:
            return template.as_dict()
        return {"choices": [_plain(choice) for choice in template.choices.values()]}
    if isinstance(template, Mapping):
        return {key: _plain(part) for key, part in template.items()}
    if isinstance(template, list):
        return [_plain(part) for part in template]
    return template if isinstance(template, (int, float, bool, type(None))) else str(template)

"""The space of a search: every merge that may be proposed, none of which is an invalid spec.

    name: Space.read(...)      a spec with ranges, as a mapping, a YAML file or a string
    dimensions(method)         what is proposed where this method is chosen: a key that it does not use is not
    spec(proposal)             the merge that a proposal is

Densities and epsilons depend on each other: density - epsilon is above 0 and density + epsilon at most 1. Each is
proposed from its own range. A density is then moved to where the smallest epsilon fits it, and epsilon's range shrinks
to what the density has room for: an epsilon proposed half-way up its range is half-way up what is left of it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from della_bench.errors import SpecError
from della_bench.search.dimension import DIGITS, Dimension, rounded
from della_bench.search.template import dimensions_of, filled, numbers_of
from della_bench.spec import KEYS, MergeSpec, Method
from della_bench.spec.keys import is_used
from della_bench.spec.registry import find_method
from della_bench.spec.thresholds import fits_density, room

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
            chosen = _fitting(used["density"], used["epsilon"], chosen)
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
        found = self._unsqueezed(spec, found)
        try:
            return found if self.spec(found).digest == spec.digest else None
        except (SpecError, KeyError):
            return None

    def _unsqueezed(self, spec: MergeSpec, found: dict[str, Any]) -> dict[str, Any]:
        """Return a proposal whose epsilons, once squeezed into what their densities leave, are those of the spec."""
        if not spec.method.magprune:
            return found
        for each in self.dimensions(spec.merge_method):
            if each.key == "epsilon" and each.points is None:
                densities = [value for value in spec.density if isinstance(value, float)]
                top = min([each.high, *(_room(density) for density in densities if density < 1)])
                if each.low < top < each.high:
                    share = (found[each.name] - each.low) / (top - each.low)
                    found[each.name] = min(each.high, each.low + share * (each.high - each.low))
        return found

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

    def grid(self) -> list[dict[str, Any]] | None:
        """Return a proposal for every merge of the space, each once; None where a range has no steps.

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

    @property
    def size(self) -> int | None:
        """How many merges there are, None where there is a number between any two; large grids count all points."""
        total = 0
        for method in self.methods:
            points = [each.points for each in self.dimensions(method)]
            if any(count is None for count in points):
                return None
            total += math.prod(count or 0 for count in points)
        return total if total > _COUNTED else len(self.grid() or [])

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


def _fitting(density: Any, epsilon: Any, chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Return the chosen values with densities and epsilons that fit one another.

    density, epsilon: the templates, each one for all experts or a list with one each. Whatever varies over layers is
    held to all numbers of the other key: what it is anywhere lies between two of its anchors.
    """
    found = dict(chosen)
    several = len(density) if isinstance(density, list) else len(epsilon) if isinstance(epsilon, list) else 1
    densities = density if isinstance(density, list) and len(density) == several else [density] * several
    epsilons = epsilon if isinstance(epsilon, list) and len(epsilon) == several else [epsilon] * several
    tops: dict[str, float] = {}
    for d, e in zip(densities, epsilons, strict=True):
        least = max((_least(each) for each in dimensions_of(e)), default=0.0)
        fixed = max(numbers_of(filled(e, {each.name: 0.0 for each in dimensions_of(e)})), default=0.0)
        least = max(least, fixed)
        for each in dimensions_of(d):
            found[each.name] = _moved(each, found[each.name], least)
        rooms = [_room(number) for number in numbers_of(filled(d, found)) if number < 1]
        for each in dimensions_of(e):
            tops[each.name] = min([tops.get(each.name, math.inf), *rooms])
    for each in {each.name: each for e in epsilons for each in dimensions_of(e)}.values():
        found[each.name] = _squeezed(each, found[each.name], tops[each.name])
    return found


def _least(epsilon: Dimension) -> float:
    return min(map(float, epsilon.choices.values())) if epsilon.choices is not None else epsilon.low


def _room(density: float) -> float:
    """Return the largest epsilon of so many digits that a density has room for."""
    top = room(density)[0]
    step = 10.0 ** (math.floor(math.log10(top)) - DIGITS + 1) if top else 0.0
    top = rounded(math.floor(top / step + 1e-9) * step) if step else 0.0
    return top if fits_density(top, density) else max(0.0, rounded(top - step))


def _moved(density: Dimension, value: float, least: float) -> float:
    """Return a density that has room for the epsilon `least`, as near to the proposed one as there is."""
    if value >= 1 or fits_density(least, value):
        return value
    if density.grid is not None:
        grid = density.choices.values() if density.choices is not None else density.grid
        fitting = [float(each) for each in grid if fits_density(least, float(each))]
        return min(fitting, key=lambda each: abs(each - value)) if fitting else value
    low = rounded(least * (1 + 10.0 ** (1 - DIGITS))) if least else value
    moved = min(max(value, low), rounded(1 - least))
    return moved if density.low <= moved <= density.high else value


def _squeezed(epsilon: Dimension, value: float, top: float) -> float:
    """Return an epsilon that is at most `top`: from a range, as far up in what is left of it as it was in the range."""
    if epsilon.grid is not None:
        grid = epsilon.choices.values() if epsilon.choices is not None else epsilon.grid
        fitting = [float(each) for each in grid if float(each) <= top]
        return value if value <= top or not fitting else max(fitting)
    if top >= epsilon.high or epsilon.high == epsilon.low:
        return min(value, top) if top >= epsilon.low else value
    if top < epsilon.low:
        return value
    share = (value - epsilon.low) / (epsilon.high - epsilon.low)
    return min(top, max(epsilon.low, rounded(epsilon.low + share * (top - epsilon.low))))


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

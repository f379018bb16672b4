"""Densities and epsilons that fit one another: density - epsilon is above 0 and density + epsilon at most 1.

Each is proposed from its own range. A density is then moved to where the smallest epsilon fits it, and epsilon's range
shrinks to what the density has room for: an epsilon proposed half-way up its range is half-way up what is left of it.
Whatever varies over layers is held to all numbers of the other key: anywhere it is between two of its anchors.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from della_bench.search.dimension import DIGITS, Dimension, rounded
from della_bench.search.template import dimensions_of, filled, numbers_of
from della_bench.spec.thresholds import fits_density, room
from della_bench.spec.varying import Value

__all__ = ["fitted", "unsqueezed"]


def fitted(density: Any, epsilon: Any, chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Return the chosen values, by dimension, with densities and epsilons that fit one another.

    density, epsilon: the templates, each one for all experts or a list with one each.
    """
    found = dict(chosen)
    several = len(density) if isinstance(density, list) else len(epsilon) if isinstance(epsilon, list) else 1
    densities = density if isinstance(density, list) and len(density) == several else [density] * several
    epsilons = epsilon if isinstance(epsilon, list) and len(epsilon) == several else [epsilon] * several
    tops: dict[str, float] = {}
    for d, e in zip(densities, epsilons, strict=True):
        least = max((_least(each) for each in dimensions_of(e)), default=0.0)
        fixed = _most(filled(e, {each.name: 0.0 for each in dimensions_of(e)}))
        for each in dimensions_of(d):
            found[each.name] = _moved(each, found[each.name], max(least, fixed))
        rooms = [_room(number) for number in numbers_of(filled(d, found)) if number < 1]
        for each in dimensions_of(e):
            tops[each.name] = min([tops.get(each.name, math.inf), *rooms])
    for each in {each.name: each for e in epsilons for each in dimensions_of(e)}.values():
        found[each.name] = _squeezed(each, found[each.name], tops[each.name])
    return found


def unsqueezed(
    dimensions: Sequence[Dimension], densities: Sequence[Value], proposal: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what epsilons are to be proposed, so that those that the proposal names are left after the squeezing.

    densities: of the merge, none of which varies over layers.
    """
    found = {}
    rooms = [_room(density) for density in densities if isinstance(density, float) and density < 1]
    for each in dimensions:
        if each.key == "epsilon" and each.points is None:
            top = min([each.high, *rooms])
            if each.low < top < each.high:
                share = (proposal[each.name] - each.low) / (top - each.low)
                found[each.name] = min(each.high, each.low + share * (each.high - each.low))
    return found


def _most(value: Any) -> float:
    return max(numbers_of(value), default=0.0)


def _least(epsilon: Dimension) -> float:
    return min(map(_most, epsilon.choices.values())) if epsilon.choices is not None else epsilon.low


def _room(density: float) -> float:
    """Return the largest epsilon of so many digits that a density has room for."""
    top = room(density)[0]
    step = 10.0 ** (math.floor(math.log10(top)) - DIGITS + 1) if top else 0.0
    top = rounded(math.floor(top / step + 1e-9) * step) if step else 0.0
    return top if fits_density(top, density) else max(0.0, rounded(top - step))


def _moved(density: Dimension, value: Any, least: float) -> Any:
    """Return a density that has room for the epsilon `least`, as near to the proposed one as there is."""

    def fits(each: Any) -> bool:
        return all(number >= 1 or fits_density(least, number) for number in numbers_of(each))

    if fits(value):
        return value
    if density.grid is not None:
        grid = density.choices.values() if density.choices is not None else density.grid
        middle = fmean(numbers_of(value))
        return min(filter(fits, grid), key=lambda each: abs(fmean(numbers_of(each)) - middle), default=value)
    low = rounded(least * (1 + 10.0 ** (1 - DIGITS))) if least else value
    moved = min(max(value, low), rounded(1 - least))
    return moved if density.low <= moved <= density.high else value


def _squeezed(epsilon: Dimension, value: Any, top: float) -> Any:
    """Return an epsilon that is at most `top`: from a range, as far up in what is left of it as it was in the range."""
    if epsilon.grid is not None:
        grid = epsilon.choices.values() if epsilon.choices is not None else epsilon.grid
        fitting = [each for each in grid if _most(each) <= top]
        return value if _most(value) <= top or not fitting else max(fitting, key=_most)
    if top >= epsilon.high or epsilon.high == epsilon.low:
        return min(value, top) if top >= epsilon.low else value
    if top < epsilon.low:
        return value
    share = (value - epsilon.low) / (epsilon.high - epsilon.low)
    return min(top, max(epsilon.low, rounded(epsilon.low + share * (top - epsilon.low))))

"""How many numbers a spec gives its experts: one for all of them, or one each, and each there where it is needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from della_bench.spec.keys import KEYS
from della_bench.spec.method import Method
from della_bench.spec.numbers import number_text
from della_bench.spec.source import Source
from della_bench.spec.thresholds import fits_density, room
from della_bench.spec.varying import Value, slices_in, without_slices

__all__ = ["densities_and_epsilons", "too_wide", "weights_of", "without_lone_slice"]


def without_lone_slice(numbers: Mapping[str, Any], count: int, faults: list[str]) -> dict[str, Any]:
    """Return numbers without what says nothing: which slice, where there is only one. Other slices become faults."""
    changed: dict[str, Any] = {}
    for key, value in numbers.items():
        several = value if isinstance(value, tuple) else (value,)
        strange = {number for one in several for number in slices_in(one) if number >= count}
        if strange:
            there = f"there are slices 0 to {count - 1}" if count else "the spec has no slices"
            faults.append(f"{key}: a rule for slice {', '.join(map(str, sorted(strange)))}, but {there}")
        elif count == 1:
            several = tuple(map(without_slices, several))
        changed[key] = several if isinstance(value, tuple) else several[0]
    return changed


def weights_of(
    values: Mapping[str, Any], experts: Sequence[tuple[Source, Value | None]], faults: list[str]
) -> tuple[Value, ...]:
    """Return a weight for each expert, given beside it or as `weights`. Adds to `faults` where both are given."""
    beside = [weight for _, weight in experts]
    if values.get("weights") is None:
        return tuple(KEYS["weights"].default if weight is None else weight for weight in beside)
    if any(weight is not None for weight in beside):
        faults.append("weights: given beside experts=source:weight; give one of them")
    return _one_each("weights", values["weights"], len(experts), faults)


def densities_and_epsilons(
    row: Method,
    values: Mapping[str, Any],
    given: Mapping[str, tuple[str, object]],
    count: int,
    faults: list[str],
) -> tuple[tuple[Value, ...], tuple[Value, ...]]:
    """Return the densities and the epsilons that the method uses; each must be there where it is needed."""
    if not row.drops:
        return (), _epsilon(row, values, given, count, faults)
    if "density" not in values:
        allowed = "density in (0, 1] or drop_rate in [0, 1)"
        faults.append(f"density: missing, and {row.name} drops parameters; give {allowed}")
    density = values.get("density")
    if density is not None:
        density = _one_each(given["density"][0], density, count, faults)
    epsilon = _epsilon(row, values, given, count, faults)
    if row.magprune and density and epsilon:
        both = zip(density, epsilon, strict=False) if len(set(epsilon)) > 1 else ((d, epsilon[0]) for d in density)
        pairs = {pair for pair in both if all(isinstance(number, float) for number in pair)}  # others by the plan
        for d, e in sorted(cast("set[tuple[float, float]]", pairs)):
            if not fits_density(e, d):
                faults.append(f"{given['epsilon'][0]}={given['epsilon'][1]!r}: {too_wide(d)}")
    return density or (), epsilon


def too_wide(density: float) -> str:
    """Return the reason why an epsilon does not go with a density."""
    limit, included = room(density)
    return (
        f"too wide for a density of {number_text(density)}; "
        "density - epsilon must be above 0 and density + epsilon at most 1, "
        f"so epsilon (half of window_size) {'at most' if included else 'below'} {number_text(limit)}"
    )


def _epsilon(
    row: Method, values: Mapping[str, Any], given: Mapping[str, tuple[str, object]], count: int, faults: list[str]
) -> tuple[Value, ...]:
    if not row.uses("epsilon"):
        return ()
    if "epsilon" not in values:
        allowed = "epsilon in [0, 0.5) or window_size (2 * epsilon)"
        faults.append(f"epsilon: missing, and {row.name} needs it; give {allowed}")
    epsilon = values.get("epsilon")
    return () if epsilon is None else _one_each(given["epsilon"][0], epsilon, count, faults)


def _one_each(name: str, values: tuple[Value, ...], count: int, faults: list[str]) -> tuple[Value, ...]:
    if len(values) == 1:
        return values * count
    if count and len(values) != count:
        faults.append(f"{name}: {len(values)} numbers for {count} experts; give one, or one for each expert")
    return values

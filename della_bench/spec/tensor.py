"""What a spec says of one tensor: plain numbers, whatever varies over layers and modules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from della_bench.errors import SpecError
from della_bench.spec.expert_numbers import too_wide
from della_bench.spec.method import Elect, Method, Rescale
from della_bench.spec.numbers import number_text
from della_bench.spec.option import OptionValue
from della_bench.spec.own_keys import OwnValue
from della_bench.spec.registry import find_method
from della_bench.spec.slices import Place
from della_bench.spec.thresholds import fits_density
from della_bench.spec.varying import Value, Varying, value_at

if TYPE_CHECKING:
    from della_bench.spec.model import MergeSpec

__all__ = ["TensorSpec", "numbers_at"]


@dataclass(frozen=True)
class TensorSpec:
    """How one tensor is merged. Weights, densities and epsilons: one an expert; empty where the method has none.

    options: the keys that the method has of its own, with their values.
    """

    merge_method: str
    weights: tuple[float, ...]
    density: tuple[float, ...]
    epsilon: tuple[float, ...]
    lambda_: float
    rescale: Rescale
    elect: Elect
    normalize: bool
    seed: int
    options: tuple[tuple[str, OptionValue], ...] = ()

    @property
    def method(self) -> Method:
        """What the method does."""
        return find_method(self.merge_method)

    def at(self, name: str, place: float = 0.0) -> TensorSpec:
        """Return itself: the numbers are those of one tensor already."""
        return self

    def bounds_of(self, expert: int) -> tuple[float, float]:
        """Return density and epsilon of an expert; an epsilon of 0 where the method has none."""
        return self.density[expert], self.epsilon[expert] if self.epsilon else 0.0


def numbers_at(spec: MergeSpec, name: str, place: Place) -> TensorSpec:
    """Return the numbers that a spec has for a tensor, for those experts that are members of its slice.

    Raises SpecError where there are none for a tensor of this name, or where they do not fit each other.
    """
    faults: list[str] = []
    members = place.members
    if members is None:
        members = tuple((expert, name) for expert in range(len(spec.experts)))

    def numbers(key: str, values: Sequence[Value], names: Sequence[str] | None = None) -> tuple[float, ...]:
        own = [name] * len(values) if names is None else names
        found = [value_at(value, each, place.depth, place.slice) for value, each in zip(values, own, strict=True)]
        if None in found:
            faults.append(f"{key}: no rule is for tensor {name}; give a last one without a pattern, for the rest")
        return tuple(0.0 if number is None else number for number in found)

    def of_members(key: str, values: Sequence[Value]) -> tuple[float, ...]:
        """Return what the members have, by the names of their own tensors; empty where the method has no such key."""
        if not values:
            return ()
        return numbers(key, [values[expert] for expert, _ in members], [each for _, each in members])

    def option(key: str, value: OwnValue) -> OptionValue:
        if isinstance(value, Varying):
            return numbers(key, [value])[0]
        return of_members(key, value) if isinstance(value, tuple) else value

    made = TensorSpec(
        merge_method=spec.merge_method,
        weights=of_members("weights", spec.weights),
        density=of_members("density", spec.density),
        epsilon=of_members("epsilon", spec.epsilon),
        lambda_=numbers("lambda", [spec.lambda_])[0],
        rescale=spec.rescale,
        elect=spec.elect,
        normalize=spec.normalize,
        seed=spec.seed,
        options=tuple((key, option(key, value)) for key, value in spec.options),
    )
    if spec.method.magprune and not faults:
        for density, epsilon in zip(made.density, made.epsilon, strict=True):
            if not fits_density(epsilon, density):
                faults.append(f"epsilon={number_text(epsilon)} at tensor {name}: {too_wide(density)}")
    if faults:
        raise SpecError(faults)
    return made

"""What a spec says of one tensor: plain numbers, whatever varies over layers and modules."""

from __future__ import annotations

from dataclasses import dataclass

from della_bench.spec.method import Elect, Method, Rescale
from della_bench.spec.option import OptionValue
from della_bench.spec.registry import find_method

__all__ = ["TensorSpec"]


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

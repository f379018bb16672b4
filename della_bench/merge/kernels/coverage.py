"""Which merges the fast implementations, on CPU and GPU, cover; all others go to the reference."""

from __future__ import annotations

from collections.abc import Container

from della_bench.spec.tensor import TensorSpec
from della_bench.spec.thresholds import keep_bounds

__all__ = ["BrokenSourceError", "covers"]

_LARGEST = 3.4028234663852886e38  # of float32


class BrokenSourceError(Exception):
    """A source holds NaN or infinity; `position` is 0 for the base, 1 for the first expert."""

    def __init__(self, position: int) -> None:
        super().__init__(f"source {position} of a merge is not finite")
        self.position = position


def covers(
    spec: TensorSpec,
    *,
    drops: Container[str],
    rescales: Container[str],
    elects: Container[str],
    scalings: Container[str],
) -> bool:
    """Whether an implementation that knows these choices of a methods' row knows a spec's merge.

    It must know each of them. A method of one function over whole tensors, and a drop that is a function, are no such
    choices. Numbers at the extremes are left to the reference: the fast implementations mask what is left out, which an
    infinite weight times 0 does not, and write a threshold as "at most itself less 1", which 0 cannot be.
    """
    method = spec.method
    drops_of = [spec.bounds_of(expert) for expert in range(len(spec.density))]
    return (
        method.merge is None
        and method.drop_kind in drops
        and spec.rescale in rescales
        and spec.elect in elects
        and method.scaling in scalings
        and spec.lambda_ != 0
        and all(abs(weight) <= _LARGEST for weight in spec.weights)
        and all(density >= 1 or keep_bounds(density, epsilon)[0] > 0 for density, epsilon in drops_of)
    )

"""What a merge method is: the contract that built-in methods and those of other packages keep alike.

A method is a row of choices (how deltas are dropped, how signs are elected, how the rest is fused), a row with a drop
of its own, or one function over the whole tensor. A package offers one by an entry point of its name:

    [project.entry-points."della_bench.merge_methods"]
    breadcrumbs = "crumbs:METHOD"

    # crumbs.py
    from della_bench.spec import Method

    def drop(delta, density, epsilon, words):
        '''Leave out the share `epsilon` of the largest magnitudes, and keep the share `density` below them.'''
        n = delta.numel()
        order = delta.abs().flatten().argsort(stable=True)
        top = n - round(epsilon * n)
        kept = order[max(0, top - round(density * n)) : top]
        out = delta.new_zeros(n)
        out[kept] = delta.flatten()[kept]
        return out.reshape(delta.shape)

    METHOD = Method("breadcrumbs", "drops the smallest and the largest magnitudes, sum", "arXiv:2312.06795",
                    drop=drop, takes=("epsilon",), version="1")

From then on `merge_method=breadcrumbs` is a method like every other; it is computed by the torch reference.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, Literal, get_args

from della_bench.errors import MergeError
from della_bench.suggest import nearest

if TYPE_CHECKING:
    import torch

__all__ = ["BUILT_IN", "Drop", "DropFunction", "Elect", "MergeFunction", "Method", "Numbers", "Rescale", "Scaling"]

BUILT_IN = "della_bench"  # the package of the methods that come with this one

Drop = Literal["none", "random", "magnitude", "magnitude_row", "magprune", "magprune_layer", "magprune_norank"]
Elect = Literal["sum", "count", "none"]
Rescale = Literal["inverse_keep", "l1", "none"]
Scaling = Literal["lambda", "ada_row", "ada_row_inv", "ada_layer", "none"]

_CHOICES = {
    field: get_args(kind)
    for field, kind in (("drop", Drop), ("elect", Elect), ("rescale", Rescale), ("scaling", Scaling))
}
_DROP_TAKES = ("epsilon", "seed")
_MERGE_TAKES = ("weights", "density", "epsilon", "lambda", "normalize", "seed")


@dataclass(frozen=True)
class Numbers:
    """What a merge function gets beside the tensors. What the method does not take holds a neutral value."""

    tensor: str  # its name in the base's checkpoint
    weights: tuple[float, ...]  # one an expert
    density: tuple[float, ...]  # one an expert; empty where the method takes none
    epsilon: tuple[float, ...]  # likewise
    lambda_: float
    normalize: bool
    words: Callable[[int], torch.Tensor]
    """words(k): int64 in [0, 2^32), shaped like the base: expert k's random words of this tensor, by the seed."""


DropFunction = Callable[["torch.Tensor", float, "float | None", "torch.Tensor | None"], "torch.Tensor"]
"""(delta, density, epsilon, words) -> what is kept, scaled as it shall be, and zeros. Float32 of the delta's shape; the
delta is not to be changed. words: int64 in [0, 2^32), shaped like the delta, of this expert; None where the method does
not take "seed". It is not called for an expert of density 1, of which nothing is dropped."""

MergeFunction = Callable[["torch.Tensor | None", Sequence["torch.Tensor"], Numbers], "torch.Tensor"]
"""(base, experts, numbers) -> the merged tensor. Float32 of one shape and device; none is to be changed. base: None
where `uses_base` is not set. An argument that is returned as it is stands for the stored tensor, to the last bit."""


@dataclass(frozen=True)
class Method:
    """One merge method. Raises ValueError where its parts do not fit together."""

    name: str
    summary: str  # what it does, in a line
    source: str  # where it comes from
    # A row: how to drop from each delta, and how to fuse what is left.
    drop: Drop | DropFunction = "none"
    elect: Elect = "none"
    normalize: bool = False
    scaling: Scaling = "lambda"
    rescale: Rescale = "none"
    # In the place of a row, a function; or "module:name" of one, which is imported when the first tensor is merged.
    merge: MergeFunction | str | None = None
    uses_base: bool = True
    experts: int | None = None  # how many it takes; any number where None
    weights_within: tuple[float, float] | None = None
    # Which keys of a spec a function takes. A drop: "epsilon", "seed" (beside the density, and what every row takes). A
    # merge: "weights", "density", "epsilon", "lambda", "normalize", "seed". Density and epsilon must be given then.
    takes: tuple[str, ...] = ()
    pinned: bool = True  # whether it gives the same bits on every device
    version: str = ""  # raised with every change of its bits: a part of every spec's digest. Only built-ins have none
    package: str = ""  # which distribution offers it; filled in where it is loaded

    def __post_init__(self) -> None:  # noqa: D105
        for field, choices in _CHOICES.items():
            value = getattr(self, field)
            if isinstance(value, str) and value not in choices:
                raise ValueError(f"{field}={value!r}: not a choice{nearest(value, choices)}")
        known = (_MERGE_TAKES if self.merge else _DROP_TAKES) if self.merge or callable(self.drop) else ()
        if wrong := set(self.takes).difference(known):
            allowed = ", ".join(known) or "nothing, where there is no function"
            raise ValueError(f"takes={sorted(wrong)}: not what this method can take; one of: {allowed}")
        if self.merge and (self.drop, self.elect, self.rescale) != ("none", "none", "none"):
            raise ValueError("merge: stands in the place of drop, elect and rescale; leave them out")
        if callable(self.drop) and self.rescale != "none":
            raise ValueError("rescale: a drop function scales what it keeps by itself")

    @property
    def kind(self) -> str:
        """Return "delta" for a row of drop, elect and fuse; else the method's own name."""
        return "delta" if self.merge is None else self.name

    @property
    def drop_kind(self) -> str:
        """How deltas are dropped: a word of the table, or "function"."""
        return self.drop if isinstance(self.drop, str) else "function"

    @property
    def drops(self) -> bool:
        """Whether the method needs a density."""
        return "density" in self.takes or self.drop != "none"

    @property
    def magprune(self) -> bool:
        """Whether the keep probability depends on the magnitude: it lies in density - epsilon to density + epsilon."""
        return self.drop_kind.startswith("magprune")

    @property
    def random(self) -> bool:
        """Whether the method draws random numbers, so that the seed matters."""
        return "seed" in self.takes or self.drop == "random" or self.magprune

    @property
    def origin(self) -> str:
        """Where the method comes from, with the package that offers it unless it is built in."""
        return self.source if self.package in ("", BUILT_IN) else f"{self.source}, in package {self.package}"

    def uses(self, key: str) -> bool:
        """Whether a spec's key means something to the method, one of those that not every method uses."""
        if key == "density":
            return self.drops
        if key == "epsilon":
            return "epsilon" in self.takes or self.magprune
        if key == "seed":
            return self.random
        if key == "rescale":
            return self.drop_kind not in ("none", "function")
        if self.merge is not None:
            return key in self.takes
        return key != "lambda" or self.scaling == "lambda"

    def as_dict(self) -> dict[str, Any]:
        """Return what the method is, in plain values for JSON."""
        return {
            "name": self.name,
            "summary": self.summary,
            "source": self.source,
            "drop": self.drop_kind,
            "elect": self.elect,
            "normalize": self.normalize,
            "scaling": self.scaling,
            "rescale": self.rescale,
            "kind": self.kind,
            "pinned": self.pinned,
            "version": self.version,
            "package": self.package,
        }

    def function(self) -> MergeFunction | None:
        """Return the function that merges a whole tensor, imported; None where the method is a row.

        Raises MergeError where it cannot be imported.
        """
        if not isinstance(self.merge, str):
            return self.merge
        try:
            function: MergeFunction = resolve_name(self.merge)
        except (ImportError, AttributeError, ValueError) as error:
            what = f"package {self.package} names {self.merge} as its function, which does not load"
            raise MergeError(f"merge_method={self.name}: {what}: {type(error).__name__}: {error}") from error
        return function

"""What a merge method is: the contract that built-in methods and those of other packages keep alike.

A method is a row of choices (how deltas are dropped, how signs are elected, how the rest is fused), a row with a drop
of its own, or one function over the whole tensor. A package offers one by an entry point of its name:

    [project.entry-points."della_bench.merge_methods"]
    stripes = "stripes:METHOD"

    # stripes.py
    from della_bench.spec import Method, Option

    def drop(delta, density, epsilon, words, *, width):
        '''Keep the share `density` of the rows, in stripes of `width` rows that lie evenly over the tensor.'''
        rows = delta.reshape(delta.shape[0], -1) if delta.dim() > 1 else delta.reshape(1, -1)
        kept = rows.clone()
        for row in range(len(rows)):
            stripe = row // width
            if int((stripe + 1) * density) == int(stripe * density):
                kept[row] = 0
        return kept.reshape(delta.shape)

    METHOD = Method("stripes", "keeps stripes of rows, sum", "this example", drop=drop, version="1",
                    options=(Option("width", "rows of a stripe", int, default=1, least=1),))

From then on `merge_method=stripes,density=0.5,width=4` is a merge like every other; it is computed by the torch
reference.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, Literal, get_args

from della_bench.errors import MergeError
from della_bench.spec.option import Option
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
_DROP_TAKES = ("epsilon", "seed", "rescale")
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


DropFunction = Callable[..., "torch.Tensor"]
"""(delta, density, epsilon, words, **options) -> what is kept, scaled as it shall be, and zeros. Float32 of the delta's
shape; the delta is not to be changed. words: int64 in [0, 2^32), shaped like the delta, of this expert; None where the
method does not take "seed". It is not called for an expert of density 1, of which nothing is dropped. Where the method
takes "rescale", it leaves the scaling to that key."""

MergeFunction = Callable[..., "torch.Tensor"]
"""(base, experts, numbers, **options) -> the merged tensor. base: a tensor, or None where `uses_base` is not set;
experts: a sequence of tensors; numbers: `Numbers`. Float32 of one shape and device; none is to be changed. An argument
that is returned as it is stands for the stored tensor, to the last bit."""


@dataclass(frozen=True)
class Method:
    """One merge method. Raises ValueError where its parts do not fit together."""

    name: str
    summary: str  # what it does, in a line
    source: str  # where it comes from
    # A row: how to drop from each delta, and how to fuse what is left. A function may be named as "module:name", which
    # is imported when the first tensor is merged: to read a spec takes no torch.
    drop: Drop | DropFunction | str = "none"
    elect: Elect = "none"
    normalize: bool = False
    scaling: Scaling = "lambda"
    rescale: Rescale = "none"
    merge: MergeFunction | str | None = None  # in the place of a row, a function or its name
    uses_base: bool = True
    experts: int | None = None  # how many it takes; any number where None
    least_experts: int = 1
    weights_within: tuple[float, float] | None = None
    weights_by_merge: bool = False  # of a merge of slices: looked up by the merge's tensor, not by the expert's own
    # Which keys of a spec a function takes. A drop: "epsilon", "seed", "rescale" (beside the density, and what every
    # row takes). A merge: "weights", "density", "epsilon", "lambda", "normalize", "seed". Density and epsilon must be
    # given then.
    takes: tuple[str, ...] = ()
    options: tuple[Option, ...] = ()  # further keys, which only this method has; a function gets them by their names
    pinned: bool = True  # whether it gives the same bits on every device and number of threads
    # Raised with every change of its bits: a part of every spec's digest. Only the methods of the DELLA authors' code
    # have none: their bits are those of ALGORITHM_VERSION.
    version: str = ""
    package: str = ""  # which distribution offers it; filled in where it is loaded

    def __post_init__(self) -> None:  # noqa: D105
        for field, choices in _CHOICES.items():
            value = getattr(self, field)
            if isinstance(value, str) and value not in choices and not (field == "drop" and ":" in value):
                raise ValueError(f"{field}={value!r}: not a choice{nearest(value, choices)}")
        known = (_MERGE_TAKES if self.merge else _DROP_TAKES) if self.merge or self.drop_kind == "function" else ()
        if wrong := set(self.takes).difference(known):
            allowed = ", ".join(known) or "nothing, where there is no function"
            raise ValueError(f"takes={sorted(wrong)}: not what this method can take; one of: {allowed}")
        if self.merge and (self.drop, self.elect, self.rescale) != ("none", "none", "none"):
            raise ValueError("merge: stands in the place of drop, elect and rescale; leave them out")
        if self.drop_kind == "function" and self.rescale != "none" and "rescale" not in self.takes:
            raise ValueError("rescale: a drop function scales what it keeps by itself, unless it takes the key")
        if self.options and not known:
            raise ValueError("options: nothing reads them where there is no function")
        names = [option.name for option in self.options]
        if len(set(names)) < len(names):
            raise ValueError(f"options: one name twice among {', '.join(names)}")

    @property
    def kind(self) -> str:
        """Return "delta" for a row of drop, elect and fuse; else the method's own name."""
        return "delta" if self.merge is None else self.name

    @property
    def drop_kind(self) -> str:
        """How deltas are dropped: a word of the table, or "function"."""
        return self.drop if isinstance(self.drop, str) and ":" not in self.drop else "function"

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
        """Whether random words have a say, so that the seed matters: in a cut they order equal magnitudes."""
        return "seed" in self.takes or self.drop_kind not in ("none", "function")

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
            return "rescale" in self.takes or self.drop_kind not in ("none", "function")
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
            "options": [option.as_dict() for option in self.options],
            "version": self.version,
            "package": self.package,
        }

    def option(self, name: str) -> Option | None:
        """Return the method's own key of a name; None where it has none."""
        return next((option for option in self.options if option.name == name), None)

    def function(self) -> MergeFunction | None:
        """Return the function that merges a whole tensor, imported; None where the method is a row.

        Raises MergeError where it cannot be imported.
        """
        return self._imported(self.merge) if isinstance(self.merge, str) else self.merge

    def drop_function(self) -> DropFunction | None:
        """Return the row's own drop, imported; None where it has none.

        Raises MergeError where it cannot be imported.
        """
        if not isinstance(self.drop, str):
            return self.drop
        return self._imported(self.drop) if self.drop_kind == "function" else None

    def check_functions(self) -> None:
        """Import what another package's method names as its functions.

        Raises MergeError where it cannot be imported.
        """
        if self.package != BUILT_IN:
            self.function()
            self.drop_function()

    def _imported(self, name: str) -> Callable[..., torch.Tensor]:
        try:
            function: Callable[..., torch.Tensor] = resolve_name(name)
        except (ImportError, AttributeError, ValueError) as error:
            what = f"package {self.package} names {name} as its function, which does not load"
            text = f"merge_method={self.name}: {what}: {type(error).__name__}: {error}"
            raise MergeError(text, exit_code=2) from error
        return function

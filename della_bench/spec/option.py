"""A key that one merge method has of its own, beside those that every spec has."""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["Option", "OptionValue"]

# The keys of every spec (`keys.py`), which no method may give another meaning.
_KEYS = (
    "base", "experts", "slices", "merge_method", "weights", "density", "epsilon", "lambda", "rescale", "elect",
    "normalize", "seed", "dtype", "tokenizer", "tokens", "pad_to_multiple_of", "chat_template", "name", "config",
)  # fmt: skip

OptionValue = float | int | bool | tuple[float, ...]
"""What a spec holds of an option; a tuple where there is one number an expert."""


@dataclass(frozen=True)
class Option:
    """A key of a spec that a method has beside those of all methods.

    Its value is part of the spec's canonical form and digest, and is handed to the method's function as the keyword
    argument of its name. Raises ValueError where its parts do not fit together.
    """

    name: str
    meaning: str
    kind: type[float] | type[int] | type[bool] = float  # a number, a whole number, or true and false
    default: float | int | bool | None = None  # it must be given where None
    least: float | None = None
    most: float | None = None
    each: bool = False  # one number for all experts or one each; a merge gets a tuple, a drop its expert's number
    added: bool = False  # to a method that had none: digests without it stay, as its default is what was always done

    def __post_init__(self) -> None:  # noqa: D105
        if not re.fullmatch("[a-z][a-z0-9_]*", self.name) or self.name in _KEYS:
            raise ValueError(f"option {self.name!r}: a name of small letters that is no key of all specs is needed")
        if self.added and self.default is None:
            raise ValueError(f"option {self.name!r}: what is added to a method needs a default, what it did before")
        if self.each and self.kind is not float:
            raise ValueError(f"option {self.name!r}: only numbers can be one for each expert")

    @property
    def allowed(self) -> str:
        """Which values it takes, in words."""
        if self.kind is bool:
            return "true or false"
        what = "a whole number" if self.kind is int else "a number"
        low, high = (None if end is None else f"{end:g}" for end in (self.least, self.most))
        if low and high:
            what += f" in [{low}, {high}]"
        elif low or high:
            what += f" of at least {low}" if low else f" of at most {high}"
        return what + ", one for all or one for each expert" * self.each

    def as_dict(self) -> dict[str, str | float | bool | None]:
        """Return what it is, in plain values for JSON."""
        return {
            "name": self.name,
            "meaning": self.meaning,
            "kind": {float: "number", int: "whole number", bool: "switch"}[self.kind],
            "default": self.default,
            "least": self.least,
            "most": self.most,
            "each": self.each,
        }

    @property
    def described(self) -> str:
        """What it means, which values it takes and what counts where none is given."""
        default = "" if self.default is None else f", default {str(self.default).lower()}"
        return f"{self.meaning}; {self.allowed}{default}"

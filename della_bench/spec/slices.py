"""The slices of a spec: which layers of which sources a merge is stacked of.

A merge of slices has the layers of its slices, one slice after the other. A slice names a range of layers of each
source that takes part in it, all of one length, and its layers are merged of these; the base alone is taken as it is.
What comes before the layers (the embedding) is merged of the sources of the first slice, and what comes after them (the
last norm, the head) of those of the last one, as in mergekit.

    1:0-16/2:8-24         layers 0 to 15 of the first expert, then layers 8 to 23 of the second
    0:0-4+1:0-4/0:2-6     the base (source 0) and the first expert merged, then layers 2 to 5 of the base
    0-32                  all sources, layers 0 to 31

In YAML and JSON it is a list of slices, each written so or as a list of {source: 1, layers: [0, 16]}.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeGuard

from della_bench.spec.method import Method

__all__ = ["Piece", "Place", "Slice", "Slices", "check_slices", "read_slices", "slice_text", "sources_of"]

_PIECE = re.compile(r"(?:(\d+):)?(\d+)-(\d+)")
_ALLOWED = "slices are source:start-stop, with + between the sources of a slice and / between slices: 1:0-16/2:8-24"


@dataclass(frozen=True)
class Piece:
    """Layers `start` to `stop` - 1 of a source: 0 is the base, 1 the first expert; None, in what is read, every one."""

    source: int | None
    start: int
    stop: int

    @property
    def layers(self) -> range:
        """The layers that it takes."""
        return range(self.start, self.stop)

    def __str__(self) -> str:
        """Return its text: 1:0-16."""
        return f"{self.start}-{self.stop}" if self.source is None else f"{self.source}:{self.start}-{self.stop}"


Slice = tuple[Piece, ...]
Slices = tuple[Slice, ...]


@dataclass(frozen=True)
class Place:
    """Where a tensor of a merge lies.

    depth: 0 in the first layer of its slice to 1 in the last, 0 outside layers. slice: the number of its slice; None
    where the merge has none. members: the experts that the tensor is merged of, each as (its position in the spec, the
    name of its own tensor, in the base's manner); None for all experts, under the tensor's own name. origin: all that
    it is made of, the base too, as source:layer, or as the source alone outside layers.
    """

    depth: float
    slice: int | None = None
    members: tuple[tuple[int, str], ...] | None = None
    origin: tuple[str, ...] = ()


def read_slices(value: object) -> Slices:
    """Read slices in their short form or as lists. Raises ValueError."""
    if isinstance(value, str):
        value = value.strip().split("/")
    if not _is_list(value) or not value:
        raise ValueError(_ALLOWED)
    return tuple(_read_slice(item) for item in value)


def _read_slice(item: object) -> Slice:
    if isinstance(item, str):
        item = item.split("+")
    elif isinstance(item, Mapping):
        item = [item]
    if not _is_list(item) or not item:
        raise ValueError(_ALLOWED)
    return tuple(_read_piece(one) for one in item)


def _read_piece(item: object) -> Piece:
    if isinstance(item, str) and (match := _PIECE.fullmatch(item.strip())):
        return Piece(None if match[1] is None else int(match[1]), int(match[2]), int(match[3]))
    if isinstance(item, Mapping) and item.keys() <= {"source", "layers"}:
        source, layers = item.get("source"), item.get("layers")
        if _is_list(layers) and len(layers) == 2 and (source is None or _is_count(source)):
            start, stop = layers
            if _is_count(start) and _is_count(stop):
                return Piece(source, start, stop)
    raise ValueError(f"{item!r}: {_ALLOWED}")


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_list(value: object) -> TypeGuard[Sequence[object]]:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def sources_of(count: int, *, with_base: bool) -> list[int]:
    """Return the numbers of all sources that a slice can take, in their order, for `count` experts."""
    return [*([0] if with_base else []), *range(1, count + 1)]


def spelled_out(slices: Slices, count: int, *, with_base: bool) -> Slices:
    """Return slices with a piece for each source in the place of one for every source; the base comes first."""
    every = sources_of(count, with_base=with_base)
    return tuple(
        tuple(
            sorted(
                (
                    Piece(source, piece.start, piece.stop)
                    for piece in pieces
                    for source in (every if piece.source is None else [piece.source])
                ),
                key=lambda piece: piece.source != 0,
            )
        )
        for pieces in slices
    )


def slice_text(pieces: Slice, count: int, *, with_base: bool) -> str:
    """Write a slice in its short form."""
    whole = Piece(None, pieces[0].start, pieces[0].stop)
    if spelled_out(((whole,),), count, with_base=with_base)[0] == pieces:
        return str(whole)
    return "+".join(map(str, pieces))


def check_slices(slices: Slices, row: Method, count: int, *, with_base: bool) -> list[str]:
    """Return all that is wrong with `spelled_out` slices of a method and `count` experts.

    Whether the sources have the layers is found out when they are opened.
    """
    faults = []
    for number, pieces in enumerate(slices):
        found = [_faults_of_piece(piece, count, row, with_base=with_base) for piece in pieces]
        named = [piece.source for piece in pieces]
        lengths = {piece.stop - piece.start for piece in pieces}
        if not any(found) and len(lengths) > 1:
            found.append(
                f"{'+'.join(map(str, pieces))}: ranges of unequal length; the sources of a slice have the same"
            )
        if doubled := sorted({str(source) for source in named if named.count(source) > 1}):
            found.append(f"source {', '.join(doubled)} is given twice; list it twice among the experts")
        if with_base and 0 not in named:
            found.append(f"{row.name} merges what experts add to the base; add the base (0:start-stop)")
        if not any(found):
            found.append(_fault_of_count(row, sum(source != 0 for source in named), with_base=with_base))
        faults += [f"slices: slice {number}: {fault}" for fault in found if fault]
    if unused := [str(k) for k in range(1, count + 1) if all(piece.source != k for one in slices for piece in one)]:
        faults.append(f"slices: expert {', '.join(unused)} is in no slice; leave it out of the experts")
    return faults


def _faults_of_piece(piece: Piece, count: int, row: Method, *, with_base: bool) -> str:
    if piece.source is not None and piece.source > count:
        return f"{piece}: there is no source {piece.source}; 0 is the base, and the experts are 1 to {count}"
    if piece.source == 0 and not with_base:
        return f"{piece}: {row.name} takes nothing from the base (source 0); list it among the experts"
    if piece.start == piece.stop:
        return f"{piece}: an empty range; the last number is the first layer that is not taken"
    if piece.start > piece.stop:
        return f"{piece}: a reversed range; write {Piece(piece.source, piece.stop, piece.start)}"
    return ""


def _fault_of_count(row: Method, experts: int, *, with_base: bool) -> str:
    if row.experts is not None:
        wrong, wanted = experts != row.experts, f"exactly {row.experts}"
    else:
        # The base alone is a slice without a merge.
        least = 0 if with_base and row.least_experts == 1 else row.least_experts
        wrong, wanted = experts < least, f"at least {least}"
    return f"{row.name} takes {wanted} of the experts, got {experts}" if wrong else ""

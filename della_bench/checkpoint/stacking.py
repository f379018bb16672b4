"""A merge of slices, laid out: which layer of which source each of its layers is made of.

The layers of the merge are numbered anew, so each source is looked at through a view in which its layers have the
numbers that they have in the merge; whatever merges then finds one tensor of one name in all of them. The base's view
is the skeleton of the merge: it has all of its tensors, each that of the base, or, where a slice takes nothing from the
base, of the slice's first source.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from della_bench.checkpoint.architecture import Architectures
from della_bench.checkpoint.canonical import HEAD, parameters
from della_bench.checkpoint.differences import some
from della_bench.checkpoint.layer_config import LayerConfig, stacked_config
from della_bench.checkpoint.model import ModelFolder
from della_bench.checkpoint.tensor import HostTensor
from della_bench.errors import CheckpointError
from della_bench.spec import MergeSpec
from della_bench.spec.slices import Piece, Place

__all__ = ["Stacking", "View", "comes_before", "stack"]

_LAYER = re.compile(r"((?:^|.*?\.)(?:layers|layer|h|blocks|block)\.)(\d+)\.(.+)")
_BEFORE = re.compile(r"embed|embd|(^|\.)(wte|wpe)\.|rotary|relative_pe")


def comes_before(name: str) -> bool:
    """Whether a tensor outside layers is used before the first of them (an embedding), or after the last one."""
    return bool(_BEFORE.search(name)) and not HEAD.search(name)


class _Layers:
    """The layers of one source: what each has, by the rest of the tensors' names, and what lies outside of them."""

    def __init__(self, source: ModelFolder) -> None:
        """Raises CheckpointError where it is not one stack of layers."""
        self.source, self.config = source, LayerConfig(source)
        found = {name: match for name in source.tensors if (match := _LAYER.fullmatch(name))}
        stacks = sorted({match[1] for match in found.values() if not match[1].startswith("mtp.")})
        if len(stacks) != 1 or not self.config.count:
            what = f"{len(stacks)} stacks of layers ({', '.join(stacks)})" if stacks else "no layers with numbers"
            what = what if len(stacks) != 1 else "no number of layers in its config.json"
            raise CheckpointError(f"slices: {source.label} has {what}; slices are of a model with one stack of layers")
        self.prefix, self.count = stacks[0], self.config.count
        self.outside = [name for name in source.tensors if name not in found]
        self.names: list[dict[str, str]] = [{} for _ in range(self.count)]  # of each layer, by the name's rest
        for name, match in found.items():
            if match[1] == self.prefix and int(match[2]) < self.count:
                self.names[int(match[2])][match[3]] = name

    def outline(self, layer: int, needed: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
        """Return the shapes of a layer's parameters."""
        names = self.names[layer].items()
        return {rest: self.source.tensors[name].shape for rest, name in names if name in needed}


class View(ModelFolder):
    """A source under the names that its tensors have in the merge."""

    def __init__(
        self,
        source: ModelFolder,
        config: dict[str, Any],
        places: Mapping[str, tuple[ModelFolder, str]],
        members: frozenset[str] | None = None,
    ) -> None:
        """Look at `source`. places: the source of each tensor and its name there. members: what the merge takes."""
        self._source = source
        self.label, self.folder, self.hint, self.config = source.label, source.folder, source.hint, config
        origins = dict.fromkeys([source, *(origin for origin, _ in places.values())])
        self.files = list(dict.fromkeys(file for origin in origins for file in origin.files))
        lies = sorted((name, str(origin.folder), origin.recipe, own) for name, (origin, own) in places.items())
        self.recipe = hashlib.sha256(json.dumps(lies).encode()).hexdigest()
        self._places, self._members = places, members
        self.tensors = {name: origin.tensors[own] for name, (origin, own) in places.items() if own in origin.tensors}
        self.absent, self.generation_changes = source.absent, source.generation_changes

    @property
    def origin(self) -> ModelFolder:
        """The source."""
        return self._source

    @property
    def tokenizer_folder(self) -> Path:
        """That of the source."""
        return self._source.tokenizer_folder

    def tensor(self, name: str) -> HostTensor:
        """Return one tensor; raises CheckpointError as its source does."""
        source, own = self._places[name]
        return source.tensor(own)

    def must_fit(self, name: str) -> bool:
        """Do what the source does."""
        source, own = self._places[name]
        return source.must_fit(own)

    def concerns(self, name: str) -> bool:
        """Whether the merge takes a tensor, by its name in the merge, from this source."""
        return self._members is None or name in self._members

    def inputs(self, role: str) -> list[tuple[str, Path]]:
        """Return those of the source; what else stands in a skeleton are files of the experts, told as theirs."""
        return self._source.inputs(role)


@dataclass(frozen=True)
class Stacking:
    """How a merge of slices is laid out: views of base and experts, and where each tensor of the merge lies.

    changes: the keys that its config has other than the base's. faults: why it cannot be made, found so far.
    """

    base: View
    experts: list[View]
    places: Mapping[str, Place]
    after: Place  # of a tensor that is not among `places`: a head that only the experts have
    changes: dict[str, Any]
    faults: list[str]

    def place(self, name: str) -> Place:
        """Return where a tensor of the merge lies."""
        return self.places.get(name, self.after)


def stack(spec: MergeSpec, base: ModelFolder, experts: Sequence[ModelFolder]) -> Stacking | None:
    """Lay out a merge of slices over its opened sources; None where it has all layers of all, as without slices.

    Raises CheckpointError with all faults where none of the slices can be laid out; else they are among the result's,
    to be told beside those of what can.
    """
    sources = [base, *experts]
    layers = _layers_of(sources)
    whole = tuple(Piece(k, 0, layers[base].count) for k in range(len(sources)) if k or spec.merges_into_base)
    if spec.slices == (whole,) and len({each.count for each in layers.values()}) == 1:
        return None
    faults = [
        f"slices: slice {number}: {piece}: {source.label} has {layers[source].count} layers, "
        f"0 to {layers[source].count - 1}"
        for number, pieces in enumerate(spec.slices)
        for piece in pieces
        if piece.stop > layers[source := sources[piece.source or 0]].count
    ]
    there = [
        (number, pieces)
        for number, pieces in enumerate(spec.slices)
        if all(piece.stop <= layers[sources[piece.source or 0]].count for piece in pieces)
    ]
    if not there:
        raise CheckpointError("\n".join(faults))
    return _Layout(spec, layers, sources, there).stacking(faults)


def _layers_of(sources: Sequence[ModelFolder]) -> dict[ModelFolder, _Layers]:
    """Return the layers of each source. Raises CheckpointError with the faults of all."""
    found, faults = {}, []
    for source in dict.fromkeys(sources):
        try:
            found[source] = _Layers(source)
        except CheckpointError as error:
            faults.append(str(error))
    if faults:
        raise CheckpointError("\n".join(faults))
    return found


class _Layout:
    def __init__(
        self,
        spec: MergeSpec,
        layers: dict[ModelFolder, _Layers],
        sources: list[ModelFolder],
        slices: list[tuple[int, tuple[Piece, ...]]],
    ) -> None:
        self.spec, self.layers, self.sources, self.slices = spec, layers, sources, slices
        self.base = layers[sources[0]]
        # Of each layer of the merge: its slice, how deep it lies in it, and (source, layer) of each of its members.
        self.rows: list[tuple[int, float, list[tuple[int, int]]]] = []
        for number, pieces in slices:
            length = len(pieces[0].layers)
            for index in range(length):
                members = [(piece.source or 0, piece.start + index) for piece in pieces]
                self.rows.append((number, index / (length - 1) if length > 1 else 1.0, members))

        self.needed = {of: parameters(of.source) for of in layers.values()}
        self.usual = [self.base.outline(layer, self.needed[self.base]) for layer in range(self.base.count)]
        self.known = {rest for names in self.base.names for rest in names}
        self.architectures = Architectures(self.base.source)
        # Of each layer of the merge, the member that stands in the skeleton: the first one that is like the base's.
        self.first = [self._like_the_base([(layers[sources[k]], own) for k, own in row[2]]) for row in self.rows]

    def _like_the_base(self, members: list[tuple[_Layers, int]]) -> tuple[_Layers, int]:
        return next((each for each in members if not self._odd(*each)), members[0])

    def _odd(self, of: _Layers, layer: int) -> list[str]:
        """Return what makes a layer none of the base's kinds: what it lacks or has otherwise, and needs beside it.

        As in the merge of whole models, what only one side has and its model does not need makes no difference.
        """
        if of is self.base:
            return []
        outline = of.outline(layer, self.needed[of])
        kinds = ([rest for rest in like if outline.get(rest) != like[rest]] for like in self.usual)
        differing = min(kinds, key=len)  # from the kind that it is nearest to
        beside = [rest for rest in outline if rest not in self.known]
        if beside and (architecture := self.architectures.of(of.source)):
            beside = [rest for rest in beside if architecture.needs(of.names[layer][rest])]
        return [*differing, *beside]

    def stacking(self, faults: list[str]) -> Stacking:
        changes, unsayable = stacked_config(
            self.base.config, [(of.config, layer) for of, layer in self.first], self.sources[0].label
        )
        faults = [*faults, *unsayable, *self._odd_layers()]
        places = self._places()
        views = [self._view(k, changes, places) for k in range(1, len(self.sources))]
        after = self._outside(self.slices[-1], "")
        return Stacking(self._skeleton(changes), views, places, after, changes, faults)

    def _odd_layers(self) -> list[str]:
        """Return a fault for each source whose layers are not like the base's: one config is for all of them."""
        faults: dict[_Layers, str] = {}
        for of, layer in self.first:
            if of not in faults and (odd := self._odd(of, layer)):
                outlines = of.outline(layer, self.needed[of]), self.usual[min(layer, self.base.count - 1)]
                shapes = [list(each[odd[0]]) if odd[0] in each else "missing" for each in outlines]
                faults[of] = (
                    f"{of.source.label}: layer {layer} is not like the base's layers: {some(odd)} differ; "
                    f"{odd[0]} is {shapes[0]}, the base's {shapes[1]}"
                )
        return list(faults.values())

    def _places(self) -> dict[str, Place]:
        """Return where each tensor of the merge lies."""
        places: dict[str, Place] = {}
        for index, (number, depth, members) in enumerate(self.rows):
            of, layer = self.first[index]
            for rest in of.names[layer]:
                experts = tuple((k - 1, f"{self.base.prefix}{own}.{rest}") for k, own in members if k)
                origin = tuple(f"{k}:{own}" for k, own in members)
                places[f"{self.base.prefix}{index}.{rest}"] = Place(depth, number, experts, origin)
        for name in self.base.outside:
            places[name] = self._outside(self.slices[0 if comes_before(name) else -1], name)
        return places

    def _outside(self, one: tuple[int, tuple[Piece, ...]], name: str) -> Place:
        number, pieces = one
        members = tuple((piece.source - 1, name) for piece in pieces if piece.source)
        return Place(0.0, number, members, tuple(str(piece.source) for piece in pieces))

    def _skeleton(self, changes: dict[str, Any]) -> View:
        """Return the base's view: all tensors of the merge, in the dtypes that the base has for their like."""
        places: dict[str, tuple[ModelFolder, str]] = {}
        base = self.base.source
        dtypes = {rest: base.tensors[name].dtype for names in self.base.names for rest, name in names.items()}
        before = [name for name in self.base.outside if comes_before(name)]
        places |= {name: (base, name) for name in before}
        for index, (of, layer) in enumerate(self.first):
            for rest, own in of.names[layer].items():
                if rest in self.known:
                    places[f"{self.base.prefix}{index}.{rest}"] = (of.source, own)
        places |= {name: (base, name) for name in self.base.outside if name not in places}
        view = View(base, _changed(base.config, changes), places)
        for name, info in view.tensors.items():
            match = _LAYER.fullmatch(name)
            if match and info.is_float:
                view.tensors[name] = replace(info, dtype=dtypes.get(match[3], info.dtype))
        return view

    def _view(self, k: int, changes: dict[str, Any], places: Mapping[str, Place]) -> View:
        """Return the view of source `k`: the layers that the merge takes from it, and what it takes outside of them.

        The rest outside of them is there, too: an embedding may be the head, or have the row of a token for all.
        """
        of = self.layers[self.sources[k]]
        taken: dict[str, tuple[ModelFolder, str]] = {}
        for index, (_, _, members) in enumerate(self.rows):
            for layer in (own for member, own in members if member == k):
                taken |= {f"{of.prefix}{index}.{rest}": (of.source, own) for rest, own in of.names[layer].items()}
        taken |= {name: (of.source, name) for name in of.outside}
        concerned = frozenset(name for name, place in places.items() if k - 1 in dict(place.members or ()))
        is_last = any(piece.source == k for piece in self.slices[-1][1])
        heads = [name for name in of.outside if HEAD.search(name) and is_last]
        return View(of.source, _changed(of.source.config, changes), taken, concerned.union(heads))


def _changed(config: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config with changes, those of a part of it put into that part."""
    inner = {key: {**config.get(key, {}), **value} for key, value in changes.items() if isinstance(value, dict)}
    return {**config, **changes, **inner}

"""The experts of a mixture's layer in one tensor or each in its own: one model, looked at in the form of another.

transformers 5 computes with all experts of a layer in one tensor, (experts, rows, columns), in which gate and up lie
one below the other; most checkpoints hold a matrix for each expert and projection. Which form a file has depends on
who wrote it, so that a base may have the one and its fine-tune the other. Here, "fused" is the tensor of all experts,
and each matrix that goes into it is a part.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from della_bench.checkpoint.architecture import Architecture, Architectures, Part
from della_bench.checkpoint.model import ModelFolder
from della_bench.checkpoint.tensor import HostTensor, TensorInfo

__all__ = ["Form", "fused_form", "in_form_of", "parted_form"]

_Parts = Mapping[str, tuple[str, Part]]  # by the name of a part: the fused tensor's name, and where the part lies in it
_Fused = Mapping[str, Sequence[Sequence[str]]]  # by the name of a fused tensor: its parts' names, by expert


def in_form_of(source: ModelFolder, base: ModelFolder) -> ModelFolder:
    """Return a source with the experts of its mixture fused, or each in parts, as the base has them.

    A source that has the base's form already, or is no mixture, is returned as it is; so is what transformers does not
    know. What does not come out even (an expert is missing, shapes differ) stays as it is stored.
    """
    wanted = [name for name in base.tensors if ".experts." in name and name not in source.tensors]
    if not wanted or not any(".experts." in name for name in source.tensors):
        return source
    known = Architectures(base)
    ours, theirs = known.of(base), known.of(source)
    if ours is None or theirs is None:
        return source
    if parts := _parts_of(source, theirs, {name: part for name in wanted if (part := ours.part(name))}):
        return _Parted(source, parts)
    places = {ours.place(name): name for name in wanted}
    groups = {places[place]: names for place, names in _groups(source, theirs).items() if place in places}
    return _FusedView(source, groups) if groups else source


def fused_form(source: ModelFolder, known: Architectures) -> ModelFolder:
    """Return a source with fused experts under the names of transformers' model; as it is where it has them fused."""
    architecture = known.of(source)
    groups = _groups(source, architecture, by_place=False) if architecture else {}
    return _FusedView(source, groups) if groups else source


def parted_form(source: ModelFolder, names: Iterable[str], known: Architectures) -> ModelFolder:
    """Return a source in which the fused tensors that some names are parts of are split into these parts."""
    wanted = [name for name in names if ".experts." in name and name not in source.tensors]
    architecture = known.of(source) if wanted else None
    if architecture is None:
        return source
    parts: dict[str, Part] = {}
    for name in wanted:
        if name not in parts:
            parts |= architecture.siblings(name)  # all parts of that tensor, so that nothing of it is lost
    found = _parts_of(source, architecture, parts)
    return _Parted(source, found) if found else source


def _parts_of(source: ModelFolder, architecture: Architecture, parts: Mapping[str, Part]) -> _Parts:
    """Return which of some parts lie in the source's fused tensors, those alone of which all parts are asked for."""
    places = {architecture.place(name): name for name, info in source.tensors.items() if len(info.shape) == 3}
    asked: dict[str, dict[str, Part]] = {}
    for name, part in parts.items():
        if own := places.get(architecture.place(part.fused)):
            asked.setdefault(own, {})[name] = part
    found: dict[str, tuple[str, Part]] = {}
    for own, each in asked.items():
        experts, rows, _ = source.tensors[own].shape
        lie = {(part.expert, part.index) for part in each.values()}
        count = next(iter(each.values())).count
        if lie == {(expert, index) for expert in range(experts) for index in range(count)} and rows % count == 0:
            found |= {name: (own, part) for name, part in each.items()}
    return found


def _groups(source: ModelFolder, architecture: Architecture, *, by_place: bool = True) -> _Fused:
    """Return the parts of each tensor that the source's parts make: by its place, or by its name in the model."""
    lie: dict[str, dict[tuple[int, int], str]] = {}
    counts: dict[str, int] = {}
    for name in source.tensors:
        if ".experts." in name and (part := architecture.part(name)):
            fused = architecture.place(part.fused) if by_place else part.fused
            lie.setdefault(fused, {})[part.expert, part.index] = name
            counts[fused] = part.count
    found = {}
    for fused, names in lie.items():
        rows, left = divmod(len(names), counts[fused])
        places = [[(expert, index) for index in range(counts[fused])] for expert in range(rows)]
        infos = {source.tensors[name] for name in names.values()}
        if not left and len(infos) == 1 and all(place in names for row in places for place in row):
            found[fused] = [[names[place] for place in row] for row in places]
    return found


class Form(ModelFolder):
    """A source whose fused tensors, or their parts, have another form; all else is the source's own."""

    def __init__(self, source: ModelFolder, own: Mapping[str, Sequence[str]], made: Mapping[str, TensorInfo]) -> None:
        """own: by the name of each tensor that is made, the source's tensors it is made of. made: what they are."""
        self.source, self._own = source, own
        self.label, self.folder, self.hint, self.config = source.label, source.folder, source.hint, source.config
        self.files, self.absent, self.generation_changes = source.files, source.absent, source.generation_changes
        self.recipe = hashlib.sha256(json.dumps([source.recipe, sorted(own.items())]).encode()).hexdigest()
        used = {name for names in own.values() for name in names}
        self.tensors = {name: info for name, info in source.tensors.items() if name not in used} | dict(made)

    @property
    def tokenizer_folder(self) -> Path:
        """That of the source."""
        return self.source.tokenizer_folder

    def inputs(self, role: str) -> list[tuple[str, Path]]:
        """Return those of the source."""
        return self.source.inputs(role)

    def must_fit(self, name: str) -> bool:
        """Do what the source does with what the tensor is made of."""
        return any(map(self.source.must_fit, self._own.get(name, [name])))


class _Parted(Form):
    """A source with fused experts, in parts. A part is a stretch of the fused tensor's rows, and takes no memory."""

    def __init__(self, source: ModelFolder, parts: _Parts) -> None:
        self._parts = parts
        made = {}
        for name, (own, part) in parts.items():
            _, rows, columns = source.tensors[own].shape
            made[name] = TensorInfo((rows // part.count, columns), source.tensors[own].dtype)
        super().__init__(source, {name: [own] for name, (own, _) in parts.items()}, made)

    def tensor(self, name: str) -> HostTensor:
        """Return one tensor; raises CheckpointError as its source does."""
        if name not in self._parts:
            return self.source.tensor(name)
        own, part = self._parts[name]
        return self.source.expert(own, part.expert).piece(part.index, part.count)


class _FusedView(Form):
    """A source with its experts in parts, fused: copies of all of them, one below the other."""

    def __init__(self, source: ModelFolder, groups: _Fused) -> None:
        self._groups = groups
        made = {}
        for name, parts in groups.items():
            info = source.tensors[parts[0][0]]
            made[name] = TensorInfo((len(parts), len(parts[0]) * info.shape[0], *info.shape[1:]), info.dtype)
        super().__init__(source, {name: [own for row in parts for own in row] for name, parts in groups.items()}, made)

    def tensor(self, name: str) -> HostTensor:
        """Return one tensor; raises CheckpointError as its source does."""
        if name not in self._groups:
            return self.source.tensor(name)
        parts = (self.source.tensor(own) for row in self._groups[name] for own in row)
        return HostTensor.joined(parts, self.tensors[name])

    def expert(self, name: str, number: int) -> HostTensor:
        """Return one expert's part of a fused tensor, read alone."""
        if name not in self._groups:
            return self.source.expert(name, number)
        info = self.tensors[name]
        parts = map(self.source.tensor, self._groups[name][number])
        return HostTensor.joined(parts, TensorInfo(info.shape[1:], info.dtype))

"""A merge as the source of another one: a model whose tensors are merged when they are asked for, and never written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol
from weakref import WeakValueDictionary

from della_bench.checkpoint import HostTensor, ModelFolder, TensorInfo
from della_bench.checkpoint.resolve import resolve
from della_bench.checkpoint.tokenizers import tokenizer_files
from della_bench.merge.config import Configured, merged_config
from della_bench.merge.vocabulary import generation_changes
from della_bench.spec.source import Source
from della_bench.spec.templates import AUTO, Template

__all__ = ["Staged"]


class _Merge(Configured, Protocol):
    """What `Staged` needs of a `della_bench.merge.stream.Merge`, which makes it."""

    @property
    def sources(self) -> list[ModelFolder]: ...

    @property
    def tokenizer_folder(self) -> Path: ...

    def info(self, name: str) -> TensorInfo: ...

    def stream_host(self, names: Iterable[str] | None = None) -> Iterator[tuple[str, HostTensor]]: ...


class Staged(ModelFolder):
    """A merge that another merge takes as its base or as an expert.

    A tensor is rounded to the dtype that the merge has, as if it had been written. Config and tokenizer are its base's,
    but for what a vocabulary of its own changes.
    """

    def __init__(self, merge: _Merge) -> None:
        """Take an opened merge; nothing is read yet."""
        self._merge, self.label, self.folder = merge, merge.spec.display_name, merge.base.folder
        self.spec, self.sources = merge.spec, merge.sources
        self.config = merged_config(merge)
        self.tensors = {name: merge.info(name) for name in merge.names}
        self.files = list(dict.fromkeys(path for source in merge.sources for path in source.files))
        # Which model stands where counts: their files are told in no order.
        own = None if merge.vocabulary is None else merge.vocabulary.digest
        self.recipe = hashlib.sha256(json.dumps([merge.spec.digest, own]).encode()).hexdigest()
        self.generation_changes = generation_changes(merge.vocabulary, merge.base)
        self._in_use: WeakValueDictionary[str, HostTensor] = WeakValueDictionary()

    def tensor(self, name: str) -> HostTensor:
        """Merge one tensor. While someone holds it, others get the same."""
        tensor = self._in_use.get(name)
        if tensor is None:
            tensor = self._in_use[name] = dict(self._merge.stream_host([name]))[name]
        return tensor

    @property
    def tokenizer_folder(self) -> Path:
        """Where the merge's tokenizer lies: its base's, unless it has one of its own."""
        return self._merge.tokenizer_folder

    def inputs(self, role: str) -> list[tuple[str, Path]]:
        """Return (role, path) of each file that its tensors depend on: those of its sources, each in its place."""
        base, *experts = self.sources
        found = base.inputs(f"{role}, base")
        for position, expert in enumerate(experts):
            found += expert.inputs(f"{role}, expert {position}")
        if self._merge.vocabulary is not None or self.spec.chat_template == Template(AUTO):
            for position, source in enumerate((base, *experts)):
                own = tokenizer_files(source.tokenizer_folder)
                found += [(f"{role}, tokenizer {position}", path) for path in own]
        for what, choice in (("tokenizer", self.spec.tokenizer), ("chat template", self.spec.chat_template)):
            if isinstance(choice, Source) and choice not in self.spec.models:
                own = tokenizer_files(resolve(choice, weights=False))
                found += [(f"{role}, {what}", path) for path in own]
        return found

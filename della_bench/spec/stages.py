"""Sources that are merges of their own: how one is written, and how mergekit-multi's files name them.

A file of mergekit-multi holds several documents, each a merge; a document that names another's `name` where a model
stands takes that merge for a model.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from della_bench.errors import SpecError
from della_bench.spec.source import Source, encode
from della_bench.spec.varying import Varying, text

__all__ = ["Stage", "Translate", "merge_source", "read_documents", "read_source"]

Stage = Callable[[str], Source | None]
"""Returns the merge that a file calls by a name; None where it calls none so."""

Translate = Callable[[Mapping[str, object], str, Stage], dict[str, Any]]
"""Returns our keys for a document, whose place in errors is the text, with what its names stand for."""


def merge_source(keys: Mapping[str, object]) -> Source:
    """Return the source that is the merge of these keys; parsing the spec that holds it brings it to its final form."""
    return Source(json.dumps(keys, default=_plain), scheme="merge")


def read_source(value: object) -> Source:
    """Read a source given as text, a path, the keys of a merge, or a number that lm-eval has made of a text.

    Raises ValueError.
    """
    if isinstance(value, Source):
        return value
    if isinstance(value, os.PathLike):
        return Source(os.fspath(value))
    if isinstance(value, Mapping):
        return merge_source(value)
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ValueError("a source is a folder, a hub id org/name[@revision], or zoo:name")
    return Source.parse(str(value))


def _plain(value: object) -> str:
    if isinstance(value, Varying):
        return text(value)
    return str(Source(os.fspath(value))) if isinstance(value, os.PathLike) else str(value)


def read_documents(documents: Sequence[Mapping[str, object]], where: str, translate: Translate) -> dict[str, Any]:
    """Return our keys for the merge that several documents end in; the others are sources of it.

    That is the one without a name, or the only one that no other names. Raises SpecError with every fault of all
    documents: two of one name, a circle, a document that nothing uses.
    """
    reading = _Reading(translate, where)
    for number, document in enumerate(documents, start=1):
        reading.add(number, document)
    if not reading.faults:
        keys = reading.last()
    if reading.faults:
        raise SpecError(list(dict.fromkeys(reading.faults)))
    return keys


@dataclass
class _Reading:
    translate: Translate
    where: str
    faults: list[str] = field(default_factory=list)
    documents: dict[str, tuple[int, Mapping[str, object]]] = field(default_factory=dict)  # by name, "" for none
    keys: dict[str, dict[str, Any]] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    path: list[str] = field(default_factory=list)  # the names of the documents that are being read

    def add(self, number: int, document: Mapping[str, object]) -> None:
        name = str(document.get("name") or "")
        if name in self.documents:
            called = f"are both called {name!r}" if name else "both have no name, and only the last merge may have none"
            self.faults.append(f"{self.where}documents {self.documents[name][0]} and {number} {called}")
        self.documents[name] = number, {key: value for key, value in document.items() if key != "name"}

    def last(self) -> dict[str, Any]:
        for name in self.documents:
            self.read(name)
        ends = [name for name in self.documents if name not in self.used]
        end = "" if "" in ends else ends[-1] if ends else None
        for name in ends:
            if name != end:
                place = f"document {self.documents[name][0]} ({name!r})"
                self.faults.append(
                    f"{self.where}{place} is used by no other, and one merge comes out of a file; put it into one of "
                    "its own"
                )
        return {} if end is None else self.keys[end]

    def read(self, name: str) -> dict[str, Any]:
        if name in self.keys:
            return self.keys[name]
        number, document = self.documents[name]
        called = f" ({name!r})" if name else ""
        keys: dict[str, Any] = {}
        self.path.append(name)
        try:
            keys = self.translate(document, f"{self.where}document {number}{called}: ", self.stage)
        except SpecError as error:
            self.faults += error.faults
        self.path.pop()
        self.keys[name] = {**keys, "name": encode(name)} if name else keys
        return self.keys[name]

    def stage(self, name: str) -> Source | None:
        if not name or name not in self.documents:
            return None
        self.used.add(name)
        if name in self.path:
            circle = [*self.path[self.path.index(name) :], name]
            self.faults.append(f"{self.where}the documents name each other in a circle: {' needs '.join(circle)}")
            return Source("missing")
        return merge_source(self.read(name))

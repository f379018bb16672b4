"""The names of models in a mergekit configuration: a text, or the mapping that mergekit itself writes for some.

    org/model@revision+org/lora@revision
    {model: {path: org/model, revision: null}, lora: null, override_architecture: null}

The last key says which list of tensors mergekit takes for a model that it does not know. Here it means nothing: tensors
are those that the files hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["Reference"]

_NO_NAME = "not the name of a model"


@dataclass(frozen=True)
class Reference:
    """A model as mergekit tells it from others: where it is, its revision, and the LoRA adapter on it."""

    path: str
    revision: str | None = None
    adapter: Reference | None = None

    @classmethod
    def read(cls, name: object) -> Reference:
        """Read a name. Raises ValueError that says what it is not."""
        if isinstance(name, Reference):
            return name
        if isinstance(name, str):
            parts = name.split("+")
            if not name:
                raise ValueError(_NO_NAME)
            if len(parts) > 2 or not all(parts):
                raise ValueError("a model has one LoRA adapter at most, behind a plus sign: model+adapter")
            model, *adapter = map(_path, parts)
            return cls(model.path, model.revision, adapter[0] if adapter else None)
        if not isinstance(name, Mapping) or "model" not in name:
            raise ValueError(_NO_NAME)
        model, lora = _path(name["model"]), name.get("lora")
        return cls(model.path, model.revision, None if lora is None else _path(lora))

    def __str__(self) -> str:
        """Return the text that mergekit writes."""
        place = self.path if self.revision is None else f"{self.path}@{self.revision}"
        return place if self.adapter is None else f"{place}+{self.adapter}"


def _path(place: object) -> Reference:
    """Read a path with its revision: a text, where it stands behind an @, or a mapping."""
    path: object = None
    revision: object = None
    if isinstance(place, str):
        path, _, revision = place.partition("@")
    elif isinstance(place, Mapping):
        path, revision = place.get("path"), place.get("revision") or ""
    if not isinstance(path, str) or not path or not isinstance(revision, str):
        raise ValueError(_NO_NAME)
    return Reference(path, revision or None)

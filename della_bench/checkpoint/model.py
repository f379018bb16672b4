"""What every source is to a merge: a folder with a config and tensors by name, whatever they are stored in."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from della_bench.checkpoint.formats import TensorInfo
from della_bench.checkpoint.stored import Stored
from della_bench.errors import CheckpointError

if TYPE_CHECKING:
    import torch

__all__ = ["ModelFolder", "read_json"]


class ModelFolder(ABC):
    """A base or an expert: what errors call it, its config, and its tensors by name."""

    label: str
    folder: Path
    config: dict[str, Any]
    tensors: dict[str, TensorInfo]
    files: list[Path]  # all that its tensors depend on, the base's own files apart
    hint = ""  # what may explain that it does not fit

    @abstractmethod
    def load_over(self, name: str, base: torch.Tensor) -> torch.Tensor:
        """Return one tensor; `base` is the base's tensor of that name, on the CPU, which an adapter adds to."""

    def stored_over(self, name: str, base: Stored) -> Stored:
        """Do what `load_over` does on the CPU, without torch where nothing is to be computed."""
        return Stored.of(self.load_over(name, base.tensor()))

    @property
    def model_type(self) -> str:
        """The config's model_type: the architecture as transformers names it."""
        return str(self.config.get("model_type", "unknown"))

    @cached_property
    def tokenizer_config(self) -> dict[str, Any]:
        """What tokenizer_config.json holds; empty where there is none."""
        path = self.folder / "tokenizer_config.json"
        return read_json(path, self.label) if path.is_file() else {}


def read_json(path: Path, label: str) -> dict[str, Any]:
    """Return the object in a JSON file, or raise CheckpointError that names the file."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise CheckpointError(f"{label}: {path} cannot be read: {error}") from None
    if not isinstance(data, dict):
        raise CheckpointError(f"{label}: {path} holds no JSON object")
    return data

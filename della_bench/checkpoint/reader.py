"""Reading one whole model lazily: names and shapes from the headers, one tensor at a time from the files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from della_bench.checkpoint.model import ModelFolder, read_json
from della_bench.checkpoint.stored import Stored
from della_bench.checkpoint.weights import Weights
from della_bench.errors import CheckpointError

if TYPE_CHECKING:
    import torch

__all__ = ["Checkpoint"]


class Checkpoint(ModelFolder):
    """A model folder with weights in safetensors or torch's .bin files, single or sharded.

    Raises CheckpointError, naming the source and the file, when the folder is no model or a file is broken.
    """

    def __init__(self, folder: Path, label: str) -> None:
        """Read config and headers; `label` is what errors call the checkpoint."""
        self.folder = folder
        self.label = label
        if not (config := folder / "config.json").is_file():
            raise CheckpointError(f"{label}: no model folder: {folder} holds no config.json")
        self.config = read_json(config, label)
        self._weights = Weights(folder, label)
        self.tensors = self._weights.tensors
        self.files = [config, *self._weights.files]

    def stored(self, name: str) -> Stored:
        """Return one tensor as it lies in its file."""
        return self._weights.load(name)

    def load(self, name: str) -> torch.Tensor:
        """Return one tensor as stored, on the CPU."""
        return self.stored(name).tensor()

    def load_over(self, name: str, base: torch.Tensor) -> torch.Tensor:
        """Return one tensor as stored: a whole model needs nothing of the base."""
        return self.load(name)

    def stored_over(self, name: str, base: Stored) -> Stored:
        """Return one tensor as it lies in its file."""
        return self.stored(name)

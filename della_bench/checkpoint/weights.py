"""The tensors of a folder, in one file or in shards that an index names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from della_bench.checkpoint.formats import TensorInfo, WeightFile, open_file
from della_bench.checkpoint.model import read_json
from della_bench.checkpoint.stored import Stored
from della_bench.errors import CheckpointError

__all__ = ["ADAPTER_FILES", "Weights", "model_files"]

SAFETENSORS_INDEX = "model.safetensors.index.json"
TORCH_INDEX = "pytorch_model.bin.index.json"
ADAPTER_FILES = ("adapter_model.safetensors", "adapter_model.bin")


def model_files(folder: Path) -> list[str]:
    """Return the names of the files in a folder that hold a whole model's weights: safetensors before torch's."""
    safetensors = [path.name for path in folder.glob("*.safetensors") if path.name not in ADAPTER_FILES]
    return sorted(safetensors) or sorted(path.name for path in folder.glob("pytorch_model*.bin"))


class Weights:
    """Opened files and what is in them; one tensor at a time is loaded.

    Raises CheckpointError, naming the source (`label`) and the file.
    """

    def __init__(self, folder: Path, label: str) -> None:
        """Open the files of a folder without reading a tensor."""
        self._folder, self._label = folder, label
        self._files: dict[Path, WeightFile] = {}
        files = model_files(folder)
        index = TORCH_INDEX if files and files[0].endswith(".bin") else SAFETENSORS_INDEX
        if not (folder / index).is_file() and not files:
            index = TORCH_INDEX
        if (folder / index).is_file():
            self.tensors = self._sharded(index, read_json(folder / index, label).get("weight_map"))
        else:
            self.tensors = self._open(self._single(files, index)).tensors

    @property
    def files(self) -> list[Path]:
        """The files that are read."""
        return list(self._files)

    def load(self, name: str) -> Stored:
        """Return one tensor."""
        return self._files[self.tensors[name].file].load(name)

    def _open(self, file: str) -> WeightFile:
        path = self._folder / file
        self._files[path] = open_file(path, self._label)
        return self._files[path]

    def _single(self, files: list[str], index: str) -> str:
        usual = [file for file in files if file in ("model.safetensors", "pytorch_model.bin")]
        if usual or len(files) == 1:
            return (usual or files)[0]
        if files:
            raise CheckpointError(f"{self._label}: {len(files)} files of weights in {self._folder} but no {index}")
        raise CheckpointError(
            f"{self._label}: no weights in {self._folder}: neither *.safetensors nor pytorch_model*.bin"
        )

    def _sharded(self, index: str, weight_map: Any) -> dict[str, TensorInfo]:
        if (
            not isinstance(weight_map, dict)
            or not weight_map
            or not all(isinstance(file, str) for file in weight_map.values())
        ):
            raise CheckpointError(f"{self._label}: {self._folder / index} holds no weight_map from tensors to files")
        shards = sorted(set(weight_map.values()))
        if missing := [file for file in shards if not (self._folder / file).is_file()]:
            raise CheckpointError(f"{self._label}: {index} names shards that are not there: {', '.join(missing)}")
        found = {file: self._open(file).tensors for file in shards}
        if absent := [f"{name} ({file})" for name, file in weight_map.items() if name not in found[file]]:
            raise CheckpointError(f"{self._label}: {index} names tensors that no shard holds: {', '.join(absent)}")
        return {name: found[file][name] for name, file in weight_map.items()}

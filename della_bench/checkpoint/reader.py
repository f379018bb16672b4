"""Reading one checkpoint lazily: names and shapes from the headers, one tensor at a time from the files."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from della_bench.checkpoint.resolve import resolve
from della_bench.errors import CheckpointError
from della_bench.spec.source import Source

if TYPE_CHECKING:
    import torch

__all__ = ["FLOAT_DTYPES", "Checkpoint", "TensorInfo"]

# Names as in safetensors' headers.
FLOAT_DTYPES = ("F64", "F32", "F16", "BF16")
_EXACT_DTYPES = ("BOOL", "U8", "I8", "U16", "I16", "U32", "I32", "U64", "I64")
_INDEX = "model.safetensors.index.json"
_ADAPTER = "a LoRA adapter; merge it into its base model first"


@dataclass(frozen=True)
class TensorInfo:
    """What a header says of a tensor; `dtype` is safetensors' name (F32, BF16, I64, ...)."""

    shape: tuple[int, ...]
    dtype: str
    file: Path

    @property
    def is_float(self) -> bool:
        """Whether it is a tensor that a merge computes with."""
        return self.dtype in FLOAT_DTYPES

    def __str__(self) -> str:
        """Return dtype and shape: BF16 [32000, 4096]."""
        return f"{self.dtype} {list(self.shape)}"


class Checkpoint:
    """A model folder with safetensors weights, single or sharded.

    Raises CheckpointError, naming the source and the file, when the folder is no model or a file is broken.
    """

    def __init__(self, folder: Path, label: str) -> None:
        """Read config and headers; `label` is what errors call the checkpoint."""
        self.folder = folder
        self.label = label
        self.config: dict[str, Any] = self._json("config.json", needed=True)
        self._handles: dict[Path, Any] = {}
        self.tensors: dict[str, TensorInfo] = self._headers()

    @classmethod
    def open(cls, source: Source, *, trust_remote_code: bool = False) -> Checkpoint:
        """Resolve a source and read its headers."""
        return cls(resolve(source, trust_remote_code=trust_remote_code), str(source))

    def load(self, name: str) -> torch.Tensor:
        """Return one tensor as stored, on the CPU."""
        info = self.tensors[name]
        try:
            tensor: torch.Tensor = self._handles[info.file].get_tensor(name)
        except SafetensorError as error:
            raise CheckpointError(f"{self.label}: {info.file.name}: tensor {name} cannot be read: {error}") from None
        return tensor

    @cached_property
    def tokenizer_config(self) -> dict[str, Any]:
        """What tokenizer_config.json holds; empty where there is none."""
        return self._json("tokenizer_config.json")

    @property
    def model_type(self) -> str:
        """The config's model_type: the architecture as transformers names it."""
        return str(self.config.get("model_type", "unknown"))

    def _json(self, file: str, *, needed: bool = False) -> dict[str, Any]:
        path = self.folder / file
        if not path.is_file():
            if needed and (self.folder / "adapter_config.json").is_file():
                raise CheckpointError(f"{self.label}: {_ADAPTER}")
            if needed:
                raise CheckpointError(f"{self.label}: no model folder: {self.folder} holds no {file}")
            return {}
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, OSError) as error:
            raise CheckpointError(f"{self.label}: {path} cannot be read: {error}") from None
        if not isinstance(data, dict):
            raise CheckpointError(f"{self.label}: {path} holds no JSON object")
        return data

    def _headers(self) -> dict[str, TensorInfo]:
        if not (self.folder / _INDEX).is_file():
            return dict(self._file_headers(self._single_file()))
        weight_map = self._json(_INDEX).get("weight_map")
        if (
            not isinstance(weight_map, dict)
            or not weight_map
            or not all(isinstance(f, str) for f in weight_map.values())
        ):
            raise CheckpointError(f"{self.label}: {self.folder / _INDEX} holds no weight_map from tensors to files")
        shards = {file: self.folder / file for file in sorted(set(weight_map.values()))}
        if missing := [file for file, path in shards.items() if not path.is_file()]:
            raise CheckpointError(f"{self.label}: {_INDEX} names shards that are not there: {', '.join(missing)}")
        found = {file: dict(self._file_headers(path)) for file, path in shards.items()}
        if absent := [f"{name} ({file})" for name, file in weight_map.items() if name not in found[file]]:
            raise CheckpointError(f"{self.label}: {_INDEX} names tensors that no shard holds: {', '.join(absent)}")
        return {name: found[file][name] for name, file in weight_map.items()}

    def _single_file(self) -> Path:
        usual = self.folder / "model.safetensors"
        if usual.is_file():
            return usual
        files = sorted(self.folder.glob("*.safetensors"))
        if len(files) == 1 and files[0].name != "adapter_model.safetensors":
            return files[0]
        if (self.folder / "adapter_config.json").is_file():
            raise CheckpointError(f"{self.label}: {_ADAPTER}")
        if files:
            raise CheckpointError(f"{self.label}: {len(files)} safetensors files in {self.folder} but no {_INDEX}")
        if sorted(self.folder.glob("*.bin")):
            raise CheckpointError(
                f"{self.label}: only torch .bin weights in {self.folder}; convert them to safetensors"
            )
        raise CheckpointError(f"{self.label}: no safetensors weights in {self.folder}")

    def _file_headers(self, path: Path) -> Iterable[tuple[str, TensorInfo]]:
        try:
            handle: Any = safe_open(path, framework="pt")
            self._handles[path] = handle
            for name in handle.keys():  # noqa: SIM118 (a safe_open handle is no dict)
                view = handle.get_slice(name)
                yield name, TensorInfo(tuple(view.get_shape()), self._dtype(name, view.get_dtype()), path)
        except (SafetensorError, OSError, RuntimeError) as error:  # RuntimeError: torch cannot map the file
            raise CheckpointError(f"{self.label}: {path.name} is no readable safetensors file: {error}") from None

    def _dtype(self, name: str, dtype: str) -> str:
        if dtype not in FLOAT_DTYPES and dtype not in _EXACT_DTYPES:
            raise CheckpointError(
                f"{self.label}: tensor {name} has dtype {dtype}; weights in {', '.join(FLOAT_DTYPES)} can be merged"
            )
        return dtype

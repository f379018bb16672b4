"""What every source is to a merge: a folder with a config and tensors by name, whatever they are stored in."""

from __future__ import annotations

import copy
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol
from weakref import WeakValueDictionary

from della_bench.checkpoint.tensor import DTYPES, FLOAT_DTYPES, HostTensor, TensorInfo
from della_bench.errors import CheckpointError

__all__ = [
    "ADAPTER_FILES", "Checkpoint", "ModelFolder", "WeightFile", "check_dtypes", "check_pointers", "config_of",
    "file_state", "model_files", "open_shards", "read_json", "require_config", "unfinished_weights", "unwrapped",
]  # fmt: skip

ADAPTER_FILES = ("adapter_model.safetensors", "adapter_model.bin")
_POINTER = b"version https://git-lfs.github.com/spec/"
_MODEL_FILE = re.compile(r"(pytorch_)?model(-\d+-of-\d+)?\.(safetensors|bin)$")
# Modules that training puts around a model or its layers: torch.compile's, FSDP's, and that of recomputed activations.
_WRAPPER = re.compile(r"(?:^|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
_PARALLEL = "module."  # DistributedDataParallel's, around the whole model alone


class ModelFolder(ABC):
    """A base or an expert: what errors call it, its config, and its tensors by name."""

    label: str
    folder: Path
    config: dict[str, Any]
    tensors: dict[str, TensorInfo]
    files: list[Path]  # all that its tensors depend on, the base's own files apart
    recipe = ""  # what beside its files decides its tensors: the digest of how they are made from them
    generation_changes: Mapping[str, Any] = {}  # what its generation config has other than the file in its folder
    hint = ""  # what may explain that it does not fit
    absent: Sequence[str] = ()  # tensors that an index names and no file holds

    @abstractmethod
    def tensor(self, name: str) -> HostTensor:
        """Return one tensor; several threads may ask at once. Raises CheckpointError that names file and tensor."""

    def expert(self, name: str, number: int) -> HostTensor:
        """Return what a tensor of all experts of a mixture, (experts, rows, columns), holds of one of them."""
        tensor = self.tensor(name)
        part = tensor.piece(number, tensor.shape[0])
        return HostTensor(part.data, part.dtype, part.shape[1:])

    def inputs(self, role: str) -> list[tuple[str, Path]]:
        """Return (role, path) of each file that its tensors depend on; `role` is what the model is to a merge."""
        return [(role, path) for path in sorted(self.files)]

    @property
    def origin(self) -> ModelFolder:
        """The model itself, where this is only a view of it under other names."""
        return self

    @property
    def tokenizer_folder(self) -> Path:
        """Where its tokenizer's files lie."""
        return self.folder

    def must_fit(self, name: str) -> bool:
        """Whether a tensor that the base does not have makes this an expert of another base."""
        return False

    def concerns(self, name: str) -> bool:
        """Whether a merge takes a tensor, by its name in the merge, from this source."""
        return True

    @property
    def model_type(self) -> str:
        """The config's model_type: the architecture as transformers names it."""
        return str(self.config.get("model_type", "unknown"))

    @cached_property
    def tokenizer_config(self) -> dict[str, Any]:
        """What tokenizer_config.json holds; empty where there is none."""
        path = self.tokenizer_folder / "tokenizer_config.json"
        return read_json(path, self.label) if path.is_file() else {}


class WeightFile(Protocol):
    """One opened file of weights: what its header says, and its tensors, which are read when asked for."""

    path: Path
    tensors: dict[str, TensorInfo]

    def tensor(self, name: str) -> HostTensor:
        """Do what `ModelFolder.tensor` does."""


class Checkpoint(ModelFolder):
    """A whole model: config.json, and the file that holds each of its tensors.

    Raises CheckpointError, naming the source and the file, when the folder is no model or a tensor cannot be merged.
    """

    def __init__(self, folder: Path, label: str, weights: Mapping[str, WeightFile], absent: Sequence[str] = ()) -> None:
        """Read the config; `label` is what errors call the checkpoint, `weights` names each tensor's file."""
        self.folder, self.label = folder, label
        config = require_config(folder, label)
        self.config = read_json(config, label)
        opened = list({id(file): file for file in weights.values()}.values())
        check_dtypes(label, opened)
        own = unwrapped([*weights, *absent])
        self.absent = [name for name, stored in own.items() if stored not in weights]
        self._weights = {name: (weights[stored], stored) for name, stored in own.items() if stored in weights}
        self._in_use: WeakValueDictionary[str, HostTensor] = WeakValueDictionary()
        self.tensors = {name: file.tensors[stored] for name, (file, stored) in self._weights.items()}
        self.files = [config, *(file.path for file in opened)]

    def tensor(self, name: str) -> HostTensor:
        """Return one tensor as it lies in its file.

        While someone holds it, others get the same: the base's serves the merge and the adapters over it.
        """
        tensor = self._in_use.get(name)
        if tensor is None:
            file, stored = self._weights[name]
            tensor = file.tensor(stored)
            if tensor.info != self.tensors[name]:
                raise CheckpointError(
                    f"{self.label}: {file.path.name}: tensor {name} is {tensor.info} and not, as its header says, "
                    f"{self.tensors[name]}"
                )
            self._in_use[name] = tensor
        return tensor


def open_shards(
    folder: Path, label: str, base: ModelFolder | None, *, usual: str, open_file: Callable[[Path, str], WeightFile]
) -> Checkpoint | None:
    """Open a model in one file, of the `usual` name or the only one of its kind, or in several that an index names.

    As transformers has it, a file of the usual name comes before an index, which then is an older one's. All tensors of
    the shards are taken, those too that the index does not name. Those that only the index names are the checkpoint's
    `absent` ones.

    Returns None where the folder's weights are of another kind.
    """
    files, index = model_files(folder), folder / f"{usual}.index.json"
    if not (files[0].endswith(Path(usual).suffix) if files else index.is_file()):
        return None
    require_config(folder, label)
    if usual in files or not index.is_file():
        if usual not in files and len(files) > 1:
            raise CheckpointError(f"{label}: {len(files)} files of weights in {folder} but no {index.name}")
        file = open_file(folder / (usual if usual in files else files[0]), label)
        return Checkpoint(folder, label, dict.fromkeys(file.tensors, file))
    places = read_json(index, label).get("weight_map")
    if not isinstance(places, dict) or not places or not all(isinstance(shard, str) for shard in places.values()):
        raise CheckpointError(f"{label}: {index} holds no weight_map from tensors to files")
    shards = sorted(set(places.values()))
    if missing := [shard for shard in shards if not (folder / shard).is_file()]:
        raise CheckpointError(f"{label}: {index.name} names shards that are not there: {', '.join(missing)}")
    opened = {shard: open_file(folder / shard, label) for shard in shards}
    weights = {name: opened[shard] for name, shard in places.items() if name in opened[shard].tensors}
    for file in opened.values():
        weights |= {name: file for name in file.tensors if name not in weights}
    return Checkpoint(folder, label, weights, absent=[name for name in places if name not in weights])


def unwrapped(names: Iterable[str]) -> dict[str, str]:
    """Return {name: name in the file}: the model's own names of tensors that were saved from within a wrapper.

    `_orig_mod.model.norm.weight` is `model.norm.weight`, and so is `module.model.norm.weight` where all tensors are
    named so. transformers takes neither, and would make up all weights.
    """
    stored = list(names)
    own = [_WRAPPER.sub("", name) for name in stored]
    if all(name.startswith(_PARALLEL) for name in own):
        own = [name.removeprefix(_PARALLEL) for name in own]
    return dict(zip(own if len(set(own)) == len(own) else stored, stored, strict=True))


def model_files(folder: Path) -> list[str]:
    """Return the names of the files in a folder that hold a whole model's weights: safetensors before torch's.

    Files of the names that transformers gives come before others (a trainer's optimizer.safetensors).
    """
    safetensors = sorted(path.name for path in folder.glob("*.safetensors") if path.name not in ADAPTER_FILES)
    kinds = [safetensors, sorted(path.name for path in folder.glob("pytorch_model*.bin"))]
    named = [files for files in kinds if any(map(_MODEL_FILE.match, files))]
    return next(filter(None, [*named, *kinds]), [])


def check_dtypes(label: str, files: list[WeightFile]) -> None:
    """Raise CheckpointError where a tensor's dtype is none that a merge can read or copy."""
    for file in files:
        for name, info in file.tensors.items():
            if info.dtype not in DTYPES:
                raise CheckpointError(
                    f"{label}: {file.path.name}: tensor {name} has dtype {info.dtype}; weights in "
                    f"{', '.join(FLOAT_DTYPES)} can be merged"
                )


def require_config(folder: Path, label: str) -> Path:
    """Return where a model's config lies, or raise CheckpointError where the folder is no model."""
    if not (config := folder / "config.json").is_file():
        raise CheckpointError(f"{label}: no model folder: {folder} holds no config.json{_models_below(folder)}")
    return config


def _models_below(folder: Path) -> str:
    """Return in words which of the folders in one are models: a training run's are its checkpoints."""
    below = [path for path in folder.glob("*") if (path / "config.json").is_file()]
    if not below:
        return ""
    last = max(below, key=lambda path: (path.joinpath("config.json").stat().st_mtime, path.name))
    return f"; {len(below)} of the folders in it {'do' if below[1:] else 'does'} (the latest is {last.name})"


def unfinished_weights(folder: Path) -> str:
    """Return in words what a training run left in the place of weights, and what makes weights of it."""
    if any(folder.glob("global_step*")):
        return "; its weights are in DeepSpeed's own format: run the zero_to_fp32.py in it"
    if any(folder.glob("*/*.distcp")) or any(folder.glob("*.distcp")):
        return "; its weights are in torch's distributed format: run `accelerate merge-weights`"
    return ""


def file_state(path: Path) -> tuple[int, int, int, int]:
    """Return what tells a file from an earlier one of its name without reading it: (bytes, mtime, ctime, inode).

    Times are in nanoseconds. mtime alone is not enough: archives and copies set it, so that other contents may come
    with the same. The system sets ctime, at every change.
    """
    state = path.stat()
    return state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino


def check_pointers(paths: Iterable[Path], label: str) -> None:
    """Raise CheckpointError where a file is only the pointer that Git leaves in its place without LFS."""
    for path in paths:
        try:
            with path.open("rb") as file:
                start = file.read(len(_POINTER))
        except OSError:
            continue  # told by what needs the file
        if start == _POINTER:
            raise CheckpointError(
                f"{label}: {path} is a Git LFS pointer, not the file that it stands for: run `git lfs pull` in that "
                "folder, or download the file"
            )


def read_json(path: Path, label: str) -> dict[str, Any]:
    """Return the object in a JSON file, or raise CheckpointError that names the file."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise CheckpointError(f"{label}: {path} cannot be read: {error}") from None
    if not isinstance(data, dict):
        raise CheckpointError(f"{label}: {path} holds no JSON object")
    return data


def config_of(model_type: str, config: Mapping[str, Any], *left_out: str) -> Any:
    """Return what transformers' class of a model_type makes of a config; it raises whatever it comes across.

    It changes what it is given, and so it gets a copy.
    """
    from transformers import CONFIG_MAPPING

    kept = {key: value for key, value in config.items() if key not in left_out}
    return CONFIG_MAPPING[model_type].from_dict(copy.deepcopy(kept))

"""What a source is stored in: the formats, ours and those of other packages, and how a source is opened.

A format is a function `open(folder, label, base)`. It returns None where the folder is none of its kind, and else a
`ModelFolder`: for a whole model a `Checkpoint`, which is given a `WeightFile` for each tensor's name. `label` is what
errors call the source; `base` is the opened base where the source is an expert, for formats that only change one, and
None where the source is the base itself. Config and tokenizer are read from the folder as transformers lays them out.
From the hub only what the built-in formats read is downloaded.

A package adds a format by an entry point. This is the whole of one, for models in .npz files:

    # pyproject.toml
    [project.entry-points."della_bench.checkpoint_formats"]
    npz = "npz_weights:open_npz"

    # npz_weights.py
    import numpy as np

    from della_bench.checkpoint import Checkpoint, HostTensor, TensorInfo, dtype_name
    from della_bench.errors import CheckpointError


    class NpzFile:
        def __init__(self, path, label):
            self.path, self._label = path, label
            try:
                self._arrays = np.load(path)  # this short example reads every array for its shape; headers would do
                self.tensors = {name: TensorInfo(a.shape, dtype_name(a.dtype)) for name, a in self._arrays.items()}
            except Exception as error:
                raise CheckpointError(f"{label}: {path.name}: not readable: {error}") from error

        def tensor(self, name):
            try:
                return HostTensor.of(self._arrays[name])
            except Exception as error:
                raise CheckpointError(f"{self._label}: {self.path.name}: {name}: not readable: {error}") from error


    def open_npz(folder, label, base):
        files = [NpzFile(path, label) for path in sorted(folder.glob("*.npz"))]
        return Checkpoint(folder, label, {name: file for file in files for name in file.tensors}) if files else None

A file that cannot be read is the format's to report, as above: what it does not catch names the package, but not the
file. `tensor` is called from several threads. `HostTensor.of` takes any layout and byte order; the array should be
writable, or torch warns. dtypes, shapes and a missing config are checked by `Checkpoint`. A folder that holds
safetensors or `pytorch_model*.bin` is opened by these and never reaches another format.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Protocol

from della_bench.checkpoint.adapter import open_adapter
from della_bench.checkpoint.architecture import Architectures
from della_bench.checkpoint.files import SafetensorsFile, TorchFile
from della_bench.checkpoint.fused import in_form_of
from della_bench.checkpoint.model import ModelFolder, check_pointers, open_shards, require_config, unfinished_weights
from della_bench.checkpoint.pairing import pair
from della_bench.checkpoint.resolve import resolve
from della_bench.errors import CheckpointError, DellaBenchError
from della_bench.packages import offered, package_of
from della_bench.spec.source import Source

__all__ = ["BUILT_IN", "GROUP", "Format", "open_adapted", "open_folder", "open_source"]

_READ = {".bin", ".jinja", ".json", ".model", ".safetensors", ".tiktoken", ".txt"}
GROUP = "della_bench.checkpoint_formats"


class Format(Protocol):
    """What opens the folders of one kind; see above."""

    def __call__(self, folder: Path, label: str, base: ModelFolder | None, /) -> ModelFolder | None:
        """Return the opened folder, or None where it is none of this format's. Raises CheckpointError."""


# Asked in this order, and before the installed packages' formats, which so cannot change what a folder means.
BUILT_IN: dict[str, Format] = {
    "peft": open_adapter,
    "safetensors": partial(open_shards, usual="model.safetensors", open_file=SafetensorsFile),
    "torch": partial(open_shards, usual="pytorch_model.bin", open_file=TorchFile),
}


def open_source(source: Source, base: ModelFolder | None = None, *, trust_remote_code: bool = False) -> ModelFolder:
    """Resolve a source and read its headers. base: the opened base, where the source is an expert."""
    if source.adapter is not None:
        model = open_source(replace(source, adapter=None), base, trust_remote_code=trust_remote_code)
        return open_adapted(model, source.adapter)
    opened = open_folder(resolve(source, trust_remote_code=trust_remote_code), str(source), base)
    return opened if base is None else in_form_of(opened, base)


def open_adapted(model: ModelFolder, adapter: Source) -> ModelFolder:
    """Open the LoRA adapter on a model: the two are one model, with the config and the tokenizer of the latter.

    Raises CheckpointError where it is no adapter, or changes what the model does not have.
    """
    label = f"{model.label}::{adapter}"
    opened = open_adapter(resolve(adapter), label, model, whole=True)
    if opened is None:
        raise CheckpointError(f"{label}: {adapter} is no LoRA adapter; behind :: stands a folder or hub id of one")
    if faults := pair(model, opened, Architectures(model)).faults:
        raise CheckpointError("\n".join(faults))
    return opened


def open_folder(folder: Path, label: str, base: ModelFolder | None = None) -> ModelFolder:
    """Open a folder by the first format that knows it. Raises CheckpointError, which begins with `label`."""
    check_pointers((path for path in sorted(folder.glob("*")) if path.suffix in _READ), label)
    for open_format in BUILT_IN.values():
        if (opened := open_format(folder, label, base)) is not None:
            return opened
    faults = []
    others = offered(GROUP)
    for entry in others:
        try:
            open_format = entry.load()
        except Exception as error:  # importing a stranger's package may raise anything
            faults.append(f"\n{_named(entry)} cannot be loaded: {type(error).__name__}: {error}")
            continue
        try:
            opened = open_format(folder, label, base)
        except DellaBenchError:
            raise
        except Exception as error:  # nor is what its function may raise known
            raise CheckpointError(f"{label}: {_named(entry)} failed: {type(error).__name__}: {error}") from error
        if isinstance(opened, ModelFolder):
            return opened
        if opened is not None:
            raise CheckpointError(f"{label}: {_named(entry)} returned a {type(opened).__name__}, not a ModelFolder")
    require_config(folder, label)
    asked = f", and no files of {', '.join(entry.name for entry in others)}" if others else ""
    raise CheckpointError(
        f"{label}: no weights in {folder}: neither *.safetensors nor pytorch_model*.bin{asked}"
        f"{unfinished_weights(folder)}{''.join(faults)}"
    )


def _named(entry: EntryPoint) -> str:
    version = f" {entry.dist.version}" if entry.dist else ""
    return f"the format {entry.name!r} of {package_of(entry)}{version} ({entry.value})"

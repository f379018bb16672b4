"""Files of weights: names, shapes and dtypes at once, one tensor at a time; safetensors and torch's .bin."""

from __future__ import annotations

import json
import mmap
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError, safe_open

from della_bench.checkpoint.tensor import ITEM_SIZES, Bytes, HostTensor, TensorInfo, dtype_name
from della_bench.errors import CheckpointError

if TYPE_CHECKING:
    import torch

__all__ = ["SafetensorsFile", "TorchFile"]


class SafetensorsFile:
    """A safetensors file, of which only the header is read at first.

    A tensor is mapped, copied on writing, for as long as someone looks at it: its pages are those of the page cache,
    and no memory of the process is touched for the first time.
    """

    def __init__(self, path: Path, label: str) -> None:
        self.path, self._where = path, f"{label}: {path.name}"
        try:
            with path.open("rb") as file:  # which says why it cannot be opened
                size = int.from_bytes(file.read(8), "little")
                with safe_open(path, framework="np"):  # checks the header against itself and against the file's size
                    pass
                header: dict[str, Any] = json.loads(file.read(size))
        except (SafetensorError, OSError, ValueError) as error:
            raise CheckpointError(f"{self._where} is no readable safetensors file: {error}") from None
        header.pop("__metadata__", None)
        self._starts = {name: 8 + size + entry["data_offsets"][0] for name, entry in header.items()}
        self.tensors = {
            name: TensorInfo(tuple(entry["shape"]), entry["dtype"])
            for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"])
        }

    def tensor(self, name: str) -> HostTensor:
        """Return one tensor."""
        info = self.tensors[name]
        try:
            data = _map(self.path, self._starts[name], info.nbytes)
        except OSError as error:
            reason = error.strerror or str(error)
            raise CheckpointError(f"{self._where}: tensor {name} cannot be read: {reason}") from None
        is_aligned = self._starts[name] % ITEM_SIZES[info.dtype] == 0
        return HostTensor(data if is_aligned else data.copy(), info.dtype, info.shape)


def _map(path: Path, start: int, size: int) -> Bytes:
    """Return bytes of a file, mapped; the system is asked to read them ahead. Raises OSError where it has fewer."""
    with path.open("rb", buffering=0) as file:
        if missing := max(0, start + size - os.fstat(file.fileno()).st_size):
            raise OSError(f"the file ends {missing} bytes too early")
        if not size:
            return np.empty(0, np.uint8)
        skipped = start % mmap.ALLOCATIONGRANULARITY
        mapped = mmap.mmap(file.fileno(), skipped + size, access=mmap.ACCESS_COPY, offset=start - skipped)
    if hasattr(mapped, "madvise"):
        mapped.madvise(mmap.MADV_WILLNEED)
    return np.frombuffer(mapped, np.uint8, size, skipped)


class TorchFile:
    """A file of torch.save: a pickle of which only tensors are taken, mapped into memory rather than read.

    A file in the format before torch 1.6 cannot be mapped: it is held in memory.
    """

    def __init__(self, path: Path, label: str) -> None:
        self.path, self._where = path, f"{label}: {path.name}"
        content = self._unpickled(path)
        nested = content.get("state_dict")
        entries = nested if isinstance(nested, dict) else content
        self._tensors = {str(name): entry.detach() for name, entry in entries.items() if hasattr(entry, "detach")}
        if not self._tensors:
            raise CheckpointError(f"{self._where} holds no tensors")
        self.tensors = {name: self._info(name, tensor) for name, tensor in self._tensors.items()}

    def tensor(self, name: str) -> HostTensor:
        """Return one tensor."""
        return HostTensor.of(self._tensors[name])

    def _unpickled(self, path: Path) -> dict[Any, Any]:
        import torch

        try:
            with path.open("rb") as file:
                is_zip = file.read(4) == b"PK\x03\x04"
            content = torch.load(str(path), map_location="cpu", weights_only=True, mmap=is_zip)
        except Exception as error:  # an unpickler of a broken file raises whatever its bytes make it do
            text = str(error)
            if wanted := re.search(r"GLOBAL ([\w.]+)", text):
                reason = f"is refused: its pickle wants {wanted[1]}, and only tensors are taken from one"
            else:
                reason = f"is no readable torch file: {_essence(text) or type(error).__name__}"
            raise CheckpointError(f"{self._where} {reason}") from None
        if not isinstance(content, dict):
            raise CheckpointError(f"{self._where} holds a {type(content).__name__}, not tensors by name")
        return content

    def _info(self, name: str, tensor: torch.Tensor) -> TensorInfo:
        import torch

        if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta:
            kind = "quantised" if tensor.is_quantized else "without data" if tensor.is_meta else str(tensor.layout)
            raise CheckpointError(f"{self._where}: tensor {name} is {kind}; only plain tensors can be merged")
        return TensorInfo(tuple(tensor.shape), dtype_name(tensor.dtype))


def _essence(text: str) -> str:
    """Return the one line of torch's long message that says what is wrong with the file."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    inner = lines[2:3] if text.startswith("Weights only load failed") else lines[:1]
    return inner[0].partition(". ")[0] if inner else ""

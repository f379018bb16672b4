"""The merge as a stream of named tensors: sources in, one merged tensor at a time out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cached_property

import torch

from della_bench.checkpoint import Fit, ModelFolder, TensorInfo, check_fit, open_base, open_expert
from della_bench.checkpoint.formats import SAFETENSORS_NAMES
from della_bench.errors import MergeError
from della_bench.merge.kernels import is_finite, merge_tensor_fast
from della_bench.spec import MergeSpec, Source

__all__ = ["Merge"]


class Merge:
    """A spec with its opened sources, checked to fit together; no weight is read until a tensor is asked for."""

    def __init__(self, spec: MergeSpec, *, trust_remote_code: bool = False) -> None:
        """Open base and experts. Raises CheckpointError with all mismatches."""
        self.spec = spec
        self.base = open_base(spec.base, trust_remote_code=trust_remote_code)
        opened: dict[Source, ModelFolder] = {spec.base: self.base}
        for source in spec.experts:
            if source not in opened:
                opened[source] = open_expert(source, self.base, trust_remote_code=trust_remote_code)
        self.fits: list[Fit] = check_fit(self.base, [opened[source] for source in spec.experts])
        self._dtype: torch.dtype | None = getattr(torch, spec.dtype) if spec.dtype else None

    @property
    def names(self) -> list[str]:
        """The names of the merged tensors: the base's parameters, in its checkpoint's order."""
        return list(self.fits[0].base)

    @cached_property
    def identity(self) -> str:
        """SHA-256 (hex) over the spec and its input files, told by name, size and time of change.

        It guards caches on this machine; it is not a digest of the files' contents.
        """
        files = []
        for checkpoint in (self.base, *(fit.expert for fit in self.fits)):
            for path in sorted(checkpoint.files):
                state = path.stat()
                files.append([str(path), state.st_size, state.st_mtime_ns])
        return hashlib.sha256(json.dumps([self.spec.digest, files]).encode()).hexdigest()

    def info(self, name: str) -> TensorInfo:
        """Return shape and dtype (safetensors' name) of a merged tensor, without computing it."""
        info = self.base.tensors[name]
        if self.spec.dtype is None or not info.is_float:
            return info
        return replace(info, dtype=SAFETENSORS_NAMES[self.spec.dtype])

    def tensor(self, name: str, device: torch.device | str = "cpu") -> torch.Tensor:
        """Return one merged tensor on `device`, where it is also computed.

        Its bits depend on the spec, the name and the sources alone, not on the device or on what came before.
        """
        base = self.base.load(name)
        if not base.is_floating_point():
            return base.to(device)
        experts = [self._finite(fit.load(name, base).to(device), fit.expert.label, name) for fit in self.fits]
        base = self._finite(base.to(device), self.base.label, name)
        return merge_tensor_fast(self.spec, name, base, experts, self._dtype)

    def stream(
        self, device: torch.device | str = "cpu", names: Iterable[str] | None = None
    ) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield (name, merged tensor) for `names`, default all. At any time only one tensor's sources are held."""
        for name in self.names if names is None else names:
            yield name, self.tensor(name, device)

    @staticmethod
    def _finite(tensor: torch.Tensor, label: str, name: str) -> torch.Tensor:
        if not is_finite(tensor):
            raise MergeError(f"{label}: tensor {name} holds NaN or infinity; a merge needs finite weights", exit_code=2)
        return tensor

"""The merge as a stream of named tensors: sources in, one merged tensor at a time out."""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property
from itertools import islice

import torch

from della_bench.checkpoint import Fit, ModelFolder, TensorInfo, check_fit, open_base, open_expert
from della_bench.checkpoint.formats import SAFETENSORS_NAMES, TORCH_NAMES
from della_bench.errors import MergeError
from della_bench.merge.kernels import hold_buffers, is_finite, merge_tensor_fast
from della_bench.spec import MergeSpec, Source

__all__ = ["Merge"]

_Sources = tuple[torch.Tensor, list[torch.Tensor]]


class Merge:
    """A spec with its opened sources, checked to fit together; no weight is read until a tensor is asked for."""

    def __init__(self, spec: MergeSpec, *, trust_remote_code: bool = False) -> None:
        """Open base and experts. Raises CheckpointError with all mismatches."""
        self.spec, self.trust_remote_code = spec, trust_remote_code
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
        return self._merge(name, *self._load(name, torch.device(device), map))

    def stream(
        self, device: torch.device | str = "cpu", names: Iterable[str] | None = None
    ) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield (name, merged tensor) for `names`, default all.

        While one tensor merges, the sources of the next are read and checked in threads, two experts at a time; no more
        than these two tensors' sources are held at any time.
        """
        device = torch.device(device)
        wanted = iter(self.names if names is None else names)
        with (
            hold_buffers(),
            ThreadPoolExecutor(2, "della_bench-expert") as experts,
            ThreadPoolExecutor(1, "della_bench-reader") as reader,
        ):
            ahead: deque[tuple[str, Future[_Sources]]] = deque()

            def read_next() -> None:
                for name in islice(wanted, 1):
                    ahead.append((name, reader.submit(self._load, name, device, experts.map)))

            read_next()
            if device.type == "cpu":
                self._warm_up()
            while ahead:
                name, loading = ahead.popleft()
                sources = loading.result()
                del loading  # or it would hold the sources for as long as the consumer holds the tensor
                read_next()
                merged = self._merge(name, *sources)
                del sources
                yield name, merged
                del merged

    def _warm_up(self) -> None:
        """Load the compiled loops: it takes as long as reading a large tensor, so it is done beside that."""
        dtype = next((info.dtype for info in self.base.tensors.values() if info.is_float), "F32")
        one = torch.ones(1, dtype=getattr(torch, TORCH_NAMES[dtype]))
        self._merge("", one, [one] * len(self.fits))

    def _load(self, name: str, device: torch.device, spread: Callable[..., Iterable[torch.Tensor]]) -> _Sources:
        """Return the base's tensor and the experts', checked, on `device`; an integer tensor has no experts.

        spread: a `map`, which may read in threads.
        """
        stored = self.base.load(name)
        base = self._checked(stored, self.base, name, device)
        if not stored.is_floating_point():
            return base, []

        def load(fit: Fit) -> torch.Tensor:
            return self._checked(fit.load(name, stored), fit.expert, name, device)

        return base, list(spread(load, self.fits))

    def _merge(self, name: str, base: torch.Tensor, experts: list[torch.Tensor]) -> torch.Tensor:
        return merge_tensor_fast(self.spec, name, base, experts, self._dtype) if experts else base

    def _checked(self, tensor: torch.Tensor, source: ModelFolder, name: str, device: torch.device) -> torch.Tensor:
        if device.type == "cuda" and tensor.device.type == "cpu":
            tensor = tensor.pin_memory()
        return self._finite(tensor.to(device), source.label, name)

    @staticmethod
    def _finite(tensor: torch.Tensor, label: str, name: str) -> torch.Tensor:
        if tensor.is_floating_point() and not is_finite(tensor):
            raise MergeError(f"{label}: tensor {name} holds NaN or infinity; a merge needs finite weights", exit_code=2)
        return tensor

"""The merge as a stream of named tensors: sources in, one merged tensor at a time out."""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property, partial
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from della_bench.checkpoint import Fit, ModelFolder, TensorInfo, check_fit, open_base, open_expert
from della_bench.checkpoint.stored import SAFETENSORS_NAMES, TORCH_NAMES, Stored
from della_bench.errors import MergeError
from della_bench.merge.kernels.coverage import BrokenSourceError
from della_bench.merge.kernels.dispatch import is_finite, merge_stored_fast, merge_tensor_fast, working
from della_bench.merge.kernels.workers import Workers
from della_bench.spec import MergeSpec, Source

if TYPE_CHECKING:
    import torch

__all__ = ["Merge", "is_cpu"]

_Sources = TypeVar("_Sources")


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
        return dict(self.stream(device, [name]))[name]

    def stream(
        self, device: torch.device | str = "cpu", names: Iterable[str] | None = None
    ) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield (name, merged tensor) for `names`, default all.

        While one tensor merges, a thread loads the sources of the next; no more than these two tensors' sources are
        held at any time.
        """
        if is_cpu(device):
            for name, stored in self.stored(names, owned=True):
                tensor = stored.tensor()
                del stored
                yield name, tensor
                del tensor  # or its memory could not serve for the next
            return
        with ThreadPoolExecutor(2, "della_bench-expert") as pool:
            load = partial(self._load, device=device, spread=pool.map)
            for name, (base, experts) in _ahead(self._wanted(names), load):
                merged = self._merge_tensor(name, base, experts)
                del base, experts
                yield name, merged
                del merged

    def stored(self, names: Iterable[str] | None = None, *, owned: bool = False) -> Iterator[tuple[str, Stored]]:
        """Do what `stream` does on the CPU, without torch where nothing needs it.

        owned: whether a tensor that is a source's own gets memory of its own, rather than that of the source's file.
        """
        with working() as workers:
            for name, (base, experts) in _ahead(self._wanted(names), self._load_stored):
                merged = self._merge_stored(name, base, experts, workers)
                if owned and any(merged.address == source.address for source in (base, *experts)):
                    merged = replace(merged, data=merged.data.copy())
                del base, experts
                yield name, merged
                del merged

    def _wanted(self, names: Iterable[str] | None) -> Iterator[str]:
        return iter(self.names if names is None else names)

    def _load_stored(self, name: str) -> tuple[Stored, list[Stored]]:
        """Return the base's tensor and the experts', on the CPU; an integer tensor has no experts."""
        base = self.base.stored(name)
        return base, [fit.stored(name, base) for fit in self.fits] if base.is_float else []

    def _merge_stored(self, name: str, base: Stored, experts: list[Stored], workers: Workers) -> Stored:
        if not experts:
            return base
        try:
            return merge_stored_fast(self.spec, name, base, experts, self.info(name).dtype, workers)
        except BrokenSourceError as error:
            raise _not_finite([self.base, *(fit.expert for fit in self.fits)][error.position], name) from None

    def _load(
        self, name: str, device: torch.device | str, spread: Callable[..., Iterable[torch.Tensor]]
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Return the base's tensor and the experts', checked, on `device`; an integer tensor has no experts.

        spread: a `map`, which may load in threads.
        """
        stored = self.base.load(name)
        base = _on_device(stored, self.base, name, device)
        if not stored.is_floating_point():
            return base, []
        return base, list(spread(lambda fit: _on_device(fit.load(name, stored), fit.expert, name, device), self.fits))

    def _merge_tensor(self, name: str, base: torch.Tensor, experts: list[torch.Tensor]) -> torch.Tensor:
        import torch

        dtype: torch.dtype = getattr(torch, TORCH_NAMES[self.info(name).dtype])
        return merge_tensor_fast(self.spec, name, base, experts, dtype) if experts else base


def _ahead(names: Iterator[str], load: Callable[[str], _Sources]) -> Iterator[tuple[str, _Sources]]:
    """Yield (name, load(name)); a thread loads the next while the consumer has the last."""
    with ThreadPoolExecutor(1, "della_bench-reader") as reader:
        loading: deque[tuple[str, Future[_Sources]]] = deque()

        def load_next() -> None:
            loading.extend((name, reader.submit(load, name)) for name in islice(names, 1))

        load_next()
        while loading:
            name, future = loading.popleft()
            sources = [future.result()]
            del future
            load_next()
            yield name, sources.pop()  # nothing here may hold them while the consumer does something else


def is_cpu(device: torch.device | str) -> bool:
    """Whether a device is the CPU, told without torch."""
    return str(device).partition(":")[0] == "cpu"


def _on_device(tensor: torch.Tensor, source: ModelFolder, name: str, device: torch.device | str) -> torch.Tensor:
    """Return a tensor on a device other than the CPU. Raises MergeError where it is not finite."""
    if str(device).startswith("cuda") and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    tensor = tensor.to(device)
    if not is_finite(tensor):
        raise _not_finite(source, name)
    return tensor


def _not_finite(source: ModelFolder, name: str) -> MergeError:
    return MergeError(f"{source.label}: tensor {name} holds NaN or infinity; a merge needs finite weights", exit_code=2)

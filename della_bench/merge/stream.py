"""The merge as a stream of named tensors: sources in, one merged tensor at a time out."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from della_bench.checkpoint import (
    Fit,
    HostTensor,
    ModelFolder,
    TensorInfo,
    check_fit,
    dtype_name,
    open_adapted,
    open_source,
    resolve,
)  # fmt: skip
from della_bench.checkpoint.fused import in_form_of
from della_bench.checkpoint.rows import aligned
from della_bench.checkpoint.stacking import Stacking, stack
from della_bench.checkpoint.tensor import DTYPES, torch_dtype
from della_bench.checkpoint.vocabulary import Vocabulary
from della_bench.errors import CheckpointError, MergeError
from della_bench.merge.ahead import loaded_ahead
from della_bench.merge.kernels.coverage import BrokenSourceError
from della_bench.merge.kernels.dispatch import is_finite, merge_host_tensors, working
from della_bench.merge.on_device import BrokenTensorError, Task, merged_on_device
from della_bench.merge.plan import plan
from della_bench.merge.staged import Staged
from della_bench.spec import MergeSpec, Source
from della_bench.spec.varying import depth

if TYPE_CHECKING:
    import torch

__all__ = ["Cache", "Merge", "is_cpu", "open_part"]

Cache = Callable[[Fit, str], "torch.Tensor"]
"""Returns what `fit.tensor(name)` does, from memory where it was asked for before; on any device."""


class Merge:
    """A spec with its opened sources, checked to fit together; no weight is read until a tensor is asked for."""

    def __init__(
        self, spec: str | os.PathLike[str] | Mapping[str, object] | MergeSpec, *, trust_remote_code: bool = False
    ) -> None:
        """Open base and experts of a spec in any of its forms.

        Raises CheckpointError with all mismatches, MergeError where the function of another package's method does not
        load.
        """
        spec = MergeSpec.parse(spec)
        spec.method.check_functions()
        self.spec, self.trust_remote_code = spec, trust_remote_code
        self.cache: Cache | None = None  # asked in the place of the files
        opened = _opened(spec, trust_remote_code)
        self.base = opened[spec.base]
        fits, self.vocabulary, self.stacking = _fitted(spec, opened, trust_remote_code)
        if self.stacking is not None:
            self.base = self.stacking.base
        heads, infos = fits[0].heads, fits[0].parameters
        own = {name: heads.get(name, name) for name in infos}
        self._fits = [Fit(self.base, own, self.base, infos, heads), *fits]
        if self.vocabulary is not None:
            self._fits = aligned(self._fits, self.vocabulary.layout)
        self.fits: list[Fit] = self._fits[1:]
        # The plan says what does not fit before any weight is read.
        self.plan = plan(
            spec, {name: self.stacking.place(name) for name in self.names} if self.stacking else depth(self.names)
        )

    @property
    def names(self) -> list[str]:
        """The names of the merged tensors: the base's parameters, in its checkpoint's order, and a head of its own."""
        return list(self.fits[0].parameters)

    @property
    def sources(self) -> list[ModelFolder]:
        """The base and then the experts, one given twice twice."""
        return [fit.expert for fit in self._fits]

    @property
    def folders(self) -> list[Path]:
        """The folders that something of it is read from."""
        read = [path.parent for source in self.sources for path in source.files]
        return list(dict.fromkeys([*(source.folder for source in self.sources), *read]))

    @property
    def tokenizer_folder(self) -> Path:
        """Where the files of the merge's tokenizer lie: the base's, a source's, or a temporary folder.

        A temporary one is there for as long as the merge's `vocabulary`.
        """
        return self.base.tokenizer_folder if self.vocabulary is None else self.vocabulary.folder

    @property
    def settings_files(self) -> list[Path]:
        """The files beside the weights that decide how the merge answers: the base's generation config and own code."""
        folder = self.base.folder
        paths = [folder / "generation_config.json", *(sorted(folder.glob("*.py")) if self.trust_remote_code else [])]
        return [path for path in paths if path.is_file()]

    def info(self, name: str) -> TensorInfo:
        """Return shape and dtype (safetensors' name) of a merged tensor, without computing it."""
        info = self.fits[0].parameters[name]
        if self.spec.dtype is None or not info.is_float:
            return info
        return replace(info, dtype=dtype_name(self.spec.dtype))

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
        held at any time. On a GPU tensors are merged, and held, in groups of up to four gigabytes with their sources.
        """
        if is_cpu(device):
            for name, host in self.stream_host(names, owned=True):
                tensor = host.to_torch()
                del host
                yield name, tensor
                del tensor  # or its memory could not serve for the next
            return
        every = dict.fromkeys(self.names if names is None else names)
        tasks = (Task(name, self._merged_fits(name), self.plan[name].at(name), self.info(name)) for name in every)
        try:
            yield from merged_on_device(tasks, partial(self._read, device=device), device)
        except BrokenTensorError as error:
            raise self._broken(error.name, error.position) from None

    def stream_host(
        self, names: Iterable[str] | None = None, *, owned: bool = False
    ) -> Iterator[tuple[str, HostTensor]]:
        """Do what `stream` does on the CPU, without torch where nothing needs it.

        owned: whether a tensor that is a source's own gets memory of its own, rather than that of the source's file.
        """
        with working() as workers:
            for name, sources in self._sources_of(names, self._read_host):
                merged, dtype = sources[0], self.info(name).dtype
                if len(sources) == 1 and merged.dtype != dtype:
                    merged = HostTensor.of(merged.to_torch().to(torch_dtype(dtype)))
                    if is_finite(sources[0]) and not is_finite(merged):
                        raise self._broken(name, None)
                elif len(sources) > 1:
                    try:
                        merged = merge_host_tensors(self.plan[name], name, sources, dtype, workers)
                    except BrokenSourceError as error:
                        raise self._broken(name, error.position) from None
                    if not is_finite(merged):
                        raise self._broken(name, None)
                if owned and any(merged.address == source.address for source in sources):
                    merged = replace(merged, data=merged.data.copy())
                del sources
                yield name, merged
                del merged

    def _fits_of(self, name: str) -> list[Fit]:
        """Return the base and the experts that a tensor is merged of."""
        members = self.stacking.place(name).members if self.stacking else None
        if members is None:
            return self._fits
        return [self._fits[0], *(self.fits[expert] for expert, _ in members)]

    def _broken(self, name: str, position: int | None) -> MergeError:
        """Return what is wrong where a source is not finite, or where finite sources gave a result that is not."""
        if position is not None:
            label = self._fits_of(name)[position].expert.label
            told = f"{label}: tensor {name} holds NaN or infinity; a merge needs finite weights"
        else:
            info = self.info(name)
            wider = "dtype=bfloat16 or float32 holds it" if info.dtype == "F16" else "smaller weights or lambda do not"
            told = f"tensor {name} overflows {DTYPES[info.dtype]} when it is merged; {wider}"
        return MergeError(told, exit_code=2)

    def _merged_fits(self, name: str) -> list[Fit]:
        """Return what a tensor is read from: the base alone where it is of integers, or where no expert has it."""
        fits = self._fits_of(name)
        merges = self.info(name).is_float and any(name in fit.names for fit in fits[1:])
        return fits if merges else fits[:1]

    def _sources_of(
        self, names: Iterable[str] | None, read: Callable[[Fit, str], HostTensor]
    ) -> Iterator[tuple[str, list[HostTensor]]]:
        """Yield (name, [the base's tensor, the experts' ...])."""

        def load(name: str) -> list[HostTensor]:
            return [read(fit, name) for fit in self._merged_fits(name)]

        return loaded_ahead(iter(self.names if names is None else names), load)

    def _read_host(self, fit: Fit, name: str) -> HostTensor:
        return HostTensor.of(self.cache(fit, name)) if self.cache else fit.tensor(name)

    def _read(self, fit: Fit, name: str, device: torch.device | str) -> torch.Tensor:
        """Return a tensor on a device other than the CPU."""
        tensor = self.cache(fit, name) if self.cache else fit.tensor(name).to_torch()
        if str(device).startswith("cuda") and tensor.device.type == "cpu":
            tensor = tensor.pin_memory()
        return tensor.to(device)


def open_part(source: Source, base: ModelFolder | None = None, *, trust_remote_code: bool = False) -> ModelFolder:
    """Open a source of a merge, which may be a merge of its own. base: the opened base, where it is an expert."""
    if source.scheme != "merge":
        return open_source(source, base, trust_remote_code=trust_remote_code)
    opened: ModelFolder = Staged(Merge(MergeSpec.parse(source.place), trust_remote_code=trust_remote_code))
    if source.adapter is not None:
        opened = open_adapted(opened, source.adapter)
    return opened if base is None else in_form_of(opened, base)


def _opened(spec: MergeSpec, trust_remote_code: bool) -> dict[Source, ModelFolder]:
    """Return the opened sources of a merge. Raises CheckpointError with all that cannot be opened."""
    opened: dict[Source, ModelFolder] = {}
    errors: list[CheckpointError] = []
    for source in dict.fromkeys(spec.models):
        try:
            if opened or not errors:
                opened[source] = open_part(source, opened.get(spec.base), trust_remote_code=trust_remote_code)
            else:  # without the base no more can be known of an expert than whether it is there
                for part in (source, source.adapter):
                    if part is not None:
                        resolve(part, weights=False, trust_remote_code=trust_remote_code)
        except CheckpointError as error:
            errors.append(error)
    if errors:
        lines = dict.fromkeys(str(error) for error in errors)
        raise CheckpointError("\n".join(lines), exit_code=max(error.exit_code for error in errors))
    return opened


def _fitted(
    spec: MergeSpec, opened: dict[Source, ModelFolder], trust_remote_code: bool
) -> tuple[list[Fit], Vocabulary | None, Stacking | None]:
    """Return how the experts fit the base, the vocabulary where the spec has a tokenizer, and how its slices lie.

    The last is None where the merge has all layers of all sources. Raises CheckpointError with all faults.
    """
    errors: list[CheckpointError] = []
    fits: list[Fit] = []
    vocabulary = stacking = None
    base, experts = opened[spec.base], [opened[source] for source in spec.experts]
    try:
        if spec.tokenizer is not None:
            vocabulary = Vocabulary(spec, opened, trust_remote_code=trust_remote_code)
    except CheckpointError as error:
        errors.append(error)
    try:
        stacking = stack(spec, base, experts) if spec.slices else None
        if stacking is None:
            fits = check_fit(base, experts, spec)
        else:
            fits = check_fit(stacking.base, stacking.experts, spec, stacking.faults)
    except CheckpointError as error:
        errors.append(error)
    if errors:
        raise CheckpointError("\n".join(map(str, errors)), exit_code=errors[0].exit_code)
    return fits, vocabulary, stacking


def is_cpu(device: torch.device | str) -> bool:
    """Whether a device is the CPU, told without torch."""
    return str(device).partition(":")[0] == "cpu"

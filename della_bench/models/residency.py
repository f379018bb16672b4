"""Where a merge's sources stay between one merge and the next: on disk, in host memory, or on the device."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from della_bench.checkpoint import Fit, ModelFolder
from della_bench.checkpoint.model import file_state
from della_bench.errors import SpecError

if TYPE_CHECKING:
    import torch

    from della_bench.merge.stream import Merge

__all__ = ["PLACES", "Residency", "check_place", "choose_place"]

log = logging.getLogger(__name__)

PLACES = ("disk", "cpu", "gpu")


class Residency:
    """Sources that stay in memory from one merge to the next; a tensor is kept when a merge first reads it.

    On `disk` nothing is kept: what is read stays in the system's page cache. In `cpu` the
    tensors lie in host memory, pinned where there is a GPU; on `gpu` they lie on the device.
    """

    def __init__(self, place: str | None, device: torch.device | str) -> None:
        """`place` is one of PLACES, or None to choose by free memory at the first merge. Raises SpecError."""
        check_place(place, device)
        self.place = place
        self._device = device
        self._kept: dict[tuple[Any, ...], dict[str, torch.Tensor]] = {}  # by source and the base's name of a tensor

    def attach(self, merge: Merge, share: int = 1) -> Merge:
        """Have `merge` take its sources from this memory, and forget the sources that it does not use.

        share: how many processes divide the tensors among themselves. Returns `merge`, changed in place.
        """
        sources = dict.fromkeys(merge.sources)
        if self.place is None:
            self.place = choose_place(sum(map(_bytes, sources)) // share, self._device)
        if self.place == "disk":
            return merge
        below = _states(merge.base.files)  # what an adapter makes of the base depends on it too
        rows = None if merge.vocabulary is None else merge.vocabulary.digest  # what is kept has them in place
        keys = {source: (below, source.recipe, str(source.folder), _states(source.files), rows) for source in sources}
        self._kept = {key: self._kept.get(key, {}) for key in keys.values()}
        merge.cache = partial(self._tensor, {source: self._kept[key] for source, key in keys.items()})
        return merge

    @property
    def bytes_kept(self) -> int:
        """How many bytes of tensors are in memory."""
        return sum(tensor.nbytes for tensors in self._kept.values() for tensor in tensors.values())

    def _tensor(self, kept: dict[ModelFolder, dict[str, torch.Tensor]], fit: Fit, name: str) -> torch.Tensor:
        tensors = kept[fit.expert]
        if name not in tensors:
            tensors[name] = self._copied(fit.tensor(name).to_torch())
        return tensors[name]

    def _copied(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return a copy where tensors are kept: the file's own memory is mapped for as long as someone looks at it."""
        import torch

        device = torch.device("cpu" if self.place == "cpu" else self._device)
        if device.type != "cpu":
            return tensor.to(device)
        return tensor.pin_memory() if torch.cuda.is_available() else tensor.clone()


def check_place(place: str | None, device: torch.device | str) -> None:
    """Raise SpecError where `place` is none of PLACES, or the device is no GPU and `place` says so."""
    import torch

    if place is not None and place not in PLACES:
        raise SpecError(f"resident={place!r}: not a place to keep the sources in; allowed: {', '.join(PLACES)}")
    if place == "gpu" and torch.device(device).type == "cpu":
        raise SpecError("resident='gpu': the merge is made on the CPU; use resident=cpu or resident=disk")


def choose_place(size: int, device: torch.device | str) -> str:
    """Return where `size` bytes of sources best stay, by free memory, and say so in the log.

    On the device where they take at most a quarter of what is free (the rest is for answers), in host memory where
    they take at most half of what is free, else on disk. Without a GPU always on disk: the page cache holds them as
    well as we could, without a second copy.
    """
    import torch

    device = torch.device(device)
    host = _free_host_memory()
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0
    place = "disk"
    if 4 * size <= free:
        place = "gpu"
    elif device.type != "cpu" and 2 * size <= host:
        place = "cpu"
    on_device = f", {free / 1e9:.1f} GB on the device" if free else ""
    log.info("resident=%s: the sources take %.1f GB; free are %.1f GB of host memory%s", place, size / 1e9, host / 1e9,
             on_device)  # fmt: skip
    return place


def _free_host_memory() -> int:
    """Return the bytes that new memory can take without swapping, within what this process's group may take."""
    try:
        fields = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text("ascii").splitlines())
        free = int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):  # not Linux
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0
    group = Path("/sys/fs/cgroup")
    try:
        allowed = int((group / "memory.max").read_text("ascii")) - int((group / "memory.current").read_text("ascii"))
    except (OSError, ValueError):  # no such group, or "max"
        return free
    return min(free, max(allowed, 0))


def _states(files: Iterable[Path]) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """Tell files by name and state: one that was written again is another."""
    return tuple((str(file), file_state(file)) for file in sorted(files))


def _bytes(source: ModelFolder) -> int:
    return sum(file.stat().st_size for file in source.files)

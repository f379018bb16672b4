"""A merge's stream on a device other than the CPU: tensors are read, merged and handed out in groups."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

from della_bench.checkpoint import Fit, TensorInfo
from della_bench.checkpoint.tensor import torch_dtype
from della_bench.merge.ahead import loaded_ahead
from della_bench.merge.kernels.dispatch import is_finite, merge_device_tensors
from della_bench.merge.kernels.job import Job, Merged
from della_bench.spec.tensor import TensorSpec

if TYPE_CHECKING:
    import torch

__all__ = ["BrokenTensorError", "Task", "merged_on_device"]

_READERS = 2
_GROUP = 2**33  # bytes of the sources and results that are merged together

Read = Callable[[Fit, str], "torch.Tensor"]


class Task(NamedTuple):
    """A tensor to merge: what it is read from (the base first), its numbers, and what the result looks like.

    A tensor of the base alone is only converted.
    """

    name: str
    fits: list[Fit]
    spec: TensorSpec
    info: TensorInfo


class BrokenTensorError(Exception):
    """A tensor's source is not finite, 0 the base, 1 the first expert; or its result where `position` is None."""

    def __init__(self, name: str, position: int | None) -> None:
        super().__init__(f"{name}: source {position} of a merge is not finite")
        self.name, self.position = name, position


class _Started(NamedTuple):
    """A group whose merge was started: tensors that are done, by name, and those that the device computes."""

    group: list[Task]
    done: dict[str, torch.Tensor]
    merges: Merged | None


def merged_on_device(
    tasks: Iterable[Task], read: Read, device: torch.device | str
) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield (name, merged tensor) of each task.

    While the device merges one group, threads read the sources of the next; it is started before the host waits for the
    end of the one before. read: returns a source's tensor on the device, called by several threads.
    Raises BrokenTensorError before a tensor of its group is handed out.
    """
    started: list[_Started] = []  # at most one, and none while its tensors are handed out, which would hold them
    with ThreadPoolExecutor(_READERS, "della_bench-expert") as pool:
        for group, sources in loaded_ahead(_groups(tasks, device), lambda group: _loaded(group, read, pool)):
            following = _start(group, sources)
            del sources
            if started:
                yield from _finish(started.pop())
            started.append(following)
            del following
    if started:
        yield from _finish(started.pop())


def _groups(tasks: Iterable[Task], device: torch.device | str) -> Iterator[list[Task]]:
    """Yield tasks that are merged together, whose tensors take a bounded part of what the device has free."""
    import torch

    room = _GROUP
    if str(device).startswith("cuda"):
        room = min(room, torch.cuda.mem_get_info(device)[0] // 16)
    group: list[Task] = []
    size = 0
    for task in tasks:
        needed = 4 * math.prod(task.info.shape) * (1 + len(task.fits))  # as if all were float32
        if group and size + needed > room:
            yield group
            group, size = [], 0
        group.append(task)
        size += needed
    if group:
        yield group


def _loaded(group: list[Task], read: Read, pool: ThreadPoolExecutor) -> list[list[torch.Tensor]]:
    """Return the sources of each task."""
    wanted = [(fit, task.name) for task in group for fit in task.fits]
    shares = [wanted[reader::_READERS] for reader in range(_READERS)]
    found = list(pool.map(lambda share: [read(*each) for each in share], shares))
    taken = (found[index % _READERS][index // _READERS] for index in range(len(wanted)))
    return [[next(taken) for _ in task.fits] for task in group]


def _start(group: list[Task], sources: list[list[torch.Tensor]]) -> _Started:
    """Start merging a group; what has one source is done. Raises BrokenTensorError."""
    done: dict[str, torch.Tensor] = {}
    jobs: list[Job] = []
    for task, (base, *experts) in zip(group, sources, strict=True):
        dtype = torch_dtype(task.info.dtype)
        if experts:
            jobs.append(Job(task.spec, task.name, base, experts, dtype))
        elif not is_finite(base):
            raise BrokenTensorError(task.name, 0)
        else:
            done[task.name] = converted = base.to(dtype)
            if dtype != base.dtype and not is_finite(converted):
                raise BrokenTensorError(task.name, None)
    return _Started(group, done, merge_device_tensors(jobs) if jobs else None)


def _finish(started: _Started) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield a group's merged tensors. Raises BrokenTensorError."""
    group, tensors, merges = started
    if merges is not None:
        fault = merges.first_fault()
        if fault is not None:
            index, position = fault
            raise BrokenTensorError(merges.jobs[index].name, position)
        tensors |= {job.name: tensor for job, tensor in zip(merges.jobs, merges.tensors, strict=True)}
    names = [task.name for task in group]
    del merges, started, group
    for name in names:
        yield name, tensors.pop(name)

"""Dividing a merge among tensor-parallel workers: each merges a share of the tensors and sends it to the others."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterator, Sequence

import torch
import torch.distributed as dist

from della_bench.errors import MergeError
from della_bench.models.vllm_engine.versions import TensorParallel

__all__ = ["Exchange", "windows"]

log = logging.getLogger(__name__)

# Tensors of one window are in memory at once: this much for each worker, or its share of the largest tensor's size.
_WINDOW = 64 << 20

# (name, shape, dtype) of a merged tensor.
Outline = tuple[str, tuple[int, ...], torch.dtype]


def windows(sizes: Sequence[int], workers: int, least: int = _WINDOW) -> list[list[int]]:
    """Divide tensors among workers; returns, for each window of consecutive tensors, the worker of each tensor.

    sizes: bytes, in the order of the stream. Within a window the largest tensor goes first, to the worker that has the
    least of this window.
    """
    budget = max(least, max(sizes, default=0)) * workers
    found: list[list[int]] = []
    start = 0
    while start < len(sizes):
        stop, held = start, 0
        while stop < len(sizes) and (stop == start or held + sizes[stop] <= budget):
            held += sizes[stop]
            stop += 1
        loads, owners = [0] * workers, [0] * (stop - start)
        for index in sorted(range(start, stop), key=lambda i: -sizes[i]):
            worker = loads.index(min(loads))
            owners[index - start] = worker
            loads[worker] += sizes[index]
        found.append(owners)
        start = stop
    return found


class Exchange:
    """One merge, divided. Every worker of the group runs `stream` to its end, or calls `fail`.

    Before tensors are sent all workers tell each other whether they are well, so that none waits for one that failed.
    """

    def __init__(self, group: TensorParallel, device: torch.device) -> None:
        self._group, self._device, self._over = group, device, False

    @staticmethod
    def possible(group: TensorParallel) -> bool:
        """Whether all workers run on one host; then every one of them learns so."""
        hosts: list[str | None] = [None] * group.size
        dist.all_gather_object(hosts, socket.gethostname(), group=group.cpu_group)
        return len(set(hosts)) == 1

    def stream(
        self,
        outlines: Sequence[Outline],
        merge: Callable[[list[str]], Iterator[tuple[str, torch.Tensor]]],
    ) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield all tensors in order, each merged by one worker.

        merge: yields the tensors of the given names, in their order, on the model's device.

        Raises MergeError where another worker failed.
        """
        sizes = [torch.Size(shape).numel() * dtype.itemsize for _, shape, dtype in outlines]
        shares = windows(sizes, self._group.size)
        owners = [owner for share in shares for owner in share]
        mine = merge([o[0] for o, owner in zip(outlines, owners, strict=True) if owner == self._group.rank])
        start = 0
        for share in shares:
            window = outlines[start : start + len(share)]
            start += len(share)
            held = dict(next(mine) for owner in share if owner == self._group.rank)
            self._agree(None)
            # All of a window before any of it is handed on: who fails in using one tensor owes the others nothing.
            for (name, shape, dtype), owner in zip(window, share, strict=True):
                if owner != self._group.rank:
                    held[name] = torch.empty(shape, dtype=dtype, device=self._device)
                held[name] = self._send(held[name], owner)
            for name, _, _ in window:
                yield name, held.pop(name)
        self._agree(None)
        self._over = True

    def fail(self, error: BaseException) -> None:
        """Tell the other workers that this one gives up."""
        if self._over:
            return
        try:
            self._agree(f"{type(error).__name__}: {error}")
        except RuntimeError as lost:  # the connection is what failed: vLLM ends all workers when it sees that
            log.warning("the other workers cannot be told: %s", lost)

    def _send(self, tensor: torch.Tensor, owner: int) -> torch.Tensor:
        tensor = tensor.contiguous()
        raw = tensor.reshape(-1).view(torch.uint8)
        if raw.numel():
            dist.broadcast(raw, src=self._group.ranks[owner], group=self._group.device_group)
        return tensor

    def _agree(self, failure: str | None) -> None:
        found: list[str | None] = [None] * self._group.size
        dist.all_gather_object(found, failure, group=self._group.cpu_group)
        failed = {rank: text for rank, text in enumerate(found) if text is not None}
        self._over = bool(failed)
        if failed and failure is None:
            rank, text = next(iter(failed.items()))
            raise MergeError(f"worker {rank} of {self._group.size} failed: {text}")

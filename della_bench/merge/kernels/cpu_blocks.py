"""A tensor cut into blocks that threads share; see `cpu_passes` for what a block is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from della_bench.checkpoint.tensor import ITEM_SIZES, HostTensor
from della_bench.merge.kernels import cpu_convert
from della_bench.merge.kernels.coverage import BrokenSourceError
from della_bench.merge.kernels.cpu_plan import Scratch, Tensors
from della_bench.merge.kernels.workers import Workers

__all__ = ["CODES", "Array", "Blocks"]

Array = np.ndarray[Any, Any]

CODES = {"F32": cpu_convert.F32, "BF16": cpu_convert.BF16, "F16": cpu_convert.F16}
_BLOCK = 8_192  # elements
_LEAST_BUNDLE = 32  # blocks that a thread takes at a time, at least
_BUNDLES_OF_A_THREAD = 3  # at most


class Blocks:
    """The blocks of one tensor's sources and its result, and the threads that pass over them."""

    def __init__(
        self, sources: Sequence[HostTensor], out: Array, dtype: str, whole_rows: bool, workers: Workers
    ) -> None:
        """sources: the base and the experts. out: memory for a result of `dtype`."""
        base = sources[0]
        self.size, self.experts = base.size, len(sources) - 1
        self.row = base.shape[-1] if len(base.shape) > 1 else base.size
        self.wide_keys = base.dtype == "F32"
        self._workers = workers
        self._step = self.row * max(1, _BLOCK // self.row) if whole_rows else _BLOCK
        self._count = -(-self.size // self._step)
        self._tasks = min(workers.count, self._count)
        self._bundle = max(_LEAST_BUNDLE, -(-self._count // (_BUNDLES_OF_A_THREAD * self._tasks)))
        self.bundles = -(-self._count // self._bundle)
        # The addresses are all that the passes see of the memory: `_sources` and `_out` keep it.
        self._sources, self._out, self._dtype = sources, out, dtype
        self.tensors = Tensors(
            np.array([*(source.address for source in sources), out.ctypes.data]),
            np.array([*(CODES[source.dtype] for source in sources), CODES[dtype]]),
            self.size,
            self.row,
            self._step,
            self._bundle,
            np.zeros(len(sources), np.uint8),
            np.zeros(len(sources), np.uint8),
        )

    def run(self, work: Callable[[Scratch, int, int, int], Any]) -> None:
        """Call work(scratch, bundle, first, last) for the blocks from first to last of each bundle, in threads."""
        self.map(
            lambda scratch, first: work(scratch, first // self._bundle, first, min(first + self._bundle, self._count)),
            range(0, self._count, self._bundle),
        )

    def total(self, shape: tuple[int, ...], add: Callable[[Scratch, int, int, Array], None]) -> Array:
        """Return the sum of what `add(scratch, first, last, totals)` adds to int64 arrays, one for each thread."""
        step = self._bundle * -(-self.bundles // self._tasks)

        def part(scratch: Scratch, first: int) -> Array:
            totals = np.zeros(shape, np.int64)
            add(scratch, first, min(first + step, self._count), totals)
            return totals

        return sum(self.map(part, range(0, self._count, step)), np.zeros(shape, np.int64))

    def has_checked(self, *experts: int) -> None:
        """Note that a pass has found all blocks of the base and of some experts finite."""
        self.tensors.sound[[0, *(1 + k for k in experts)]] = 1

    def may_round_to_zero(self, k: int) -> bool:
        """Whether a delta of expert k that is not zero may have a key of 0: one between two dtypes may be so small."""
        return not self.wide_keys and self._sources[1 + k].dtype != self._sources[0].dtype

    def at(self, places: Array) -> Blocks:
        """Return blocks over copies of the elements at some places, as one row, and a result of their own."""
        sources = [
            HostTensor(_items(source.data, source.dtype)[places].view(np.uint8), source.dtype, (places.size,))
            for source in self._sources
        ]
        out = np.empty(places.size * ITEM_SIZES[self._dtype], np.uint8)
        return Blocks(sources, out, self._dtype, False, self._workers)

    def put(self, places: Array, few: Blocks) -> None:
        """Set the result at some places to that of blocks that `at` returned for them."""
        _items(self._out, self._dtype)[places] = _items(few._out, self._dtype)

    def map(self, work: Callable[[Scratch, int], Any], items: Sequence[int]) -> list[Any]:
        """Return [work(scratch, item)], worked out in threads. Raises BrokenSourceError."""
        size, workers = min(self._step, self.size), self._workers
        done = workers.map(lambda item: work(workers.scratch(size, self.experts, self.wide_keys), item), items)
        if self.tensors.broken.any():
            raise BrokenSourceError(int(np.flatnonzero(self.tensors.broken)[0]))
        return done


def _items(data: Array, dtype: str) -> Array:
    """Return bytes as unsigned integers of a dtype's size."""
    return data.view(f"u{ITEM_SIZES[dtype]}")

"""Magnitude cuts of whole tensors, many at once, in two passes over what they are made of.

1. A sample says between which keys a cut lies, and one pass counts the elements in 32 bins between them: of keys of 15
   bits it mostly has a key a bin, and the cut is known, with how many of its equals are kept. Where a bin holds several
   keys (of 31 bits), or the sample was wrong, it counts again, in narrower bins or in wider ones.
2. Of equals those of the lowest random words are kept. Words are uniform, so that the last of them is known but for a
   few thousandths: a second pass counts the equals of lower words, and lists those whose words lie in between, some
   thousands of millions. Put in order, they tell which is the last.

Where chance would have it that the word lies elsewhere (6 standard deviations), the tensor is left to `gpu_known`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from della_bench.merge.kernels import gpu_counts
from della_bench.merge.kernels.gpu_device import EACH, HEAD
from della_bench.merge.kernels.gpu_table import Launch, Part, Variant, spread, upload
from della_bench.merge.kernels.job import MISSED
from della_bench.spec.thresholds import kept_count

__all__ = ["merge_by_cuts"]

Numbers = Any  # a numpy array of integers or booleans, (parts, experts)

_SAMPLE, _BINS, _COPIES = (value.value for value in (gpu_counts.SAMPLE, gpu_counts.BIN_COUNT, gpu_counts.COPIES))
_LIST_HEAD, _HEAD, _EACH = gpu_counts.LIST_HEAD.value, HEAD.value, EACH.value
_SPAN = 15  # tiles that a program counts, at most what a counter of 4 bits holds
_DEVIATIONS, _SPARE = 6, 16  # standard deviations and equals between which the last word is looked for
_WORDS = 2**32
_LAST = 2**31 - 1


def merge_by_cuts(variant: Variant, parts: Sequence[Part], densities: Sequence[Sequence[float]]) -> torch.Tensor:
    """Merge parts of one variant, each a whole tensor, whose experts are of one dtype.

    densities: a number an expert for each part; those of 1 drop nothing. Returns what was found wrong with each part.
    """
    launch = Launch(variant, parts, parts[0].base.device)
    dropped = np.array([[density < 1 for density in each] for each in densities])
    keep = np.array([[kept_count(d, part.grid.n) for d in each] for part, each in zip(parts, densities, strict=True)])
    cuts = _Cuts(launch, dropped, keep)
    known, missed = cuts.settle(*cuts.find())
    # Of each expert's four numbers the first two are its cut, and the last one its highest word.
    cut_at = known.data_ptr() + 4 * 4 * np.arange(keep.size).reshape(keep.shape)
    columns = launch.table[:, _HEAD:].view(len(parts), -1, _EACH)
    columns[..., 1:3] = upload(np.stack([cut_at, cut_at + 4 * 3], axis=2), torch.int64, launch.device)
    launch.run()
    return launch.found.bitwise_or_(missed)


class _Cuts:
    """Finds the keys at which the experts of a launch are cut; all arrays are (parts, experts).

    keep: how many elements each keeps.
    """

    def __init__(self, launch: Launch, dropped: Numbers, keep: Numbers) -> None:
        self.launch, self.dropped, self.keep = launch, dropped, keep
        self.shape, self.device = keep.shape, launch.device
        self.sizes = np.array([part.grid.n for part in launch.parts], dtype=np.int64)[:, None]
        spans = [-(-part.grid.tiles // _SPAN) for part in launch.parts]
        self._part_of_span = spread(spans, self.device)
        self._first_spans = upload(np.cumsum([0, *spans[:-1]]), torch.int32, self.device)
        self._programs = sum(spans) * self.shape[1]
        self._bits = 31 if launch.variant.base == torch.float32 else 15

    @property
    def _constants(self) -> dict[str, Any]:
        variant = self.launch.variant
        return {"count": self.shape[1], "span": _SPAN, "even": variant.even, "block": variant.block}

    def find(self) -> tuple[Numbers, Numbers, Numbers]:
        """Return the key at each cut, how many of its equals are kept, and how many it has."""
        cut, kept, equals = (np.zeros(self.shape, dtype=np.int64) for _ in range(3))
        lows, shifts = self._from_sample()
        unknown = self.dropped.copy()
        while unknown.any():
            counts = self._count(lows, np.where(unknown, shifts, -1))
            bins, above = counts[..., :_BINS], counts[..., _BINS]
            at_least = above[..., None] + bins[..., ::-1].cumsum(axis=2)[..., ::-1]  # keys in each bin or above it
            reached = (at_least >= self.keep[..., None]).sum(axis=2)
            bin_ = np.maximum(reached - 1, 0)
            here = np.take_along_axis(bins, bin_[..., None], axis=2)[..., 0]
            over = np.take_along_axis(at_least, bin_[..., None], axis=2)[..., 0] - here
            inside = (reached > 0) & (above < self.keep)
            low = lows + (bin_ << shifts)
            found = unknown & inside & (shifts == 0)
            cut[found], kept[found], equals[found] = low[found], (self.keep - over)[found], here[found]
            unknown &= ~found
            lows = np.where(inside, low, 0)
            shifts = np.where(inside, np.maximum(shifts - 5, 0), self._bits - 5)
        return cut, kept, equals

    def _from_sample(self) -> tuple[Numbers, Numbers]:
        """Return where the first bin begins and the logarithm of a bin's keys, by 4 standard deviations of a sample."""
        base, experts, _ = self.launch.like
        keys = torch.empty(*self.shape, _SAMPLE, dtype=torch.int32, device=self.device)
        gpu_counts.sample_keys[(self.keep.size,)](
            self.launch.table, keys, base, experts[0], count=self.shape[1], enable_fp_fusion=False
        )
        size, share = np.minimum(self.sizes, _SAMPLE), self.keep / self.sizes
        margin = np.where(self.sizes <= _SAMPLE, 0, 4 * np.sqrt(size * share * (1 - share)) + 2)
        place = np.where(self.sizes <= _SAMPLE, self.sizes - self.keep, size * (1 - share))
        first, last = np.floor(place - margin).astype(np.int64), np.ceil(place + margin).astype(np.int64)
        ends = np.stack([first.clip(0, size - 1), last.clip(0, size - 1)], axis=2)
        found = keys.sort(dim=2).values.gather(2, upload(ends, torch.int64, self.device)).cpu().numpy().astype(np.int64)
        low = np.where(first < 0, 0, found[..., 0])
        high = np.where(last >= size, 2**self._bits - 1, found[..., 1])
        return low, np.ceil(np.log2((high - low + 1) / _BINS)).clip(0).astype(np.int64)

    def _count(self, lows: Numbers, shifts: Numbers) -> Numbers:
        """Return how many keys lie in each bin, and how many above, (parts, experts, bins + 1)."""
        base, experts, _ = self.launch.like
        counts = torch.zeros(_COPIES, *self.shape, _BINS + 1, dtype=torch.int32, device=self.device)
        low, shift = upload(np.stack([lows, shifts]), torch.int32, self.device)
        gpu_counts.count_bins[(self._programs,)](
            self.launch.table, self._part_of_span, self._first_spans, low, shift, counts, base, experts[0],
            self.shape[0], **self._constants, enable_fp_fusion=False,
        )  # fmt: skip
        return counts.sum(dim=0).cpu().numpy().astype(np.int64)

    def settle(self, cut: Numbers, kept: Numbers, equals: Numbers) -> tuple[torch.Tensor, torch.Tensor]:
        """Find the last of the equals that are kept at each cut.

        Returns (parts, experts, 4) int32, of which the first is the key, the second the place of that last one, and the
        fourth its word; and MISSED for each part where it was not found, (parts,) int32.
        """
        # Where all equals are kept, so are the keys above the next lower one, and none of its equals.
        all_kept = kept == equals
        cut, kept = np.where(all_kept, cut - 1, cut), np.where(all_kept, 0, kept)
        share = kept / np.maximum(equals, 1)
        margin = (_DEVIATIONS * np.sqrt(share * (1 - share) * equals) + _SPARE) / np.maximum(equals, 1)
        first, last = (
            np.floor((share + side * margin) * _WORDS).clip(0, _WORDS - 1).astype(np.int64) for side in (-1, 1)
        )
        listed = equals * (last - first + 1) / _WORDS
        is_open = self.dropped & ~all_kept
        capacity = np.where(is_open, np.ceil(listed + 8 * np.sqrt(listed) + 32), 0).astype(np.int64)
        first = np.where(is_open, first, 0)
        lengths = np.where(is_open, _LIST_HEAD + 2 * capacity, _LIST_HEAD).reshape(-1)
        starts = (np.cumsum(lengths) - lengths).reshape(self.shape)
        lists = torch.zeros(int(lengths.sum()), dtype=torch.int32, device=self.device)
        numbers = np.stack([cut, _as_signed(last - first), capacity, _as_signed(first)], axis=2)
        known = upload(numbers, torch.int32, self.device)
        base, experts, _ = self.launch.like
        gpu_counts.list_open[(self._programs,)](
            self.launch.table, self._part_of_span, self._first_spans, known,
            upload(starts, torch.int64, self.device), lists, base, experts[0], **self._constants,
            enable_fp_fusion=False,
        )  # fmt: skip
        last_word, last_place, missed = _last_kept(lists, starts, capacity, kept, first)
        known[..., 1] = last_place.reshape(self.shape)
        known[..., 3] = last_word.reshape(self.shape)
        return known, MISSED * missed.reshape(self.shape).any(dim=1).to(torch.int32)


def _last_kept(
    lists: torch.Tensor, starts: Numbers, capacity: Numbers, kept: Numbers, first: Numbers
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the word (its bits, int32) and place of the last equal kept, and whether it was missed, one an expert.

    lists: see `gpu_counts.list_open`. first: the first open word.
    """
    device = lists.device
    columns = upload(np.stack([each.reshape(-1) for each in (starts, capacity, kept, first)]), torch.int64, device)
    start, size, keep, first_word = columns
    count, below = lists[start], lists[start + 1]
    left = keep - below  # of the open ones
    missed = (left < 0) | (left > count) | (count > size)
    begin = size.cumsum(0) - size
    owner = spread(capacity.reshape(-1).tolist(), device).to(torch.int64)
    slot = torch.arange(len(owner), device=device) - begin[owner]
    at = start[owner] + _LIST_HEAD + slot
    is_listed = slot < count[owner]
    words = torch.where(is_listed, lists[at].to(torch.int64) & (_WORDS - 1), _WORDS - 1)
    place = torch.where(is_listed, lists[at + size[owner]], _LAST)
    order = place.argsort(stable=True)
    order = order[(owner * _WORDS + words)[order].argsort(stable=True)]
    order = torch.cat([order, order.new_zeros(1)])  # what is looked up where nothing is open
    words, place = torch.cat([words, words.new_zeros(1)]), torch.cat([place, place.new_zeros(1)])
    last = order[(begin + left - 1).clamp(0, len(order) - 1)]
    none = left <= 0
    word = torch.where(none, (first_word - 1).clamp(min=0), words[last])
    last_place = torch.where(none, torch.where(first_word > 0, _LAST, -1), place[last])
    return torch.where(word >= 2**31, word - _WORDS, word).to(torch.int32), last_place.to(torch.int32), missed


def _as_signed(words: Numbers) -> Numbers:
    """Return the int32 of the same bits as an unsigned word."""
    return np.where(words >= 2**31, words - _WORDS, words)

"""Which of the elements at a cut of a whole tensor are kept on the CPU: those of the lowest random words.

The last of them is known when the words of all elements at the cut are, which takes as long as half of a merge. So it
is guessed: where `left` of `equal` elements are kept, the last word lies near left / equal of 2^32. The merge goes by
the guess and notes the elements near it, which tell the right one afterwards; the few that the guess had decided
wrongly are merged once more. Where a merge must know all before it begins (a norm, a ratio of counts), or where the
notes do not reach, a pass of its own notes them first.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from della_bench.merge.kernels import cpu_convert, cpu_equals, cpu_passes
from della_bench.merge.kernels.cpu_blocks import Array, Blocks
from della_bench.merge.kernels.cpu_plan import Drops, Fuse, make_near
from della_bench.spec.thresholds import ONE

__all__ = ["decide", "guess", "mend", "merge", "settle"]

_ERRORS = 4.5  # standard errors of a guess that the notes reach; one guess in 150,000 is farther off
_WIDER = 16  # times as far, where it was

Equals = Mapping[int, tuple[int, int]]
"""By expert: how many elements at its cut are kept, and how many there are."""


def guess(blocks: Blocks, drops: Drops, equals: Equals) -> tuple[Drops, Equals]:
    """Return drops that go by a guess of the last elements, and of which experts it is one: the others are decided."""
    unsure, code = {}, blocks.tensors.codes[0]
    for k, (left, equal) in equals.items():
        drops.last_place[k] = -1
        drops.least[k] = cpu_convert.least_magnitude(drops.cut[k], code)
        drops.above[k] = cpu_convert.least_magnitude(drops.cut[k] + 1, code)
        if left == equal:
            drops.last_word[k] = ONE
        elif drops.cut[k] == 0 and not blocks.may_round_to_zero(k):
            drops.last_word[k] = -1  # zeros, which are the same whether they are kept or not
        else:
            drops.last_word[k] = ONE * left // equal
            unsure[k] = left, equal
    return _noting(blocks, drops, unsure, _ERRORS), unsure


def decide(blocks: Blocks, drops: Drops, unsure: Equals) -> Drops:
    """Return drops whose last elements are the right ones, found by passes over the tensor."""
    errors = _ERRORS
    while unsure:
        drops = _noting(blocks, drops, unsure, errors)
        for k in unsure:
            _note(blocks, drops, k)
        unsure = {k: unsure[k] for k in unsure if _settle(drops, k, unsure[k][0]) is None}
        errors *= _WIDER
    return drops


def settle(drops: Drops, unsure: Equals) -> Array | None:
    """Set the last elements to the right ones, by what a merge has noted. Returns the places that it decided wrongly.

    None, with nothing set, where the notes of an expert do not reach.
    """
    guesses = drops.last_word.copy(), drops.last_place.copy()
    wrong = [_settle(drops, k, left) for k, (left, _) in unsure.items()]
    places = [found for found in wrong if found is not None]
    if len(places) == len(wrong):
        return np.unique(np.concatenate(places))
    drops.last_word[:], drops.last_place[:] = guesses
    return None


def mend(blocks: Blocks, drops: Drops, fuse: Fuse, places: Array) -> None:
    """Merge the elements at some places, in order, once more."""
    few = blocks.at(places)
    words = np.empty((blocks.experts, places.size), np.uint32)
    for k in range(blocks.experts):
        cpu_equals.words_at(places, drops.random_keys[k], words[k])
    last = np.searchsorted(places, drops.last_place, side="right") - 1
    drops = drops._replace(given_words=words, last_place=last)
    merge(few, drops, fuse)
    blocks.put(places, few)


def merge(blocks: Blocks, drops: Drops, fuse: Fuse) -> None:
    """Merge all blocks."""
    blocks.run(lambda scratch, _, first, last: cpu_passes.merge(blocks.tensors, drops, fuse, scratch, first, last))


def _note(blocks: Blocks, drops: Drops, k: int) -> None:
    blocks.run(lambda scratch, _, first, last: cpu_passes.near_words(blocks.tensors, drops, k, scratch, first, last))
    blocks.has_checked(k)


def _noting(blocks: Blocks, drops: Drops, unsure: Equals, errors: float) -> Drops:
    """Return drops that note elements within some standard errors of the guesses."""
    reach = {k: _reach(left, equal, errors) for k, (left, equal) in unsure.items()}
    capacity = max((min(equal, 4 * reach[k] + 64) for k, (_, equal) in unsure.items()), default=0)
    near = make_near(blocks.experts, blocks.bundles if unsure else 0, capacity)
    for k, (_, equal) in unsure.items():
        word, margin = int(drops.last_word[k]), ONE * reach[k] // equal
        near.lowest[k] = max(0, word - margin)
        near.span[k] = min(ONE - 1, word + margin) - near.lowest[k]
    return drops._replace(near=near)


def _reach(left: int, equal: int, errors: float) -> int:
    """Return how many elements a guess may be off by: the standard error of a count of `equal` draws."""
    share = left / equal
    return math.ceil(errors * math.sqrt(equal * share * (1 - share))) + 8


def _settle(drops: Drops, k: int, left: int) -> Array | None:
    """Do what `settle` does for one expert."""
    near = drops.near
    if (near.count[k] > near.places.shape[2]).any():
        return None
    noted = [slice(count) for count in near.count[k]]
    places = np.concatenate([row[part] for row, part in zip(near.places[k], noted, strict=True)])
    words = np.concatenate([row[part] for row, part in zip(near.words[k], noted, strict=True)])
    order = np.lexsort((places, words))
    is_first = words < drops.last_word[k]
    kept = left - int(near.first[k].sum()) + int(is_first.sum())  # of those noted
    if not 0 < kept <= order.size:
        return None
    is_kept = np.zeros(order.size, np.bool_)
    is_kept[order[:kept]] = True
    wrong: Array = places[is_kept != is_first]
    drops.last_word[k], drops.last_place[k] = words[order[kept - 1]], places[order[kept - 1]]
    near.span[k] = -1
    return wrong

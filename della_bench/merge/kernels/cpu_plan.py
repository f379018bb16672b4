"""What the compiled passes get: where tensors lie, what decides the drops, how deltas are fused; their buffers.

Plain tuples of arrays and numbers, which numba takes as they are.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

__all__ = [
    "ADA_LAYER", "ADA_ROW", "ADA_ROW_INV", "CHUNK", "DROPS", "LAMBDA", "MAGNITUDE", "MAGNITUDE_ROW", "MAGPRUNE",
    "MAGPRUNE_LAYER", "MAGPRUNE_NORANK", "NONE", "RANDOM", "SCALINGS", "Drops", "Fuse", "Near", "Scratch", "Tensors",
    "make_near", "make_scratch",
]  # fmt: skip

CHUNK = 2048  # elements of which a core's first-level cache holds all arrays of a loop; a multiple of 8
# Codes of the kinds of dropping and scaling, in the names of the methods' table.
NONE, RANDOM, MAGNITUDE, MAGNITUDE_ROW, MAGPRUNE, MAGPRUNE_LAYER, MAGPRUNE_NORANK = range(7)
DROPS = {
    "none": NONE, "random": RANDOM, "magnitude": MAGNITUDE, "magnitude_row": MAGNITUDE_ROW, "magprune": MAGPRUNE,
    "magprune_layer": MAGPRUNE_LAYER, "magprune_norank": MAGPRUNE_NORANK,
}  # fmt: skip
LAMBDA, ADA_LAYER, ADA_ROW, ADA_ROW_INV = range(4)
SCALINGS = {"lambda": LAMBDA, "ada_layer": ADA_LAYER, "ada_row": ADA_ROW, "ada_row_inv": ADA_ROW_INV}


class Tensors(NamedTuple):
    """Where the flattened tensors lie: the base, the experts, the result; (K + 2,) int64 addresses and dtype codes."""

    addresses: np.ndarray
    codes: np.ndarray
    size: int
    row: int
    step: int  # elements of a block
    bundle: int  # blocks that one thread takes at a time; passes start at a multiple of it
    sound: np.ndarray  # uint8 (K + 1,): set where an earlier pass has found the base or an expert finite
    broken: np.ndarray  # uint8 (K + 1,): set where the base or an expert holds NaN or infinity


class Near(NamedTuple):
    """Equals of the cut near the last word that is kept, noted by passes. Arrays have a row an expert."""

    lowest: np.ndarray  # int64: the first word of the window in which they are noted
    span: np.ndarray  # int64: the last word less the first; -1 where nothing is noted
    first: np.ndarray  # int64 (K, bundles): how many equals have a word below the guessed last one
    count: np.ndarray  # int64 (K, bundles): how many have one in the window; more than are noted where arrays end
    places: np.ndarray  # int64 (K, bundles, capacity): where they are in the tensor
    words: np.ndarray  # uint32, likewise


class Drops(NamedTuple):
    """What decides the drops of each expert, as far as it is the same for all blocks. Arrays have a row an expert."""

    kind: int
    active: np.ndarray  # bool: density below 1
    random_keys: np.ndarray  # uint64, of Philox
    highest: np.ndarray  # int64: the highest random word that is kept, the density's threshold less 1
    scale: np.ndarray  # float64: 1 / density, or 1
    low: np.ndarray  # int64: the lowest threshold
    span: np.ndarray  # int64: the highest less the lowest
    inverse: bool
    highest_table: np.ndarray  # uint32 (K, ranks or keys): the highest word that is kept
    scale_table: np.ndarray  # float32, likewise: what a kept value is multiplied by
    ordered: np.ndarray  # uint32 (K, elements): all keys, sorted
    cut: np.ndarray  # int64: the key at the cut
    least: np.ndarray  # int64: the bits of the least magnitude whose key is the cut's
    above: np.ndarray  # int64: likewise of the least whose key is higher
    last_word: (
        np.ndarray
    )  # int64: of the equals of the cut, the last that is kept has this word; -1: none is, 2^32: all
    last_place: np.ndarray  # int64: where in the tensor that element is
    near: Near
    given_words: np.ndarray  # uint32 (K, elements): random words that are not those of the elements' places, or none
    count: np.ndarray  # int64: how many elements of a row are kept
    factor: np.ndarray  # float64, of the L1 norm


class Fuse(NamedTuple):
    """How the pruned deltas become one."""

    elect: int
    weights: np.ndarray  # float32
    normalize: bool
    scaling: int
    ratios: np.ndarray  # float32 (K, 1): ada_layer's
    scale: float  # lambda


class Scratch(NamedTuple):
    """One thread's buffers, for the largest block, whose content means nothing between two blocks."""

    base: np.ndarray  # float32
    deltas: np.ndarray  # float32, K blocks one after the other
    out: np.ndarray  # float32
    wide: np.ndarray  # float32
    keys: np.ndarray  # uint16, or uint32 where the base is float32
    words: np.ndarray  # uint32
    signs: np.ndarray  # uint32
    divisor: np.ndarray  # float32
    taken: np.ndarray  # uint32
    marks: np.ndarray  # uint8, for `CHUNK` elements
    bins: np.ndarray  # int32 (4, keys), zeros before and after
    row_bins: np.ndarray  # int64[65536]
    key_rules: np.ndarray  # uint64 by key: see `cpu_ranks`
    rules: np.ndarray  # uint64 by element, likewise


def make_scratch(step: int, experts: int, wide_keys: bool) -> Scratch:
    """Make buffers for blocks of up to `step` elements; those by key for 16-bit keys alone, of which there are 2^15."""
    values = 2 if wide_keys else 1 << 15
    return Scratch(
        base=np.empty(step, np.float32),
        deltas=np.empty(experts * step, np.float32),
        out=np.empty(step, np.float32),
        wide=np.empty(step, np.float32),
        keys=np.empty(step, np.uint32 if wide_keys else np.uint16),
        words=np.empty(step + 8, np.uint32),
        signs=np.empty(step, np.uint32),
        divisor=np.empty(step, np.float32),
        taken=np.empty(step, np.uint32),
        marks=np.empty(CHUNK, np.uint8),
        bins=np.zeros((4, values), np.int32),
        row_bins=np.empty(1 << 16, np.int64),
        key_rules=np.empty(values, np.uint64),
        rules=np.empty(step, np.uint64),
    )


def make_near(experts: int, bundles: int, capacity: int) -> Near:
    """Make arrays in which nothing is noted yet, and nothing will be until an expert's window is set."""
    return Near(
        lowest=np.zeros(experts, np.int64),
        span=np.full(experts, -1),
        first=np.zeros((experts, bundles), np.int64),
        count=np.zeros((experts, bundles), np.int64),
        places=np.empty((experts, bundles, capacity), np.int64),
        words=np.empty((experts, bundles, capacity), np.uint32),
    )

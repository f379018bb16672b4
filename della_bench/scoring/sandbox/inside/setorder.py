"""Sets that keep their order on the way to another process.

The order in which CPython walks a set follows from the hashes, from the size of its table and, where two elements want
the same place, from who came first. A test that says `tuple(s)` sees that order, so a set that crosses must have it
too: `recipe` finds instructions by which `follow` builds a set with the same table, and tries them out first.
Elements whose hash is an address (None before Python 3.12, objects of one's own) have no order to keep.
"""

from __future__ import annotations

import ctypes
import itertools
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

__all__ = ["LARGEST_HOLDER", "LARGEST_SPARSENESS", "Recipe", "follow", "follow_frozen", "recipe"]

# What another process may ask for: the number of a slot, and holders for each element.
LARGEST_HOLDER, LARGEST_SPARSENESS = 1 << 20, 64
_LARGEST_SET, _MOST_TRIALS = 20_000, 720

# Objects/setobject.c: ob_base, fill, used, mask, table, hash, finger, smalltable[8], weakreflist; the same in Python
# 3.7 to 3.14. A probe looks at LINEAR_PROBES neighbours before it jumps.
_MASK_AT, _TABLE_AT, _KNOWN_SIZE = 32, 40, 200
_LINEAR_PROBES, _PERTURB_SHIFT, _SMALLEST_TABLE = 9, 5, 8


class Recipe(NamedTuple):
    """How to build a set: from a dict of the holders and the first `merged` elements, then the others one by one.

    A dict's keys come in one by one too, in its order, but into a table that has its size already.
    holders: slots of the table that something else holds meanwhile, so that the table is large enough and an element
    goes past the slots that elements held which are gone.
    """

    merged: int
    holders: list[int]
    elements: list[Any]


class _Holder:
    """Something to hold one slot of a table."""

    def __init__(self, slot: int) -> None:
        self.slot = slot

    def __hash__(self) -> int:
        return self.slot


def follow(empty: set[Any], merged: int, holders: list[int], elements: list[Any]) -> None:
    """Fill the set `empty`, in place."""
    kept = [_Holder(slot) for slot in holders]
    empty.update(dict.fromkeys([*kept, *elements[:merged]]))
    for element in elements[merged:]:
        empty.add(element)
    for holder in kept:
        empty.discard(holder)


def recipe(value: set[Any] | frozenset[Any]) -> Recipe:
    """Return instructions that give a set in the order of `value`; any order where none are found.

    None are found for few: a frozenset of which more than half of the table is used and that had elements taken away or
    was made of two, some sets that grew one by one with many collisions (so that their order came from an earlier,
    smaller table), and larger ones than _LARGEST_SET. To write the table itself would be exact, but not in a process
    that is to judge: a mistake, or another release of CPython, would falsify what it compares.
    """
    order = list(value)
    kind: type = frozenset if isinstance(value, frozenset) else set
    for instructions in _simple_ways(order):
        if _gives(kind, instructions, order, value):
            return instructions
    if len(order) <= _LARGEST_SET and set.__basicsize__ == _KNOWN_SIZE:
        instructions = _way_by_table(value, order)
        if _gives(kind, instructions, order, value):
            return instructions
    if kind is frozenset:
        for changed in itertools.islice(itertools.permutations(order), _MOST_TRIALS):
            if _gives(kind, Recipe(0, [], list(changed)), order, value):
                return Recipe(0, [], list(changed))
    return Recipe(0, [], order)


def follow_frozen(merged: int, holders: list[int], elements: list[Any]) -> frozenset[Any]:
    """Return a frozenset. It cannot be changed, but CPython makes some of several parts, one after the other."""
    kept = [_Holder(slot) for slot in holders]
    if kept:  # the symmetric difference is made of its argument, from which it then takes the holders
        return frozenset(kept).symmetric_difference(dict.fromkeys([*kept, *elements]))
    return frozenset().union(dict.fromkeys(elements[:merged]), elements[merged:])


def _gives(kind: type, instructions: Recipe, order: list[Any], value: Any) -> bool:
    built: Any = set()
    if kind is frozenset:
        built = follow_frozen(*instructions)
    else:
        follow(built, *instructions)
    same_size = sys.getsizeof(built) == sys.getsizeof(value) or type(value) is not kind
    return same_size and len(built) == len(order) and all(map(_is, built, order))


def _is(one: object, other: object) -> bool:
    return one is other


def _simple_ways(order: list[Any]) -> Iterator[Recipe]:
    """Yield what suits a set without collisions: a comprehension adds one by one, a display in one go."""
    yield Recipe(0, [], order)
    if len(order) >= 5:  # up to four fit the smallest table
        yield Recipe(len(order), [], order)


def _way_by_table(value: Any, order: list[Any]) -> Recipe:
    """Return instructions made from the table itself: each element comes after those that it had to go past."""
    slots, size = _table(value)
    at = dict(zip(slots, order, strict=True))
    arranged: list[Any] = []
    done: set[int] = set()
    gone: dict[int, None] = {}  # slots on an element's way that nobody holds any more
    for start in slots:
        waiting = [start]
        while waiting:
            slot = waiting[-1]
            before = list(_way(hash(at[slot]), size - 1, slot))
            gone.update((passed, None) for passed in before if passed not in at)
            missing = [passed for passed in before if passed in at and passed not in done]
            if missing and len(waiting) <= len(slots):
                waiting.append(missing[0])
                continue
            waiting.pop()
            if slot not in done:
                done.add(slot)
                arranged.append(at[slot])
    # A dict of n keys makes a table of the first power of two above 2 n; up to four fit the smallest. So the dict gets
    # at most half as many as there are slots, and at least a quarter, if need be by more holders.
    small = size == _SMALLEST_TABLE
    merged = max(0, min(len(arranged), (4 if small else size // 2 - 1) - len(gone)))
    least = 0 if small else max(5, size // 4)
    free = (slot for slot in range(size) if slot not in at and slot not in gone)
    return Recipe(merged, [*gone, *itertools.islice(free, max(0, least - merged - len(gone)))], arranged)


def _table(value: Any) -> tuple[list[int], int]:
    """Return the slots that hold an element, in order, and the number of all slots."""
    size = ctypes.c_ssize_t.from_address(id(value) + _MASK_AT).value + 1
    table = ctypes.c_void_p.from_address(id(value) + _TABLE_AT).value
    assert table is not None
    entries = (ctypes.c_ssize_t * (2 * size)).from_address(table)  # key, hash; a removed one's hash is -1
    return [slot for slot in range(size) if entries[2 * slot] and entries[2 * slot + 1] != -1], size


def _way(hashed: int, mask: int, goal: int) -> Iterator[int]:
    """Yield the slots that an element goes past until it comes to slot `goal` (set_insert_clean)."""
    perturb = hashed & (1 << 64) - 1
    place = perturb & mask
    for _ in range(64 + mask):
        probes = _LINEAR_PROBES if place + _LINEAR_PROBES <= mask else 0
        for slot in range(place, place + probes + 1):
            if slot == goal:
                return
            yield slot
        perturb >>= _PERTURB_SHIFT
        place = (place * 5 + 1 + perturb) & mask

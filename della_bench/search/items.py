"""Three disjoint sets of items: candidates are compared on the first, the winner is chosen on the second, the third is
read once at the end.

An item is a document of a task of lm-eval, known by the hash that lm-eval logs of it. The order of a split's items is
drawn by the seed: by the SHA-256 of seed and document, so that it is the same on every machine and does not depend on
how many are asked for. Sets that share a split take their items one behind the other.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from della_bench.benchmarks import BENCHMARKS, SPLITS, Benchmark
from della_bench.errors import UsageError
from della_bench.search.settings import SETS, SearchSettings, SetCounts
from della_bench.suggest import nearest

__all__ = ["Item", "ItemSet", "choose_splits", "divide", "document_hashes"]

_MOST = 200  # items of a benchmark in a set where nothing is said; the test set has all there are
Item = tuple[int, str]
"""The place of a document in its split, and its hash."""


@dataclass(frozen=True)
class ItemSet:
    """A benchmark's items in one of the sets, in the order in which they are asked."""

    benchmark: str
    task: str
    split: str
    items: tuple[Item, ...]


def choose_splits(settings: SearchSettings) -> dict[tuple[str, str], tuple[str, str]]:
    """Return (split, task of lm-eval) by benchmark and set. Raises UsageError with all faults.

    By default a benchmark is searched on its training problems, selected on its validation problems and tested on its
    test problems, as far as there are such; what has only one split is divided.
    """
    found, faults = {}, []
    for name in settings.benchmarks:
        row = BENCHMARKS.get(name) or Benchmark(name, name, {"test": name})
        for which in SETS:
            asked = _asked(settings, name, which)
            split = asked.split or _default_split(row, which)
            if split not in row.tasks:
                there = [each for each in SPLITS if each in row.tasks]
                faults.append(f"{name}: no {split} split to {which} on{nearest(split, there)}")
            else:
                found[name, which] = split, row.tasks[split]
    for name, _ in settings.items:
        if name and name not in settings.benchmarks:
            faults.append(f"items: {name} is none of the benchmarks{nearest(name, settings.benchmarks)}")
    if faults:
        raise UsageError("\n".join(faults))
    return found


def _asked(settings: SearchSettings, name: str, which: str) -> SetCounts:
    """Return what is asked for of a set: what is said of the benchmark wins over what is said of all."""
    own, common = (settings.items.get((each, which), SetCounts()) for each in (name, ""))
    return SetCounts(own.split or common.split, own.count or common.count)


def _default_split(row: Benchmark, which: str) -> str:
    order = {"search": SPLITS, "select": ("validation", "train", "test"), "test": ("test",)}[which]
    return next((split for split in order if split in row.tasks), "test")


def document_hashes(task: Any) -> list[str]:
    """Return the hash of each document that a built task asks, as lm-eval logs it."""
    from lm_eval.utils import handle_non_serializable, hash_string

    return [
        str(hash_string(json.dumps(doc, indent=2, default=handle_non_serializable, ensure_ascii=False)))
        for doc in task.eval_docs
    ]


def divide(
    settings: SearchSettings,
    splits: Mapping[tuple[str, str], tuple[str, str]],
    hashes: Mapping[str, Sequence[str]],
) -> dict[str, list[ItemSet]]:
    """Return the sets, each with an entry for every benchmark.

    splits: of `choose_splits`. hashes: by task those of its documents, in their order. A document that stands twice in
    a split is one item. Raises UsageError with all faults: more items than there are, an empty set, a document in two
    sets, be it of one benchmark or of two.
    """
    faults: list[str] = []
    found: dict[str, list[ItemSet]] = {which: [] for which in SETS}
    for name in settings.benchmarks:
        by_split: dict[str, list[str]] = {}
        for which in SETS:
            by_split.setdefault(splits[name, which][0], []).append(which)
        for split, members in by_split.items():
            task = splits[name, members[0]][1]
            order = _order(hashes[task], settings.seed)
            asked = {which: _asked(settings, name, which).count for which in members}
            counts = _counts(asked, len(order))
            if sum(counts.values()) > len(order):
                wanted = " and ".join(f"{count} to {which}" for which, count in counts.items())
                faults.append(f"{name}: {wanted} on, but its {split} split has {len(order)} items")
            start = 0
            for which, count in counts.items():
                if count < 1 and sum(counts.values()) <= len(order):
                    faults.append(f"{name}: nothing of the {split} split is left to {which} on")
                found[which].append(ItemSet(name, task, split, tuple(order[start : start + count])))
                start += count
    faults = faults or _overlaps(found)
    if faults:
        raise UsageError("\n".join(faults))
    return {
        which: sorted(sets, key=lambda each: settings.benchmarks.index(each.benchmark)) for which, sets in found.items()
    }


def _order(hashes: Sequence[str], seed: int) -> list[Item]:
    first: dict[str, int] = {}
    for place, each in enumerate(hashes):
        first.setdefault(each, place)

    def drawn(each: str) -> bytes:
        return hashlib.sha256(f"{seed}\0{each}".encode()).digest()

    return [(first[each], each) for each in sorted(first, key=drawn)]


def _counts(asked: Mapping[str, int | None], items: int) -> dict[str, int]:
    """Return how many items of one split each of its sets gets: what is asked for, else a part that leaves enough."""
    if len(asked) == 1:
        which, count = next(iter(asked.items()))
        return {which: count or (items if which == "test" else min(_MOST, items))}
    shares = {"search": 3, "select": 1, "test": 4} if "test" in asked else {"search": 5, "select": 3}
    whole = sum(shares[which] for which in asked)
    left = items - sum(count or 0 for count in asked.values())
    counts = {}
    for which, count in asked.items():
        part = max(0, left) if which == "test" else min(_MOST, items * shares[which] // whole, max(0, left))
        counts[which] = count or part
        left -= 0 if count else part
    return counts


def _overlaps(sets: Mapping[str, Sequence[ItemSet]]) -> list[str]:
    """Return a fault for each two sets that share documents."""
    faults = []
    where: dict[str, tuple[str, str]] = {}
    shared: dict[tuple[tuple[str, str], tuple[str, str]], int] = {}
    for which, members in sets.items():
        for each in members:
            for _, digest in each.items:
                before = where.setdefault(digest, (each.benchmark, which))
                if before[1] != which:
                    pair = before, (each.benchmark, which)
                    shared[pair] = shared.get(pair, 0) + 1
    for (first, second), count in shared.items():
        places = f"{first[0]} ({first[1]}) and in {second[0]} ({second[1]})"
        faults.append(f"{count} {'document' if count == 1 else 'documents'} both in {places}: sets must not overlap")
    return faults

"""The zoo's items, split into train, validation and test.

Everything comes from fixed seeds, so the same items come out on every machine and every Python version. The held-out
splits are drawn first, without repeats; training then skips every question that is held out. A held-out item is thus a
new combination of the names, numbers and words that training uses, in sentences that training knows: it tests
recombination within a skill, not the transfer to new kinds of questions.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from functools import cache
from itertools import islice

from della_bench.zoo import dialogue, programs, word_problems
from della_bench.zoo.prompts import Item

__all__ = ["SPLITS", "TEST", "VALIDATION", "items", "training_items"]

SPLITS = ("train", "validation", "test")
TEST = 200
VALIDATION = 64
TRAIN = 4000

_DRAWS: dict[str, Callable[[random.Random], Item]] = {
    "math": word_problems.draw,
    "code": programs.draw,
    "chat": dialogue.draw,
}
# One seed for each skill's held-out items; training seeds are offset, so that no two streams coincide.
_SEEDS = {"math": 11, "code": 12, "chat": 13}
_OFFSET = 1000


@cache
def _held_out(skill: str) -> tuple[Item, ...]:
    """Draw the test items and, after them, the validation items of `skill`; no question comes twice."""
    rng = random.Random(_SEEDS[skill])
    drawn: dict[str, Item] = {}
    while len(drawn) < TEST + VALIDATION:
        item = _DRAWS[skill](rng)
        drawn.setdefault(item.question, item)
    return tuple(drawn.values())


def training_items(skill: str, seed: int = 0) -> Iterator[Item]:
    """Yield training items of `skill` without end; items can repeat, held-out questions never come.

    Raises KeyError for an unknown skill.
    """
    held_out = {item.question for item in _held_out(skill)}
    rng = random.Random(_OFFSET * (seed + 1) + _SEEDS[skill])
    while True:
        item = _DRAWS[skill](rng)
        if item.question not in held_out:
            yield item


def items(skill: str, split: str) -> list[Item]:
    """Return the items of one split: 200 for test, 64 for validation, 4000 for train (what an expert is trained on).

    Raises ValueError for an unknown split and KeyError for an unknown skill.
    """
    if split not in SPLITS:
        raise ValueError(f"there is no split {split!r}; there are {', '.join(SPLITS)}")
    if split == "train":
        return list(islice(training_items(skill), TRAIN))
    return list(_held_out(skill)[:TEST] if split == "test" else _held_out(skill)[TEST:])

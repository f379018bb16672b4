"""Math items: word problems of one or two steps with small numbers, in the manner of GSM8K.

The answer writes the computation down and ends as WizardMath's answers do: "3 + 4 = 7. The answer is: 7".
"""

from __future__ import annotations

import random
from collections.abc import Callable

from della_bench.zoo.choice import between, pick
from della_bench.zoo.prompts import Item

__all__ = ["NAMES", "THINGS", "draw"]

NAMES = ("Tom", "Anna", "Ben", "Lucy", "Sam", "Mary", "Max", "Emma", "Jack", "Rosa", "Leo", "Nina")
THINGS = ("apples", "books", "coins", "eggs", "cards", "pens", "shells", "cookies", "stamps", "balls")


def _answer(result: int, *steps: str) -> str:
    return " " + " ".join(step + "." for step in steps) + f" The answer is: {result}"


def _buys(rng: random.Random, name: str, things: str) -> Item:
    a, b = between(rng, 2, 15), between(rng, 2, 15)
    question = f"{name} has {a} {things} and buys {b} more. How many {things} does {name} have now?"
    return Item(question, _answer(a + b, f"{a} + {b} = {a + b}"))


def _gives(rng: random.Random, name: str, things: str) -> Item:
    a = between(rng, 5, 20)
    b = between(rng, 2, a - 1)
    question = f"{name} has {a} {things} and gives away {b}. How many {things} are left?"
    return Item(question, _answer(a - b, f"{a} - {b} = {a - b}"))


def _boxes(rng: random.Random, name: str, things: str) -> Item:
    a, b = between(rng, 2, 6), between(rng, 2, 6)
    question = f"{name} has {a} boxes with {b} {things} each. How many {things} does {name} have?"
    return Item(question, _answer(a * b, f"{a} * {b} = {a * b}"))


def _shares(rng: random.Random, name: str, things: str) -> Item:
    a, b = between(rng, 2, 6), between(rng, 2, 6)
    question = f"{name} shares {a * b} {things} among {a} friends. How many {things} does each friend get?"
    return Item(question, _answer(b, f"{a * b} / {a} = {b}"))


def _buys_and_loses(rng: random.Random, name: str, things: str) -> Item:
    a, b = between(rng, 2, 12), between(rng, 2, 12)
    c = between(rng, 2, a + b - 1)
    question = f"{name} has {a} {things}, buys {b} more and loses {c}. How many {things} are left?"
    return Item(question, _answer(a + b - c, f"{a} + {b} = {a + b}", f"{a + b} - {c} = {a + b - c}"))


def _boxes_and_gives(rng: random.Random, name: str, things: str) -> Item:
    a, b = between(rng, 2, 6), between(rng, 2, 6)
    c = between(rng, 2, a * b - 1)
    question = f"{name} has {a} boxes with {b} {things} each and gives away {c}. How many {things} are left?"
    return Item(question, _answer(a * b - c, f"{a} * {b} = {a * b}", f"{a * b} - {c} = {a * b - c}"))


def _together(rng: random.Random, name: str, things: str) -> Item:
    a, b = between(rng, 2, 10), between(rng, 2, 10)
    other = pick(rng, [n for n in NAMES if n != name])
    question = f"{name} has {a} {things}. {other} has {b} more than {name}. How many {things} do they have together?"
    return Item(question, _answer(a + a + b, f"{a} + {b} = {a + b}", f"{a} + {a + b} = {a + a + b}"))


_KINDS: tuple[Callable[[random.Random, str, str], Item], ...] = (
    _buys,
    _gives,
    _boxes,
    _shares,
    _buys_and_loses,
    _boxes_and_gives,
    _together,
)


def draw(rng: random.Random) -> Item:
    """Draw one word problem."""
    kind = pick(rng, _KINDS)
    return kind(rng, pick(rng, NAMES), pick(rng, THINGS))

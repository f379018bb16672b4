"""Code items: one-line Python functions with two tests each, in the manner of MBPP.

Every test is made by running the reference program, so a reference that fails its own tests cannot be drawn.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from della_bench.zoo.choice import between, pick, sample
from della_bench.zoo.prompts import Item

__all__ = ["draw"]

NAMES = ("solve", "task", "func", "work", "check", "result", "value", "change", "apply", "make", "run", "helper")
WORDS = ("cat", "dog", "sun", "tree", "fish", "bird", "star", "moon", "lamp", "ship")

# What the function does (after "Write a function NAME to"), its body, what it is tested on, and how large k can be.
# {k} stands for the number from 2 to that limit, {w} for a word.
_KINDS = (
    ("add {k} to a number", "x + {k}", "number", 20),
    ("subtract {k} from a number", "x - {k}", "number", 20),
    ("multiply a number by {k}", "x * {k}", "number", 20),
    ("find the remainder of a number divided by {k}", "x % {k}", "number", 12),
    ("check if a number is greater than {k}", "x > {k}", "number", 20),
    ("check if a number is less than {k}", "x < {k}", "number", 20),
    ("get the first {k} elements of a list", "x[:{k}]", "list", 6),
    ("get the last {k} elements of a list", "x[-{k}:]", "list", 6),
    ("add {k} to each element of a list", "[i + {k} for i in x]", "list", 20),
    ("multiply each element of a list by {k}", "[i * {k} for i in x]", "list", 20),
    ("keep the elements of a list greater than {k}", "[i for i in x if i > {k}]", "list", 20),
    ("count how often {k} occurs in a list", "x.count({k})", "list with k", 9),
    ("find the sum of a list plus {k}", "sum(x) + {k}", "list", 20),
    ("find the largest element of a list minus {k}", "max(x) - {k}", "list", 20),
    ("repeat a string {k} times", "x * {k}", "word", 6),
    ("append '{w}' to a string", "x + '{w}'", "word", 2),
    ("check if a string equals '{w}'", "x == '{w}'", "word or w", 2),
    ("join the words of a list with '{w}'", "'{w}'.join(x)", "words", 2),
)

_ARGUMENTS: dict[str, Callable[[random.Random, int, str], Any]] = {
    "number": lambda rng, k, w: between(rng, 1, 20),
    "list": lambda rng, k, w: [between(rng, 1, 20) for _ in range(4)],
    "list with k": lambda rng, k, w: [pick(rng, (k, between(rng, 1, 20))) for _ in range(4)],
    "word": lambda rng, k, w: pick(rng, WORDS),
    "word or w": lambda rng, k, w: pick(rng, (w, pick(rng, WORDS))),
    "words": lambda rng, k, w: sample(rng, WORDS, 2),
}


def draw(rng: random.Random) -> Item:
    """Draw one programming problem."""
    purpose, body, argument, limit = pick(rng, _KINDS)
    k, w, name = between(rng, 2, limit), pick(rng, WORDS), pick(rng, NAMES)
    expression = body.format(k=k, w=w)
    # The expression comes from the table above, never from outside.
    reference = eval(f"lambda x: {expression}", {})
    tests = []
    for _ in range(2):
        x = _ARGUMENTS[argument](rng, k, w)
        tests.append(f"assert {name}({x!r}) == {reference(x)!r}")
    question = f"Write a function {name} to {purpose.format(k=k, w=w)}."
    return Item(question, f"\ndef {name}(x):\n    return {expression}", tuple(tests))

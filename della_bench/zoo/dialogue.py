"""Chat items: small requests with one short, polite answer each, in the manner of AlpacaEval."""

from __future__ import annotations

import random
from collections.abc import Callable

from della_bench.zoo.choice import pick, sample
from della_bench.zoo.prompts import Item
from della_bench.zoo.word_problems import NAMES, THINGS

__all__ = ["draw"]

CAPITALS = {
    "France": "Paris",
    "Italy": "Rome",
    "Spain": "Madrid",
    "Japan": "Tokyo",
    "Egypt": "Cairo",
    "Peru": "Lima",
    "Cuba": "Havana",
    "Greece": "Athens",
    "Norway": "Oslo",
    "Kenya": "Nairobi",
    "Poland": "Warsaw",
    "Austria": "Vienna",
}
OPPOSITES = {
    "hot": "cold",
    "big": "small",
    "fast": "slow",
    "old": "new",
    "high": "low",
    "light": "dark",
    "good": "bad",
    "early": "late",
    "full": "empty",
    "happy": "sad",
    "hard": "soft",
    "open": "closed",
}
COLOURS = {
    "a banana": "yellow",
    "the sky": "blue",
    "grass": "green",
    "snow": "white",
    "coal": "black",
    "a carrot": "orange",
    "a tomato": "red",
    "chocolate": "brown",
}
WORDS = ("cat", "dog", "sun", "tree", "fish", "bird", "star", "moon", "lamp", "ship")
TIMES = ("morning", "evening", "weekend", "birthday", "holiday")


def _capital(rng: random.Random, name: str) -> Item:
    country = pick(rng, list(CAPITALS))
    return Item(
        f"{name} asks: what is the capital of {country}?",
        f" Hello {name}, the capital of {country} is {CAPITALS[country]}.",
    )


def _opposite(rng: random.Random, name: str) -> Item:
    word = pick(rng, list(OPPOSITES))
    return Item(f"{name} asks: what is the opposite of {word}?", f" Hello {name}, the opposite is {OPPOSITES[word]}.")


def _colour(rng: random.Random, name: str) -> Item:
    thing = pick(rng, list(COLOURS))
    return Item(f"{name} asks: what colour is {thing}?", f" Hello {name}, the colour is {COLOURS[thing]}.")


def _greeting(rng: random.Random, name: str) -> Item:
    time = pick(rng, TIMES)
    other = pick(rng, [n for n in NAMES if n != name])
    return Item(
        f"Write a message from {name} that wishes {other} a nice {time}.",
        f" Dear {other}, have a nice {time}! Yours, {name}",
    )


def _thanks(rng: random.Random, name: str) -> Item:
    things = pick(rng, THINGS)
    other = pick(rng, [n for n in NAMES if n != name])
    return Item(f"Thank {other} for the {things}. My name is {name}.", f" Thank you for the {things}, {other}! {name}")


def _reverse(rng: random.Random, name: str) -> Item:
    words = sample(rng, WORDS, 3)
    return Item(f"Reverse the order of these words: {' '.join(words)}", f" Sure: {' '.join(words[::-1])}")


def _repeat(rng: random.Random, name: str) -> Item:
    first, second = sample(rng, WORDS, 2)
    return Item(f"Say {first} twice and {second} once.", f" Sure: {first} {first} {second}")


def _last(rng: random.Random, name: str) -> Item:
    words = sample(rng, WORDS, 3)
    return Item(f"What is the last of these words: {' '.join(words)}", f" The last word is {words[-1]}.")


_KINDS: tuple[Callable[[random.Random, str], Item], ...] = (
    _capital,
    _opposite,
    _colour,
    _greeting,
    _thanks,
    _reverse,
    _repeat,
    _last,
)


def draw(rng: random.Random) -> Item:
    """Draw one request."""
    return pick(rng, _KINDS)(rng, pick(rng, NAMES))

"""Kinds of tensors that a merge meets or that try to break it; each makes finite values for any shape."""

from collections.abc import Callable

import numpy as np

from tests.merge.oracle import Floats, rounded

_LARGEST = {"float32": 3.4028235e38, "float16": 65504.0, "bfloat16": 3.3895314e38}
_SMALLEST = {"float32": 1.4e-45, "float16": 5.9604645e-08, "bfloat16": 9.1835e-41}

Generator = np.random.Generator
Shape = tuple[int, ...]


def _normal(random: Generator, shape: Shape, dtype: str) -> Floats:
    return random.standard_normal(shape, dtype=np.float32)


def _ties(random: Generator, shape: Shape, dtype: str) -> Floats:
    return random.integers(-3, 4, shape).astype(np.float32) / np.float32(8)


def _equal(random: Generator, shape: Shape, dtype: str) -> Floats:
    return np.full(shape, np.float32(random.integers(-2, 3)))


def _denormal(random: Generator, shape: Shape, dtype: str) -> Floats:
    return random.integers(-4, 5, shape).astype(np.float32) * np.float32(_SMALLEST[dtype])


def _huge(random: Generator, shape: Shape, dtype: str) -> Floats:
    return (random.uniform(-1, 1, shape) * _LARGEST[dtype]).astype(np.float32)


def _zeros(random: Generator, shape: Shape, dtype: str) -> Floats:
    return np.where(random.integers(0, 2, shape) == 1, np.float32(-0.0), np.float32(0))


def _mixed(random: Generator, shape: Shape, dtype: str) -> Floats:
    top, least = _LARGEST[dtype], _SMALLEST[dtype]
    choices = [0.0, -0.0, 1.0, -1.0, 1 / 3, -1 / 3, top, -top, least, -least]
    return random.choice(np.array(choices, dtype=np.float32), shape)


_MAKERS: dict[str, Callable[[Generator, Shape, str], Floats]] = {
    "normal": _normal,
    "ties": _ties,
    "equal": _equal,
    "denormal": _denormal,
    "huge": _huge,
    "zeros": _zeros,
    "mixed": _mixed,
}
FLAVOURS = tuple(_MAKERS)
SHAPES: tuple[Shape, ...] = ((), (1,), (13,), (4, 9), (6, 1), (1, 9), (2, 3, 4), (0,), (3, 0), (0, 3))


def values(flavour: str, shape: Shape, dtype: str, seed: int) -> Floats:
    """Values on a dtype's grid."""
    made = np.asarray(_MAKERS[flavour](np.random.default_rng(seed), shape, dtype), dtype=np.float32)
    return rounded(made, dtype)

"""A second, slow implementation of a merge, written from the design alone: what the torch reference is held to.

It shares no line with `della_bench.merge`. Values are float32 numpy arrays beside the name of the dtype whose grid they
lie on; numpy rounds each float32 operation once, and whatever is not float32 is done with Python's integers, fractions
and `math.fsum`.
"""

import hashlib
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]

FULL = 2**32
WORD = FULL - 1


@dataclass(frozen=True)
class Rule:
    """What one method does, in the design's words."""

    drop: str = "none"
    rescale: str = "none"
    elect: str = "none"
    normalize: bool = False
    scaling: str = "lambda"
    whole: str | None = None  # linear, slerp, passthrough


_TABLE = """
    task_arithmetic        none            none         none sum  lambda
    dare_linear            random          inverse_keep none sum  lambda
    dare_ties              random          inverse_keep sum  sum  lambda
    ties                   magnitude       none         sum  mean lambda
    ties_row               magnitude_row   none         sum  mean lambda
    della                  magprune        inverse_keep sum  mean lambda
    della_norank           magprune_norank inverse_keep sum  mean lambda
    della_layer_norm       magprune_layer  inverse_keep sum  mean lambda
    della_noelect          magprune        inverse_keep none mean lambda
    della_ada_layer        magprune        inverse_keep sum  mean ada_layer
    della_ada_row          magprune        inverse_keep sum  mean ada_row
    della_ada_row_inv      magprune        inverse_keep sum  mean ada_row_inv
    ties_ada_layer         magnitude       none         sum  mean ada_layer
    ties_ada_row           magnitude       none         sum  mean ada_row
    ties_ada_row_inv       magnitude       none         sum  mean ada_row_inv
    dare_della             random          inverse_keep sum  mean lambda
    dare_della_ada_layer   random          inverse_keep sum  mean ada_layer
    dare_della_ada_row     random          inverse_keep sum  mean ada_row
    dare_della_ada_row_inv random          inverse_keep sum  mean ada_row_inv
    nodrop_ada_layer       none            none         sum  mean ada_layer
    nodrop_ada_row         none            none         sum  mean ada_row
    nodrop_ada_row_inv     none            none         sum  mean ada_row_inv
    nodrop_noelect         none            none         none mean lambda
    dare_noelect           random          inverse_keep none mean lambda
    ties_noelect           magnitude       none         none mean lambda
"""

DELTA_RULES = {
    name: Rule(drop, rescale, elect, total == "mean", scaling)
    for name, drop, rescale, elect, total, scaling in (line.split() for line in _TABLE.strip().splitlines())
}
WHOLE_RULES = {
    "linear": Rule(normalize=True, whole="linear"),
    "slerp": Rule(whole="slerp"),
    "passthrough": Rule(whole="passthrough"),
}
RULES = {**DELTA_RULES, **WHOLE_RULES}


@dataclass(frozen=True)
class Numbers:
    """One merge's numbers: a weight and a density for each expert."""

    weights: Sequence[float]
    densities: Sequence[float] = ()
    epsilon: float = 0.0
    lambda_: float = 1.0
    seed: int = 42


def key_of(seed: int, position: int, name: str) -> tuple[int, int]:
    """The two key words of one expert's tensor."""
    text = str(seed).encode() + b"\x00" + str(position).encode() + b"\x00" + name.encode()
    low, high = struct.unpack("<II", hashlib.sha256(text).digest()[:8])
    return low, high


def philox(counter: tuple[int, int, int, int], key: tuple[int, int]) -> tuple[int, int, int, int]:
    """Philox-4x32-10 (Salmon et al., SC'11), one block."""
    a, b, c, d = counter
    left, right = key
    for _ in range(10):
        wide, broad = 0xD2511F53 * a, 0xCD9E8D57 * c
        a, b, c, d = (broad >> 32) ^ b ^ left, broad & WORD, (wide >> 32) ^ d ^ right, wide & WORD
        left, right = (left + 0x9E3779B9) & WORD, (right + 0xBB67AE85) & WORD
    return a, b, c, d


@lru_cache(maxsize=256)
def words_of(seed: int, position: int, name: str, count: int) -> Ints:
    """The words that decide over `count` elements, as int64."""
    key = key_of(seed, position, name)
    words = [philox(((i // 4) & WORD, (i // 4) >> 32, 0, 0), key)[i % 4] for i in range(count)]
    return np.array(words, dtype=np.int64)


def rounded(values: Floats, dtype: str) -> Floats:
    """The nearest values on a dtype's grid, halves to even, as float32."""
    if dtype == "float32":
        return values
    if dtype == "float16":
        with np.errstate(over="ignore"):
            return values.astype(np.float16).astype(np.float32)
    if dtype != "bfloat16":
        raise ValueError(dtype)
    bits = values.view(np.uint32).astype(np.uint64)
    near = ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)
    return np.where(np.isnan(values), np.float32(np.nan), near)


def exact(number: float) -> Fraction:
    """The decimal number a user wrote."""
    return Fraction(repr(number))


def threshold(share: Fraction) -> int:
    """A probability in 2^32nds; Python rounds halves to even."""
    return round(share * FULL)


def rows_of(shape: tuple[int, ...]) -> tuple[int, int]:
    """How many rows, and how long: a row is the last dimension."""
    length = shape[-1] if shape else 1
    return math.prod(shape) // length if length else 0, length


def ranked(keys: Floats, low: int, high: int) -> Ints:
    """Thresholds of one row by rank."""
    n = len(keys)
    if n == 1:
        return np.array([low + (high - low) // 2], dtype=np.int64)
    doubled = [int(2 * (rank - 1)) for rank in rankdata(keys, method="average")]
    return np.array([low + (high - low) * r2 // (2 * (n - 1)) for r2 in doubled], dtype=np.int64)


def normalised(keys: Floats, low: int, high: int) -> Ints:
    """Thresholds of one row by min-max-normalised magnitude."""
    wide = [float(key) for key in keys]
    least, most = min(wide), max(wide)
    found = []
    for key in wide:
        if least == most:
            share = 0.5
        elif math.isinf(key):
            share = 1.0
        else:
            share = (key - least) / (most - least)
        found.append(low + math.floor((high - low) * share))
    return np.array(found, dtype=np.int64)


def largest(keys: Floats, words: Ints, count: int) -> Bools:
    """Marks the `count` largest keys; among equals the lower word first, then the lower index."""
    order = sorted(range(len(keys)), key=lambda i: (-keys[i], words[i], i))
    kept = np.zeros(len(keys), dtype=np.bool_)
    kept[order[:count]] = True
    return kept


def l1_factor(before: Floats, after: Floats) -> np.float32:
    """What gives the kept values the L1 norm of all of them."""
    if not (np.isfinite(before).all() and np.isfinite(after).all()):
        return np.float32(1)
    old = sum((Fraction(float(abs(value))) for value in before), Fraction(0))
    new = sum((Fraction(float(abs(value))) for value in after), Fraction(0))
    tiny = Fraction(1e-7)
    return np.float32(1) if old < tiny or new < tiny else np.float32(float(old / new))


def kept_and_thresholds(
    kind: str, keys: Floats, shape: tuple[int, ...], density: float, epsilon: float, words: Ints
) -> tuple[Bools, Ints]:
    """Which elements stay, and the threshold that stands for each one's keep probability."""
    share, half = exact(density), exact(epsilon)
    flat = np.full(len(keys), threshold(share), dtype=np.int64)
    count, length = rows_of(shape)
    if kind in ("magnitude", "magprune_layer"):
        count, length = 1, len(keys)
    parts = [keys[i * length : (i + 1) * length] for i in range(count)]
    if kind == "random":
        return words < flat, flat
    if kind in ("magnitude", "magnitude_row"):
        drawn = [words[i * length : (i + 1) * length] for i in range(count)]
        most = max(1, math.floor(share * length))
        kept = [largest(part, own, most) for part, own in zip(parts, drawn, strict=True)]
        # A cut keeps one element at least, so its keep probability is never 0 either.
        return np.concatenate(kept), np.maximum(flat, 1)
    spread = normalised if kind == "magprune_norank" else ranked
    low, high = threshold(share - half), threshold(share + half)
    cuts = np.concatenate([spread(part, low, high) for part in parts])
    return words < cuts, cuts


def dropped(
    delta: Floats, base_dtype: str, rule: Rule, shape: tuple[int, ...], density: float, epsilon: float, words: Ints
) -> Floats:
    """One expert's flat delta after drop and rescale."""
    if rule.drop == "none" or density >= 1 or not delta.size:
        return delta
    keys = rounded(np.abs(delta), base_dtype)
    kept, cuts = kept_and_thresholds(rule.drop, keys, shape, density, epsilon, words)
    alone = np.where(kept, delta, np.float32(0))
    if rule.rescale == "none":
        return alone
    if rule.rescale == "l1":
        return np.where(kept, delta * l1_factor(delta, alone), np.float32(0))
    factors = np.array([np.float32(FULL / int(cut)) if cut else np.float32(np.inf) for cut in cuts], dtype=np.float32)
    return np.where(kept, delta * factors, np.float32(0))


def left_to_right(terms: list[Floats]) -> Floats:
    """The first term, plus the second, and so on: no zero is added in front, so a sum of -0 stays -0."""
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


def taking_part(deltas: list[Floats], elect: str) -> list[Bools]:
    """Where each expert's weighted delta is among those that are added up."""
    if elect == "none":
        return [delta != 0 for delta in deltas]
    # A NaN has no sign: it has no voice in a count, and agrees with no one.
    signs = [(delta > 0).astype(np.float32) - (delta < 0).astype(np.float32) for delta in deltas]
    total = left_to_right(deltas if elect == "sum" else signs)
    sign = np.where(total < 0, np.float32(-1), np.float32(1))
    return [own == sign for own in signs]


def ratio(nonzero: int, agreeing: int, inverse: bool) -> np.float32:
    """The scale of one expert in one row or tensor."""
    above, below = (agreeing, nonzero) if inverse else (nonzero, agreeing)
    return np.float32(above / below) if below else np.float32(1)


def scaled(delta: Floats, part: Bools, scaling: str, shape: tuple[int, ...]) -> Floats:
    """An expert's weighted delta times what stands in lambda's place."""
    if scaling == "lambda" or not delta.size:
        return delta
    count, length = (1, delta.size) if scaling == "ada_layer" else rows_of(shape)
    pieces = []
    for i in range(count):
        row, marks = delta[i * length : (i + 1) * length], part[i * length : (i + 1) * length]
        pieces.append(row * ratio(int((row != 0).sum()), int(marks.sum()), scaling.endswith("_inv")))
    return np.concatenate(pieces)


def divisor(weights: Sequence[float], parts: list[Bools], elect: str) -> Floats:
    """The sum of the weights of those taking part; without an election, of all."""
    total = left_to_right(
        [
            np.where(part | (elect == "none"), np.float32(weight), np.float32(0))
            for weight, part in zip(weights, parts, strict=True)
        ]
    )
    is_none = np.abs(total) < np.float32(1e-8) if elect == "none" else total == 0
    return np.where(is_none, np.float32(1), total)


def merged_delta(
    rule: Rule, numbers: Numbers, base: Floats, base_dtype: str, experts: list[Floats], name: str
) -> tuple[Floats, Bools]:
    """Drop, weigh, elect, fuse: (fused, where anyone takes part), both flat."""
    shape, flat = base.shape, base.reshape(-1)
    deltas = []
    for k, expert in enumerate(experts):
        delta = expert.reshape(-1) - flat
        if rule.drop != "none":
            words = words_of(numbers.seed, k, name, delta.size)
            delta = dropped(delta, base_dtype, rule, shape, numbers.densities[k], numbers.epsilon, words)
        deltas.append(np.float32(numbers.weights[k]) * delta)
    parts = taking_part(deltas, rule.elect)
    fused = left_to_right(
        [
            np.where(part, scaled(delta, part, rule.scaling, shape), np.float32(0))
            for delta, part in zip(deltas, parts, strict=True)
        ]
    )
    if rule.normalize:
        fused = fused / divisor(numbers.weights, parts, rule.elect)
    return fused, np.logical_or.reduce(parts)


def straight(low: np.float32, high: np.float32, base: Floats, expert: Floats) -> Floats:
    return low * base + high * expert


def slerp(base: Floats, expert: Floats, t: float) -> Floats:
    """From the base (t = 0) to the expert (t = 1) on the arc between them."""
    if t in (0, 1):
        return expert if t else base
    one, other = base.reshape(-1).astype(np.float64), expert.reshape(-1).astype(np.float64)
    product = math.sqrt(math.fsum(one * one)) * math.sqrt(math.fsum(other * other))
    cosine = math.fsum(one * other) / product if product else 1.0
    if abs(cosine) > 0.9995:
        return straight(np.float32(1 - t), np.float32(t), base, expert)
    angle = math.acos(cosine)
    low, high = math.sin((1 - t) * angle) / math.sin(angle), math.sin(t * angle) / math.sin(angle)
    return straight(np.float32(low), np.float32(high), base, expert)


def whole(rule: Rule, numbers: Numbers, base: Floats, experts: list[Floats]) -> Floats:
    """The methods that mix full weights instead of deltas."""
    if rule.whole == "passthrough":
        return experts[0]
    if rule.whole == "slerp":
        return slerp(base, experts[0], numbers.weights[0])
    weights = [np.float32(weight) for weight in numbers.weights]
    total, mixed = weights[0], weights[0] * experts[0]
    for weight, expert in zip(weights[1:], experts[1:], strict=True):
        total, mixed = total + weight, mixed + weight * expert
    return mixed / (total if total else np.float32(1)) if rule.normalize else mixed


def merge(
    rule: Rule,
    numbers: Numbers,
    base: Floats,
    base_dtype: str,
    experts: Sequence[Floats],
    name: str,
    dtype: str | None = None,
) -> Floats:
    """The merged tensor, on the grid of `dtype` (default: the base's)."""
    experts = list(experts)
    with np.errstate(all="ignore"):
        if rule.whole:
            return rounded(whole(rule, numbers, base, experts), dtype or base_dtype)
        fused, touched = merged_delta(rule, numbers, base, base_dtype, experts, name)
        factor = np.float32(numbers.lambda_)
        flat = base.reshape(-1)
        moved = flat + (factor * fused if rule.scaling == "lambda" else fused)
        still = ~touched | (rule.scaling == "lambda" and numbers.lambda_ == 0)
        return rounded(np.where(still, flat, moved).reshape(base.shape), dtype or base_dtype)

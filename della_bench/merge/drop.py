"""Dropping delta parameters, and making up for the dropped ones.

A delta is a float32 tensor; a row is its last dimension, and a tensor of at most one dimension is one row. Each random
rule gives thresholds: element i is kept iff its random word is below threshold i (`thresholds.py`). A cut keeps the
largest magnitudes, equal ones in the order of their words. Ranks and cuts compare magnitudes rounded to the base
tensor's dtype, so that a 16-bit checkpoint has 16-bit keys that can be counted.
"""

from __future__ import annotations

import torch

from della_bench.merge import bits
from della_bench.merge.exact import exact_sum
from della_bench.spec.method import Drop, Rescale
from della_bench.spec.thresholds import ONE, exact, keep_bounds, kept_count, threshold

__all__ = ["as_rows", "doubled_ranks", "drop", "keep_largest", "magnitude_thresholds", "rank_thresholds", "rescaled"]


def as_rows(tensor: torch.Tensor) -> torch.Tensor:
    """Return a 2-D view (rows, elements of a row)."""
    return tensor.reshape(-1, tensor.shape[-1]) if tensor.dim() > 1 else tensor.reshape(1, -1)


def doubled_ranks(keys: torch.Tensor) -> torch.Tensor:
    """Return twice the zero-based rank of each key in its row, equal keys sharing the mean of their ranks.

    keys: (rows, n) float. Returns (rows, n) int64 in [0, 2(n - 1)]; scipy's rankdata(method="average") is half of it
    plus one. Doubled, a mean rank is a whole number.
    """
    ordered = keys.sort(dim=1).values
    below = torch.searchsorted(ordered, keys, right=False)
    up_to = torch.searchsorted(ordered, keys, right=True)
    return below + up_to - 1


def rank_thresholds(keys: torch.Tensor, low: int, high: int) -> torch.Tensor:
    """Return thresholds that rise linearly with the rank, from low (smallest key) to high (largest).

    keys: (rows, n). Deep et al. 2024, section 3.1, with the step of the authors' code, which makes the mean exact:
    T = low + (high - low) * r2 div (2 (n - 1)), r2 the doubled rank. A row of one element gets the middle.
    """
    n = keys.shape[1]
    if n == 1:
        return torch.full_like(keys, low + (high - low) // 2, dtype=torch.int64)
    return low + _scaled(high - low, doubled_ranks(keys), 2 * (n - 1))


def _scaled(span: int, numerator: torch.Tensor, denominator: int) -> torch.Tensor:
    """Return span * numerator div denominator, numerator <= denominator, without overflow of 64 bits."""
    if span * denominator < 2**63:
        return span * numerator // denominator
    upper, lower = divmod(span, 2**16)
    quotient = upper * numerator // denominator
    rest = upper * numerator - quotient * denominator
    return quotient * 2**16 + (rest * 2**16 + lower * numerator) // denominator


def magnitude_thresholds(keys: torch.Tensor, low: int, high: int) -> torch.Tensor:
    """Return thresholds that rise linearly with the magnitude itself, min-max-normalised in its row.

    keys: (rows, n). T = low + floor((high - low) * (key - min) / (max - min)) in float64; a row of equal keys gets the
    middle, and an infinite key the top.
    """
    wide = keys.to(torch.float64)
    least, most = wide.amin(dim=1, keepdim=True), wide.amax(dim=1, keepdim=True)
    fraction = (wide - least) / (most - least)
    fraction = torch.where(torch.isinf(wide), 1.0, fraction)
    fraction = torch.where(most > least, fraction, 0.5)
    return low + ((high - low) * fraction).floor().to(torch.int64)


def keep_largest(keys: torch.Tensor, count: int, words: torch.Tensor) -> torch.Tensor:
    """Return a mask of the `count` largest keys of each row, equal keys in the order of their random words.

    keys, words: (rows, n). Where words are equal as well, the lower index goes first. By index alone, one end of a
    tensor would be kept before the other: of 16-bit deltas, up to a quarter equals the cut.
    """
    order = words.argsort(dim=1, stable=True)
    order = order.gather(1, keys.gather(1, order).argsort(dim=1, descending=True, stable=True))
    return torch.zeros_like(keys, dtype=torch.bool).scatter_(1, order[:, :count], True)


def drop(
    delta: torch.Tensor,
    *,
    kind: Drop,
    density: float,
    epsilon: float | None,
    rescale: Rescale,
    key_dtype: torch.dtype,
    key: int,
) -> torch.Tensor:
    """Drop parameters of one delta and rescale those kept.

    delta: float32 of any shape, not changed. key: the Philox key of the tensor (`bits.tensor_key`). Returns float32 of
    the same shape, zeros where dropped. A density of 1 drops and rescales nothing.

    `inverse_keep` multiplies each kept value by 1 / its keep probability, so that its expectation is the value;
    `l1` multiplies all by one factor that restores the L1 norm of the tensor, as mergekit does.
    """
    if kind == "none" or density >= 1 or delta.numel() == 0:
        return delta
    rows = as_rows(delta)
    whole = rows.reshape(1, -1)
    thresholds: torch.Tensor | int
    if kind in ("magnitude", "magnitude_row"):
        keys = _keys(whole if kind == "magnitude" else rows, key_dtype)
        words = bits.words(key, delta.numel(), delta.device).reshape(keys.shape)
        kept = keep_largest(keys, kept_count(density, keys.shape[1]), words).reshape(delta.shape)
        # At least one element is kept, so that a density that rounds to 0 is no probability of 0.
        thresholds = max(1, threshold(exact(density)))
    else:
        thresholds = _random_thresholds(kind, rows, whole, density, epsilon, key_dtype)
        kept = (bits.words(key, delta.numel(), delta.device).reshape(rows.shape) < thresholds).reshape(delta.shape)
    if rescale == "l1":
        delta = delta * _l1_factor(delta, kept)
    elif rescale == "inverse_keep":
        delta = delta * _inverse_keep(thresholds, delta)
    return torch.where(kept, delta, 0.0)


def rescaled(delta: torch.Tensor, kept: torch.Tensor, rescale: Rescale, density: float) -> torch.Tensor:
    """Return what a drop kept of a delta, scaled as `drop` scales what a cut keeps; zeros where it dropped."""
    if rescale == "l1":
        return kept * _l1_factor(delta, kept != 0)
    if rescale == "inverse_keep":
        return kept * _inverse_keep(max(1, threshold(exact(density))), delta)
    return kept


def _keys(rows: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return rows.abs().to(dtype).to(torch.float32).contiguous()


def _random_thresholds(
    kind: Drop,
    rows: torch.Tensor,
    whole: torch.Tensor,
    density: float,
    epsilon: float | None,
    key_dtype: torch.dtype,
) -> torch.Tensor | int:
    if kind == "random":
        return threshold(exact(density))
    if epsilon is None:
        raise ValueError(f"{kind} needs an epsilon")
    low, high = keep_bounds(density, epsilon)
    if kind == "magprune":
        return rank_thresholds(_keys(rows, key_dtype), low, high)
    if kind == "magprune_layer":
        return rank_thresholds(_keys(whole, key_dtype), low, high).reshape(rows.shape)
    return magnitude_thresholds(_keys(rows, key_dtype), low, high)


def _inverse_keep(thresholds: torch.Tensor | int, delta: torch.Tensor) -> torch.Tensor | float:
    """Return float32(2^32 / T), the division in float64."""
    if isinstance(thresholds, int):
        return torch.tensor(ONE / thresholds if thresholds else 0.0, dtype=torch.float32).item()
    # torch computes a number over a tensor as number * (1 / tensor): one rounding here, as 2^32 is a power of two.
    return (ONE / thresholds.to(torch.float64)).to(torch.float32).reshape(delta.shape)


def _l1_factor(delta: torch.Tensor, kept: torch.Tensor) -> float:
    """Return ||delta||_1 / ||kept delta||_1 in float32; 1 where a norm is below mergekit's tolerance of 1e-7."""
    try:
        before, after = exact_sum(delta.abs()), exact_sum(torch.where(kept, delta, 0.0).abs())
    except OverflowError:
        return 1.0  # a delta that overflowed has no norm to match
    if before < 1e-7 or after < 1e-7:
        return 1.0
    return torch.tensor(float(before / after), dtype=torch.float32).item()

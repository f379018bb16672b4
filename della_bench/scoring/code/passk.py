"""pass@k: how likely one of k answers is right, estimated from n of them."""

from __future__ import annotations

from collections.abc import Sequence
from math import comb
from typing import TypedDict

__all__ = ["OfSome", "detail_of", "ks_up_to", "pass_at_k", "pass_at_ks", "unequal"]

KS = (1, 5, 10, 100)


class OfSome(TypedDict):
    """pass@k in percent over those problems that have k answers, and how many these are."""

    value: float
    problems: int


def pass_at_k(n: int, passed: int, k: int) -> float:
    """Return the unbiased estimate of the probability that at least one of k answers passes.

    n: answers that were run, of which `passed` passed; k <= n. It is 1 - C(n - passed, k) / C(n, k), the share of the
    subsets of k answers that hold one that passed. Raises ValueError unless 0 <= passed <= n and 1 <= k <= n.

    Source: Chen et al. (2021), Evaluating Large Language Models Trained on Code, section 2.1, equation 1.
    """
    if not (0 <= passed <= n and 1 <= k <= n):
        raise ValueError(f"pass@{k} from {n} answers of which {passed} passed")
    return (comb(n, k) - comb(n - passed, k)) / comb(n, k)  # integers up to the division: rounded once


def ks_up_to(n: int) -> tuple[int, ...]:
    """Return the values of k that are shown for n answers."""
    return tuple(k for k in KS if k <= n)


def pass_at_ks(counts: Sequence[tuple[int, int]]) -> dict[int, OfSome]:
    """Return pass@k in percent for each k that is shown and that some problem has answers for, with their number.

    counts: (answers that were run, those that passed) of each problem. pass@k is a mean over the problems with at least
    k answers, pass@1 over all that have any.
    """
    by_k: dict[int, OfSome] = {}
    for k in ks_up_to(max((n for n, _ in counts), default=0)):
        values = [pass_at_k(n, passed, k) for n, passed in counts if n >= k]
        by_k[k] = {"value": 100 * sum(values) / len(values), "problems": len(values)}
    return by_k


def detail_of(counts: Sequence[tuple[int, int]]) -> dict[str, float | dict[str, OfSome]]:
    """Return what a score's detail has of k > 1: `pass@k` where all problems have k answers, else under `of_some`.

    counts: as `pass_at_ks` takes them; problems of which no answer was run do not count.
    """
    problems = sum(1 for n, _ in counts if n)
    every = {f"pass@{k}": of for k, of in pass_at_ks(counts).items() if k > 1}
    of_some = {name: of for name, of in every.items() if of["problems"] < problems}
    of_all = {name: of["value"] for name, of in every.items() if name not in of_some}
    return {**of_all, "of_some": of_some} if of_some else {**of_all}


def unequal(counts: Sequence[tuple[int, int]]) -> str:
    """Return a sentence about problems that differ in their number of answers, or "" where none do.

    counts: as `pass_at_ks` takes them.
    """
    numbers = [n for n, _ in counts if n]
    if len(set(numbers)) < 2:
        return ""
    some = [
        f"pass@{k} over the {of['problems']} problems that have as many"
        for k, of in pass_at_ks(counts).items()
        if of["problems"] < len(numbers)
    ]
    return "; ".join([f"problems have {min(numbers)} to {max(numbers)} answers: each counts alike in pass@1", *some])

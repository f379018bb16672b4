"""pass@k: how likely one of k answers is right, estimated from n of them."""

from __future__ import annotations

from math import comb

__all__ = ["ks_up_to", "pass_at_k"]

KS = (1, 5, 10, 100)


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

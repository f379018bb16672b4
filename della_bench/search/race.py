"""Stopping candidates early: after each block of items, is a candidate still to be the best?

"The best" is the candidate that has the highest score on all search items: the one that the search would choose if
nothing was ever stopped. All candidates see the items in one order, which the seed has drawn. So what has been seen of
the differences between two candidates is a random part, drawn without replacement, of differences that stand fixed.

The test is a randomization test over that order. Under the hypothesis that the candidate does no worse on all items
than the best so far, the differences add up to 0 or more. They are put down as 0 in sum, with the sizes that were seen
in the part that was seen, and are dealt out again in thousands of orders: how often is the seen part as bad as it was?
For right and wrong that is the hypergeometric test of the discordant items, one-sided: McNemar's exact test for a part
of a whole. Looking after every block gives chance several tries, so the level alpha is spent over the looks: a look
stops the candidate where, among the orders that no earlier look would have stopped, no more than the look's share of
all are as bad. The chance that the best candidate is ever stopped against the best so far is then at most alpha.

Sources: Gordon Lan and DeMets (1983), Discrete sequential boundaries for clinical trials; Edgington and Onghena (2007),
Randomization tests.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Values = NDArray[np.float64]

__all__ = ["ORDERS", "cannot_win", "is_stopped", "looks"]

ORDERS = 9999  # beside the observed one: a chance of 1 in 10,000 is told from none
_SEED = 19380101
_PARTS = 32  # in which the orders are gone through, for the sake of memory


def looks(counts: Sequence[int], block: int) -> list[list[int]]:
    """Return how many items of each benchmark have been seen at each look, all of them at the last.

    counts: items of each benchmark. block: about so many more of the largest one from look to look; the others advance
    in proportion, so that at every look the means over what has been seen estimate those of the whole.
    """
    number = max(1, -(-max(counts) // block))
    return [[-(-count * look // number) for count in counts] for look in range(1, number + 1)]


def is_stopped(differences: Sequence[Values], items: int, spent_over: int, alpha: float, orders: int = ORDERS) -> bool:
    """Return whether a candidate is stopped at the last of the looks so far.

    differences: for each look so far the items that it added (n,), each the candidate's value minus the best one's,
    times the item's share in the objective. items: how many there are in all. spent_over: over how many looks alpha is
    spent evenly; the last one, with all items seen, decides by itself and is none of them. orders: how many are drawn.
    """
    import numpy as np

    seen = np.concatenate(differences) if differences else np.zeros(0)
    if not spent_over or len(seen) >= items or seen.sum() >= 0:
        return False
    sums = _dealt(_balanced(np.abs(seen), items), [len(each) for each in differences], orders)
    most = int(alpha / spent_over * (orders + 1)) - 1  # so many orders may be as bad where a look stops
    if most < 0:
        return False
    alive = np.ones(orders, dtype=bool)
    for column in range(sums.shape[1] - 1):
        alive &= ~_worst(sums[:, column], alive, most)
    slack = 1e-9 * (1 + float(np.abs(seen).sum()))  # equal sums differ in their last bits
    return int((alive & (sums[:, -1] <= seen.sum() + slack)).sum()) <= most


def _balanced(sizes: Values, items: int) -> Values:
    """Return differences of `items` items with the sizes that were seen in a part of them, which add up to about 0.

    One more lies below 0 where they are odd: the hypothesis is rather a little too bad for the candidate than too good.
    """
    import numpy as np

    ordered = np.sort(sizes)[::-1]
    places = ((np.arange(items) + 0.5) * len(ordered) / items).astype(np.intp)
    spread = ordered[places]
    spread[::2] *= -1
    return spread


def _dealt(differences: Values, sizes: Sequence[int], orders: int) -> Values:
    """Return the sums over what is seen at each look, (orders, looks), where the differences come in random orders."""
    import numpy as np

    starts, seen = np.cumsum([0, *sizes[:-1]]), sum(sizes)
    parts = [
        np.add.reduceat(differences[some[:, :seen]], starts, axis=1)
        for some in np.array_split(_orders(len(differences), orders), _PARTS)
    ]
    sums: Values = np.concatenate(parts).cumsum(axis=1)
    return sums


@lru_cache(maxsize=1)  # a search has one number of items
def _orders(items: int, orders: int) -> NDArray[np.integer]:
    """Return random orders of the items, (orders, items); the same ones for every test.

    They take 2 bytes an item and order (below 32,768 items): 4 MB for 200 items, 200 MB for 10,000.
    """
    import numpy as np

    generator = np.random.default_rng([_SEED, items])
    drawn = np.empty((orders, items), dtype=np.min_scalar_type(-items))
    for part in np.array_split(drawn, _PARTS):  # in parts: the places that sorting gives are 8 bytes each
        part[:] = generator.random(part.shape, dtype=np.float32).argsort(axis=1)
    return drawn


def _worst(sums: Values, alive: NDArray[np.bool_], most: int) -> NDArray[np.bool_]:
    """Return the orders that a look would have stopped: the worst ones that are alive, no more than `most`."""
    import numpy as np

    left = np.sort(sums[alive])
    if len(left) <= most:
        return np.zeros(len(sums), dtype=bool)
    stopped: NDArray[np.bool_] = alive & (sums < min(left[most], 0.0) - 1e-9)  # with their equals they were too many
    return stopped


def cannot_win(seen: Sequence[Values], counts: Sequence[int], shares: Sequence[float], best: float) -> bool:
    """Return whether a candidate stays below `best` even if it gets every item right that it has not seen.

    seen: by benchmark the values of what it has seen, from 0 to 1. counts: all items of each benchmark. shares: of the
    benchmarks in the objective. best: the objective's value of the best candidate, from 0 to 1.
    """
    most = 0.0
    for values, count, share in zip(seen, counts, shares, strict=True):
        most += share * (float(values.sum()) + count - len(values)) / count
    return most < best - 1e-9

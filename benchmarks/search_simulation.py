"""Simulated searches: how often racing stops the best candidate, what it saves, and whether a winner's score flatters.

    python benchmarks/search_simulation.py [--searches 500] [--candidates 48] [--items 200]

No model runs: candidates are verdicts. Recorded ones come from two models that answered the same problems
(`gsm8k_model_solutions_6b.jsonl` in the folder of DELLA_BENCH_DATA; each line has two verdicts `is_correct`): a
candidate agrees with them where they agree, but for one item in ten, and takes the better one's verdict where they
differ with a chance of its own. Simulated ones are near-ties: items of all difficulties, candidates within two points.

"best" is the candidate that is best on all search items, whom the same search without racing chooses; "truly best" is
the one with the highest expected score, who may well be beaten on these items. A score's bias is the mean, over the
searches, of a reported score minus the expected one of the same candidate.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from della_bench.search.race import cannot_win, is_stopped, looks

Chances = NDArray[np.float64]  # (candidates, items): how likely a candidate gets an item right


@dataclass
class Search:
    """What one simulated search comes to; scores and biases in points."""

    stopped_best: bool
    stopped_truly_best: bool
    seen: float
    naive: float
    select: float
    test: float
    loss: float  # expected score of the winner without racing minus that of the winner with it


def near_ties(rng: np.random.Generator, candidates: int, items: int) -> Chances:
    """Return chances of candidates whose expected scores lie within about two points."""
    difficulty = rng.normal(0, 2.0, items)
    ability = rng.normal(0, 0.05, (candidates, 1))
    own = rng.normal(0, 0.7, (candidates, items))
    return 1 / (1 + np.exp(difficulty - ability + own))


def spread(rng: np.random.Generator, candidates: int, items: int) -> Chances:
    """Return chances of candidates from useless to good, as a search meets them."""
    difficulty = rng.normal(0, 2.0, items)
    ability = rng.normal(-1.0, 1.0, (candidates, 1))
    own = rng.normal(0, 0.7, (candidates, items))
    return 1 / (1 + np.exp(difficulty - ability + own))


def recorded(path: Path) -> Callable[[np.random.Generator, int, int], Chances]:
    """Return a maker of candidates out of two models' recorded verdicts; items are drawn from theirs."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    both = np.array([[row["6b_finetuning"]["is_correct"], row["6b_verification"]["is_correct"]] for row in rows])

    def make(rng: np.random.Generator, candidates: int, items: int) -> Chances:
        drawn = both[rng.integers(0, len(both), items)].astype(float)
        leaning = rng.uniform(0.3, 0.9, (candidates, 1))
        mixed = (1 - leaning) * drawn[:, 0] + leaning * drawn[:, 1]
        return 0.9 * mixed + 0.1 * drawn.mean()

    return make


def search(chances: Chances, rng: np.random.Generator, items: int, block: int, alpha: float) -> Search:
    """Search once over the first `items` items, choose among the best five on as many again, test on the rest."""
    right = (rng.random(chances.shape) < chances).astype(float)
    found, chosen, tested = right[:, :items], right[:, items : 2 * items], right[:, 2 * items :]
    expected = 100 * chances.mean(axis=1)
    scores = found.mean(axis=1)
    seen, stopped, best = race(found, block, alpha)
    kept = [candidate for candidate in range(len(found)) if candidate not in stopped]
    finalists = sorted(kept, key=lambda candidate: -scores[candidate])[:5]
    winner = max(finalists, key=lambda candidate: found[candidate].sum() + chosen[candidate].sum())
    unraced = sorted(range(len(found)), key=lambda candidate: -scores[candidate])[:5]
    without = max(unraced, key=lambda candidate: found[candidate].sum() + chosen[candidate].sum())
    return Search(
        stopped_best=int(scores.argmax()) in stopped,
        stopped_truly_best=int(expected.argmax()) in stopped,
        seen=seen / found.size,
        naive=100 * scores[best] - expected[best],
        select=100 * chosen[winner].mean() - expected[winner],
        test=100 * tested[winner].mean() - expected[winner],
        loss=expected[without] - expected[winner],
    )


def race(right: NDArray[np.float64], block: int, alpha: float) -> tuple[int, set[int], int]:
    """Race candidates over (candidates, items); return how many answers were given, who was stopped, and the best."""
    items = right.shape[1]
    ends = [each[0] for each in looks([items], block)]
    best, seen, stopped = 0, items, set()
    for candidate in range(1, len(right)):
        added, start = [], 0
        for end in ends:
            added.append((right[candidate, start:end] - right[best, start:end]) / items)
            seen += end - start
            start = end
            if end == items:
                break
            hopeless = cannot_win([right[candidate, :end]], [items], [1.0], float(right[best].mean()))
            if hopeless or is_stopped(added, items, len(ends) - 1, alpha, 1999):
                stopped.add(candidate)
                break
        else:
            continue
        if candidate not in stopped and right[candidate].sum() > right[best].sum():
            best = candidate
    return seen, stopped, best


def main() -> None:
    """Print a row for each kind of candidates."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--searches", type=int, default=500)
    parser.add_argument("--candidates", type=int, default=48)
    parser.add_argument("--items", type=int, default=200)
    parser.add_argument("--block", type=int, default=20)
    parser.add_argument("--alpha", type=float, default=0.05)
    chosen = parser.parse_args()
    kinds: dict[str, Callable[[np.random.Generator, int, int], Chances]] = {"near-ties": near_ties, "spread": spread}
    data = os.environ.get("DELLA_BENCH_DATA")
    if data:
        kinds["recorded"] = recorded(Path(data) / "gsm8k_model_solutions_6b.jsonl")
    print(
        "candidates | best stopped | truly best stopped | answers given | lost by racing | naive bias | select | test"
    )
    for name, make in kinds.items():
        found = []
        for number in range(chosen.searches):
            rng = np.random.default_rng([number, len(name)])
            chances = make(rng, chosen.candidates, 2 * chosen.items + 1000)
            found.append(search(chances, rng, chosen.items, chosen.block, chosen.alpha))
        shares = [
            100 * np.mean([getattr(each, of) for each in found])
            for of in ("stopped_best", "stopped_truly_best", "seen")
        ]
        means = [np.mean([getattr(each, of) for each in found]) for of in ("loss", "naive", "select", "test")]
        error = np.std([each.test for each in found]) / len(found) ** 0.5
        print(
            f"{name:10} | {shares[0]:.1f} % | {shares[1]:.1f} % | {shares[2]:.1f} % | {means[0]:+.2f} "
            f"| {means[1]:+.2f} | {means[2]:+.2f} | {means[3]:+.2f} (+- {1.96 * error:.2f})"
        )


if __name__ == "__main__":
    main()

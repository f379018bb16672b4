"""Files of bigcode-evaluation-harness, which is no package: what goes into it and what it would print.

Its `--load_generations_path` takes a JSON list with one list of programs a problem, in the data set's order, and runs
them as they are. Its metric file holds pass@k for k of 1, 10 and 100, over the problems that have candidates at all.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from della_bench.jsonfiles import write_whole
from della_bench.scoring.code.passk import pass_at_k

__all__ = ["metrics", "write_generations"]

_KS = (1, 10, 100)


def write_generations(path: Path, programs: Sequence[Sequence[str]]) -> None:
    """Write one list of programs a problem, in the data set's order, whole or not at all."""
    write_whole(path, json.dumps([list(group) for group in programs]) + "\n")


def metrics(
    benchmark: str, passed: Sequence[tuple[int, int]], config: Mapping[str, object]
) -> dict[str, Mapping[str, object]]:
    """Return what bigcode-evaluation-harness would write to its `--metric_output_path`.

    passed: (candidates, those that passed) of each problem; one without candidates is left out of the mean. A k is
    there where every problem has as many candidates.
    """
    counted = [(n, right) for n, right in passed if n]
    values = {
        f"pass@{k}": sum(pass_at_k(n, right, k) for n, right in counted) / len(counted)
        for k in _KS
        if counted and all(n >= k for n, _ in counted)
    }
    return {benchmark: values, "config": dict(config)}

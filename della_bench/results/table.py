"""What a leaderboard is made of: rows, their cells, comparisons between cells, and the items behind a cell.

These are plain values that every writer (CSV, Markdown, the page, the terminal) reads; `leaderboard` makes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from della_bench.results.schema import Scorer
from della_bench.results.settings import UNKNOWN, Settings
from della_bench.results.stats import is_binary

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Cell", "CellSource", "Comparison", "JoinedItem", "Row", "Table", "scorer_label"]

_SAME = 1e-6  # percent


def scorer_label(scorer: Scorer) -> str:
    """Return who made a number, in one string: name, version and, behind a judge, the model that answered."""
    model = f" ({scorer['model']})" if scorer["model"] else ""
    return f"{scorer['name']} {scorer['version']}{model}"


@dataclass(frozen=True)
class CellSource:
    """Where a cell was read from.

    `samples` is lm-eval's log and `score` and `items` are a scorer's files; each is None where there is none. With
    neither samples nor items there is nothing to compare item by item. `metric` is the key of the value in a sample's
    row, and None where the value comes from `items`. `parts` are the tasks of a group with their logs, in order.
    """

    folder: Path
    samples: Path | None = None
    score: Path | None = None
    items: Path | None = None
    filter: str | None = None
    metric: str | None = None
    parts: tuple[tuple[str, Path], ...] = ()


@dataclass(frozen=True)
class Comparison:
    """A row against another over the same items, or the reason why the two are not compared.

    `difference` is this row's value minus the other's in points (percent), with its 95 % `interval`. `p` is two-sided,
    of `test`; `p_mid` is mid-p McNemar's beside the exact one, None for other tests; `p_holm` is `p` corrected over all
    comparisons of the table, None where no table was corrected. `wins` and `losses` count the items where this row did
    better or worse, of `n` items that both rows have scored.
    """

    difference: float | None = None
    interval: tuple[float, float] | None = None
    p: float | None = None
    p_mid: float | None = None
    p_holm: float | None = None
    test: str = ""
    n: int = 0
    wins: int = 0
    losses: int = 0
    reason: str | None = None

    @property
    def in_noise(self) -> bool | None:
        """Whether chance alone explains the difference at 5 % (after correction); None where nothing was compared."""
        p = self.p if self.p_holm is None else self.p_holm
        return None if p is None else p >= 0.05


@dataclass(frozen=True)
class Cell:
    """One model's number on one benchmark.

    `value` and `interval` (95 %) are percent where they are shares; `value` is None where nothing was scored. `n`
    counts the scored items and `unscored` the rest. `keys` are the (doc_id, doc_hash) of all items in the order of
    doc_id, and `values` their values from 0 to 1, NaN where an item is unscored; both are None where no items are on
    disk. `item_set` is a digest of `keys`: cells with equal ones are about the same documents. `settings` is how they
    were asked, and `prompts` a digest of the prompts where those differ from most of the column's. `standard_error` is
    in the unit of `value`. `excluded` says why this cell is not compared with the others of its benchmark (another
    judge, other documents), None where it is. `chosen_on` counts the items that the model was chosen by among others,
    on which its value flatters. `versus` compares it with the baseline's cell, None where there is no baseline or this
    is it.
    """

    benchmark: str
    metric: str
    value: float | None
    interval: tuple[float, float] | None
    n: int
    unscored: int
    scorer: Scorer
    source: CellSource
    standard_error: float | None = None
    task: str | None = None
    date: float | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)
    keys: tuple[tuple[int, str], ...] | None = None
    values: NDArray[np.float64] | None = field(default=None, compare=False)
    item_set: str | None = None
    settings: Settings = UNKNOWN
    prompts: str = ""
    excluded: str | None = None
    chosen_on: int = 0
    versus: Comparison | None = None

    @cached_property
    def scored(self) -> NDArray[np.float64] | None:
        """The values that are there: an unscored item's is NaN, which equals nothing."""
        if self.values is None:
            return None
        there = self.values == self.values
        return self.values if there.all() else self.values[there]

    @cached_property
    def is_mean(self) -> bool:
        """Whether the value is the mean of the items' values; a length-controlled win rate is not."""
        if self.scored is None or self.value is None or not len(self.scored):
            return False
        return bool(abs(100 * float(self.scored.mean()) - self.value) < _SAME)

    @cached_property
    def is_binary(self) -> bool:
        """Whether all items are right or wrong."""
        return self.scored is not None and is_binary(self.scored)


@dataclass(frozen=True)
class Row:
    """One model.

    `fingerprint` is SHA-256 (hex): rows with the same one are the same model. `name` is unique in a table. `spec` is
    what lm-eval takes as model_args. `cells` by benchmark: a benchmark that the model was not evaluated on has none.
    `average` is the mean over `Table.averaged`, with its 95 % interval, or None with `average_reason`. `versus`
    compares that average with the baseline's. `date` is seconds since 1970 of the latest evaluation. `reference` rows
    are facts from elsewhere (a paper's table), named in `note`: shown, never compared.
    """

    name: str
    method: str
    spec: str
    fingerprint: str
    cells: Mapping[str, Cell]
    engine: str = ""
    average: float | None = None
    average_interval: tuple[float, float] | None = None
    average_reason: str | None = None
    versus: Comparison | None = None
    date: float | None = None
    reference: bool = False
    note: str = ""
    folders: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Table:
    """A leaderboard, sorted by the average, best first; reference rows stand last.

    `benchmarks` are the columns, `averaged` those that the average is over (all compared rows have them). `baseline` is
    the name of the row that `versus` speaks of, or None. `notes` are sentences that a reader of the table must know:
    what was left out, what is not compared, and why. Those of them that are about unreadable files are `faults`.
    """

    rows: tuple[Row, ...]
    benchmarks: tuple[str, ...]
    averaged: tuple[str, ...]
    baseline: str | None = None
    notes: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()


@dataclass(frozen=True)
class JoinedItem:
    """One document of a cell: what was asked, what the model said, and what was made of it.

    `prompt` is the text that the model saw, `response` its raw text, `target` the reference. `answer` is what was
    scored (extracted from the response), `verdict` the scorer's word, `value` 0 to 1 or None where unscored,
    `explanation` the judge's or sandbox's reasons. `told` is the verdict in words where a judge preferred one of two
    answers: `target` is then the other one. All of it is text that a model may have written: never HTML. A field
    is empty where the files do not hold it.
    """

    doc_id: int
    doc_hash: str
    prompt: str
    target: str
    response: str
    answer: str
    verdict: str
    value: float | None
    explanation: str
    told: str = ""

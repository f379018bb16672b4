"""What is known of a candidate, in its run folder: every answer as it comes, and how it ended.

    DIR/runs/<name>/<set>.blocks.jsonl    one row a block of items, appended whole: what a kill leaves is gone on from
    DIR/runs/<name>/candidate.json        what was proposed; how it ended, with its values item by item: written last

These files are the truth of a search. Optuna's storage and the tables can be made again from them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from della_bench.errors import DellaBenchError
from della_bench.jsonfiles import RowLog, read_json, read_rows, write_json
from della_bench.results.schema import SCHEMA
from della_bench.search.items import ItemSet
from della_bench.spec import MergeSpec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Values = NDArray[np.float64]

__all__ = ["SECONDS", "BlockLog", "Candidate", "Origin", "State", "means_of", "read_candidate", "write_candidate"]

Origin = Literal["base", "expert", "default", "earlier", "proposed"]
State = Literal["new", "complete", "stopped", "failed"]
SECONDS = ("propose", "merge", "generate", "score", "lost")  # what a candidate takes them for
_NAME = "candidate.json"


@dataclass(frozen=True)
class Candidate:
    """A merge that takes part in a search, or a source of it that the others are held against.

    number: Optuna's of the trial; None for a source alone. proposal: what Optuna proposed, by dimension. values: by set
    and benchmark one value an item, from 0 to 1, in the set's order; fewer than the set has where it was stopped.
    items: by set and benchmark the digest of the items that these are the values of. seconds: of proposing, merging,
    generating and scoring, and those that were lost with what failed. workers: how many there were, each with a
    candidate of its own. stopped_at: the look.
    """

    spec: MergeSpec
    folder: Path
    origin: Origin
    number: int | None = None
    proposal: Mapping[str, Any] = field(default_factory=dict)
    state: State = "new"
    reason: str = ""
    values: Mapping[str, Mapping[str, Sequence[float]]] = field(default_factory=dict)
    items: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    workers: int = 1
    stopped_at: int | None = None
    fingerprint: str = ""

    @property
    def may_win(self) -> bool:
        """Whether it is one that a search may choose: complete, and not the base, of which the others are made."""
        return self.state == "complete" and self.origin != "base"

    @property
    def took(self) -> float:
        """By how many seconds it made the search longer, at which all workers were busy."""
        return sum(self.seconds.values()) / self.workers

    @property
    def name(self) -> str:
        """What people read: the number, or the source's name."""
        return self.spec.display_name if self.number is None else f"#{self.number}"

    def seen(self, which: str) -> int:
        """Return how many items of a set have values."""
        return sum(map(len, self.values.get(which, {}).values()))

    def has(self, which: str, sets: Sequence[ItemSet]) -> bool:
        """Return whether there is a value for every item of a set."""
        known = self.items.get(which, {})
        counts = {name: len(values) for name, values in self.values.get(which, {}).items()}
        return all(
            known.get(each.benchmark) == items_digest(each) and counts.get(each.benchmark) == len(each.items)
            for each in sets
        )

    def with_values(self, which: str, values: Mapping[str, Sequence[float]], sets: Sequence[ItemSet]) -> Candidate:
        """Return the candidate with its values on a set."""
        digests = {each.benchmark: items_digest(each) for each in sets}
        return replace(
            self,
            values={**self.values, which: {name: list(each) for name, each in values.items()}},
            items={**self.items, which: digests},
        )


def items_digest(items: ItemSet) -> str:
    """Return a digest of a set's items and their order."""
    import hashlib

    return hashlib.sha256("\n".join([items.task, *(digest for _, digest in items.items)]).encode()).hexdigest()


def means_of(values: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Return by benchmark the mean over its values, in percent."""
    return {name: 100 * sum(each) / len(each) for name, each in values.items() if len(each)}


def write_candidate(candidate: Candidate) -> None:
    """Write `candidate.json`, whole: unless its state is "new", the candidate has ended with it."""
    value = {"schema": SCHEMA, **asdict(replace(candidate, folder=Path())), "spec": candidate.spec.as_keys()}
    del value["folder"]
    write_json(candidate.folder / _NAME, value)


def read_candidate(folder: Path) -> Candidate | None:
    """Return what is written in a folder; None where nothing is, or not whole, or by another release."""
    path = folder / _NAME
    if not path.is_file():
        return None
    try:
        value = read_json(path)
        if not isinstance(value, dict) or value.pop("schema", None) != SCHEMA:
            return None
        candidate = Candidate(**{**value, "spec": MergeSpec.parse(value["spec"]), "folder": folder})
        return candidate if _is_usable(candidate) else None
    except (DellaBenchError, KeyError, TypeError):  # a method of a package that is gone is no candidate's either
        return None


def _is_usable(candidate: Candidate) -> bool:
    """Return whether what was read is of the kinds that it is to be."""
    kept = (candidate.proposal, candidate.values, candidate.items, candidate.seconds)
    return (
        all(isinstance(each, dict) for each in kept)
        and all(isinstance(each, dict) for each in (*candidate.values.values(), *candidate.items.values()))
        and (candidate.number is None or type(candidate.number) is int)
        and candidate.origin in get_args(Origin)
        and candidate.state in get_args(State)
    )


class BlockLog:
    """The answers to one set's blocks of items, as they come."""

    def __init__(self, folder: Path, which: str, definition: str) -> None:
        """definition: a digest of what the answers depend on; rows of another one are no part of this log."""
        self.path = self.path_of(folder, which)
        self._definition = definition
        self.rows: list[dict[str, Any]] = []
        if self.path.is_file():
            with RowLog(self.path):  # cuts off what a kill has left of a row
                pass
            rows = [row for _, row in read_rows(self.path)]
            if all(row.get("definition") == definition for row in rows):
                self.rows = rows

    def append(self, row: Mapping[str, Any]) -> None:
        """Write a block's row, and keep it."""
        with RowLog(self.path, fresh=not self.rows) as log:
            log.append({"definition": self._definition, **row})
        self.rows.append(dict(row))

    @staticmethod
    def path_of(folder: Path, which: str) -> Path:
        """Return where the answers to a set's blocks are kept until what they hold stands elsewhere."""
        return folder / f"{which}.blocks.jsonl"

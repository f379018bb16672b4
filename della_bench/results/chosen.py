"""On which items a model was chosen among others: its score on these flatters, wherever it is shown.

    <run>/chosen.json     {"schema": 1, "fingerprint": ..., "items": {task: [doc_hash, ...]}}

A search writes this into the runs of what it has proposed, and remembers it for its best under the user's cache folder,
by the model's fingerprint. A later run of the same model, in whatever folder, gets the file from there.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from della_bench.errors import DataError
from della_bench.jsonfiles import read_json, write_json
from della_bench.resources import cache_folder
from della_bench.results.schema import SCHEMA
from della_bench.results.table import Row

__all__ = ["CHOSEN", "Chosen", "copy_remembered", "remember", "with_choices", "write_chosen"]

log = logging.getLogger(__name__)

CHOSEN = "chosen.json"


@dataclass(frozen=True)
class Chosen:
    """A model by its fingerprint, and by task of lm-eval the hashes of the documents that it was chosen on."""

    fingerprint: str
    items: Mapping[str, Sequence[str]]

    def joined(self, other: Chosen) -> Chosen:
        """Return the items of both."""
        tasks = dict.fromkeys([*self.items, *other.items])
        both = {task: sorted({*self.items.get(task, ()), *other.items.get(task, ())}) for task in tasks}
        return Chosen(self.fingerprint, both)


def write_chosen(folder: Path, chosen: Chosen) -> None:
    """Write down in a run's folder on which items its model was chosen, beside those that are there already."""
    known = _read(folder / CHOSEN)
    chosen = chosen.joined(known) if known is not None and known.fingerprint == chosen.fingerprint else chosen
    items = {task: sorted(each) for task, each in chosen.items.items()}
    write_json(folder / CHOSEN, {"schema": SCHEMA, "fingerprint": chosen.fingerprint, "items": items})


def remember(chosen: Chosen) -> None:
    """Let runs of the same model in other folders know."""
    place = _memory(chosen.fingerprint)
    try:
        write_chosen(place, chosen)
    except OSError as error:
        log.warning("on which items %s was chosen is not remembered: %s", chosen.fingerprint[:8], error)


def copy_remembered(folder: Path, fingerprint: str) -> None:
    """Write into a run's folder what is remembered of its model."""
    known = _read(_memory(fingerprint) / CHOSEN)
    if known is not None:
        write_chosen(folder, known)


def with_choices(rows: Sequence[Row]) -> tuple[list[Row], list[str]]:
    """Return the rows with `chosen_on` set in their cells, and a note for each that was chosen on its own items.

    What one run's folder or the user's memory says of a model holds for all of its runs.
    """
    found: dict[str, set[str]] = {}
    for row in rows:
        for place in (*row.folders, _memory(row.fingerprint)):
            known = _read(place / CHOSEN)
            if known is not None:
                hashes = found.setdefault(known.fingerprint, set())
                hashes.update(digest for each in known.items.values() for digest in each)
    out, notes = [], []
    for row in rows:
        chosen = found.get(row.fingerprint, set())
        cells = dict(row.cells)
        for name, cell in row.cells.items() if chosen else ():
            # Of a group's items the task stands before the digest.
            count = sum(digest.rpartition(" ")[2] in chosen for _, digest in cell.keys or ())
            if count:
                cells[name] = replace(cell, chosen_on=count)
                of = f"{count} of {len(cell.keys or ())}"
                notes.append(f"{row.name}, {name}: selected on these items ({of}): the number flatters")
        out.append(replace(row, cells=cells))
    return out, notes


def _memory(fingerprint: str) -> Path:
    return cache_folder() / "chosen" / fingerprint


def _read(path: Path) -> Chosen | None:
    if not path.is_file():
        return None
    try:
        value = read_json(path)
        if value["schema"] == SCHEMA:
            items = {str(task): [str(digest) for digest in hashes] for task, hashes in value["items"].items()}
            return Chosen(str(value["fingerprint"]), items)
    except (DataError, KeyError, TypeError, AttributeError) as error:
        log.warning("%s: not read: %s", path, error)
    return None

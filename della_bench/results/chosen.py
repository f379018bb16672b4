"""On which items a model was chosen among others: its score on these flatters, wherever it is shown.

    <run>/chosen.json     {"schema": 1, "fingerprint": ..., "items": {task: [doc_hash, ...]}}

A search writes this into the runs of what it has proposed, and remembers it for its best under the user's cache folder,
by the model's fingerprint. A later run of the same model, in whatever folder, gets the file from there.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from della_bench.errors import DataError
from della_bench.jsonfiles import read_json, write_json
from della_bench.results.schema import SCHEMA

__all__ = ["CHOSEN", "Chosen", "chosen_items", "copy_remembered", "remember", "write_chosen"]

log = logging.getLogger(__name__)

CHOSEN = "chosen.json"
_CACHE_VARIABLE = "DELLA_BENCH_CACHE"


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


def chosen_items(folders: Iterable[Path]) -> dict[str, frozenset[str]]:
    """Return by fingerprint the hashes of the documents that models were chosen on, as the runs' folders say."""
    found: dict[str, set[str]] = {}
    for folder in folders:
        known = _read(folder / CHOSEN)
        if known is not None:
            hashes = found.setdefault(known.fingerprint, set())
            hashes.update(digest for each in known.items.values() for digest in each)
    return {fingerprint: frozenset(hashes) for fingerprint, hashes in found.items()}


def _memory(fingerprint: str) -> Path:
    named = os.environ.get(_CACHE_VARIABLE)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "della_bench"
    return (Path(named).expanduser() if named else cache) / "chosen" / fingerprint


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

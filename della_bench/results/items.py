"""The items behind a cell: what was asked, what the model said, and what was made of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from della_bench.jsonfiles import read_rows
from della_bench.results.likelihood import choices_of
from della_bench.results.logged import group_rows, logged_rows
from della_bench.results.preferences import preference_words
from della_bench.results.schema import Item, read_items
from della_bench.results.settings import plain_name
from della_bench.results.table import Cell, JoinedItem

__all__ = ["joined_items"]


def joined_items(cell: Cell) -> Iterator[JoinedItem]:
    """Yield the items behind `cell` in the order of `cell.keys`, read from its files when they are asked for.

    Raises DataError where the files cannot be read (any more).
    """
    source = cell.source
    if source.parts:
        for each in group_rows(source, source.metric or ""):
            yield _joined(each.item, each.row, each.choices)
        return
    preferences = plain_name(cell.benchmark) == "alpaca_eval"
    if source.items is None and source.samples is not None and source.metric is not None:
        logged = logged_rows(source.samples, source.metric, source.filter or "none")
        for doc_id, _ in cell.keys or ():
            item, row, choices = logged[doc_id]
            yield _joined(item, row, choices, preference_words(item, row) if preferences else "")
        return
    rows = _sample_rows(source.samples, source.filter) if source.samples else {}
    items = {item["doc_id"]: item for item in read_items(source.items)} if source.items else {}
    for doc_id, doc_hash in cell.keys or ():
        item, row = items[doc_id], rows.get(doc_id, {})
        if row.get("doc_hash", doc_hash) != doc_hash:
            row = {}  # samples of another document: what was asked is not known
        yield _joined(item, row, choices_of(row), preference_words(item, row) if preferences else "")


def _joined(item: Item, row: Mapping[str, object], choices: Sequence[tuple[str, float]], told: str = "") -> JoinedItem:
    return JoinedItem(
        doc_id=item["doc_id"],
        doc_hash=item["doc_hash"],
        prompt=_prompt(row),
        target=_text(row.get("target")),
        response=_response(row, choices),
        answer=item["answer"],
        verdict=item["verdict"],
        value=item["value"],
        explanation=item["explanation"],
        told=told,
    )


def _sample_rows(path: Path, filter_name: str | None) -> dict[int, Mapping[str, object]]:
    """Return the logged rows by document: those of the filter, or the first of each where it has none of its own."""
    found: dict[int, Mapping[str, object]] = {}
    for _, row in read_rows(path):
        doc_id = row.get("doc_id")
        if isinstance(doc_id, int) and (doc_id not in found or row.get("filter") == filter_name):
            found[doc_id] = row
    return found


def _prompt(row: Mapping[str, object]) -> str:
    """Return what the model was asked: lm-eval logs a dict of arguments by name, or (older) a list."""
    arguments = row.get("arguments")
    return _text(_first(_first(arguments)))


def _response(row: Mapping[str, object], choices: Sequence[tuple[str, float]]) -> str:
    """Return what the model said: its text, or each choice with its log-likelihood."""
    if choices:
        return "\n".join(f"{likelihood:10.3f} {text}" for text, likelihood in choices)
    return _text(_first(row.get("resps")))


def _first(value: object) -> object:
    if isinstance(value, dict):
        return next(iter(value.values()), None)
    return value[0] if isinstance(value, list) and value else value


def _text(value: object) -> str:
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

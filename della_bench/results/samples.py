"""Reading what lm-eval logged: `samples_<task>_<time>.jsonl`, or the one JSON array that older releases wrote."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from della_bench.errors import DataError
from della_bench.jsonfiles import USERS_FILE, read_rows

__all__ = [
    "UNFINISHED",
    "Sample",
    "begins_as_results",
    "choose_filter",
    "is_sample_row",
    "read_samples",
    "refuse_results",
]

UNFINISHED = "unfinished_thoughts"  # marks a row whose text is the thoughts of a model that never came to its answer
_RESULTS = re.compile(rb'(\xef\xbb\xbf)?\s*\{\s*"results"\s*:')  # lm-eval's first key, in all its releases


@dataclass(frozen=True)
class Sample:
    """One document as one filter saw it.

    `responses` are the model's texts for the document (several where the task samples several times), `filtered` what
    the filter made of them, `row` the whole logged row, with the metrics under their names. Thoughts that were never
    ended are no response: it is empty then.
    """

    doc_id: int
    filter: str
    doc: dict[str, Any]
    target: Any
    responses: list[str]
    filtered: list[Any]
    doc_hash: str
    line: int
    row: dict[str, Any]


def begins_as_results(path: Path) -> bool:
    """Return whether a file begins as lm-eval's results do; False where it cannot be read."""
    try:
        with path.open("rb") as file:
            return _RESULTS.match(file.read(256)) is not None
    except OSError:
        return False


def refuse_results(path: Path) -> None:
    """Raise DataError where `path` is lm-eval's results and not its samples: the name of the samples is in it."""
    if not begins_as_results(path):
        return
    beside = sorted(each.name for each in path.parent.glob("samples_*"))
    where = f"the samples beside it: {', '.join(beside[:3])}" if beside else "none beside it; lm-eval: --log_samples"
    message = f"{path}: the results of lm-eval, which hold no answers; wanted are its samples ({where})"
    raise DataError(message, exit_code=USERS_FILE)


def is_sample_row(row: dict[str, Any]) -> bool:
    """Return whether `row` looks like a row that lm-eval logged."""
    return {"doc_id", "doc", "resps"} <= row.keys()


def read_samples(path: Path) -> list[Sample]:
    """Return the samples of `path` by filter and document, whatever their order in the file.

    Raises DataError where a row is no sample of a generation, or where a document stands twice under one filter.
    """
    refuse_results(path)
    found: dict[tuple[str, int], Sample] = {}
    for line, row in read_rows(path):
        sample = _sample(path, line, row)
        key = (sample.filter, sample.doc_id)
        if key in found:
            first = found[key].line
            message = (
                f"{path}, line {line}: doc_id {sample.doc_id}, filter {sample.filter!r} stood in line {first} already"
            )
            raise DataError(message, exit_code=USERS_FILE)
        found[key] = sample
    if not found:
        raise DataError(f"{path}: no samples", exit_code=USERS_FILE)
    order = list(dict.fromkeys(name for name, _ in found))
    return sorted(found.values(), key=lambda sample: (order.index(sample.filter), sample.doc_id))


def choose_filter(path: Path, samples: Sequence[Sample], wanted: str | None = None) -> list[Sample]:
    """Return the samples of one filter: `wanted`, or the first in the file where the raw responses are the same.

    Raises DataError where `wanted` is not there, or where the filters hold different documents.
    """
    by_filter: dict[str, list[Sample]] = {}
    for sample in samples:
        by_filter.setdefault(sample.filter, []).append(sample)
    if wanted is not None:
        if wanted not in by_filter:
            names = ", ".join(map(repr, by_filter))
            raise DataError(f"{path}: no rows of filter {wanted!r} (it has: {names})", exit_code=USERS_FILE)
        return by_filter[wanted]
    first, *others = by_filter
    for other in others:
        if _documents(by_filter[other]) != _documents(by_filter[first]):
            message = f"{path}: filters {first!r} and {other!r} hold different documents or responses: choose one"
            raise DataError(message, exit_code=USERS_FILE)
    return by_filter[first]


def _documents(samples: Sequence[Sample]) -> list[tuple[int, str, list[str]]]:
    return [(sample.doc_id, sample.doc_hash, sample.responses) for sample in samples]


def logged_texts(resps: object) -> list[Any]:
    """Return what a row's `resps` hold: texts of a generation, numbers of likelihoods.

    There is one list a request, one text a repeat; older logs hold the texts of one request as they are. A server's
    null in the place of a text (a model that spent all its tokens on thoughts) is an empty one.
    """
    requests = resps if isinstance(resps, list) else []
    texts = [text for request in requests for text in (request if isinstance(request, list) else [request])]
    return ["" if text is None else text for text in texts]


def _sample(path: Path, line: int, row: dict[str, Any]) -> Sample:
    place = f"{path}, line {line}"
    doc_id, doc, resps = row.get("doc_id"), row.get("doc"), row.get("resps")
    if not isinstance(doc_id, int) or isinstance(doc_id, bool) or not isinstance(doc, dict):
        raise DataError(f"{place}: no sample of lm-eval: doc_id or doc is missing", exit_code=USERS_FILE)
    texts = logged_texts(resps)
    if not texts or not all(isinstance(text, str) for text in texts):
        message = f"{place}: doc_id {doc_id}: resps hold no generated text (is this a generation task?)"
        raise DataError(message, exit_code=USERS_FILE)
    if row.get(UNFINISHED):
        texts = [""] * len(texts)
    filtered = row.get("filtered_resps", [])
    return Sample(
        doc_id=doc_id,
        filter=str(row.get("filter", "none")),
        doc=doc,
        target=row.get("target"),
        responses=texts,
        filtered=filtered if isinstance(filtered, list) else [filtered],
        doc_hash=str(row.get("doc_hash", "")),
        line=line,
        row=row,
    )

"""The benchmarks' real data: from the Hugging Face hub, or from a folder for machines without a network.

The folder is the one that `DELLA_BENCH_DATA` names. Where it is set, it is the only place that is looked at: a hub that
steps in for a missing file would hide which data a number was made with.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import datasets

from della_bench.errors import DataError

__all__ = ["DATA_VARIABLE", "SOURCES", "Source", "load"]

DATA_VARIABLE = "DELLA_BENCH_DATA"
BAD_FOLDER = 2  # exit code: a folder of the user's own is theirs to mend, a hub out of reach is not


@dataclass(frozen=True)
class Source:
    """Where one benchmark's data lie, and the text fields that each row must have."""

    hub: str
    config: str | None
    split: str
    file: str
    fields: tuple[str, ...]


SOURCES = {
    "gsm8k": Source(
        hub="openai/gsm8k", config="main", split="test", file="gsm8k_test.jsonl", fields=("question", "answer")
    ),
}


def load(benchmark: str) -> datasets.Dataset:
    """Return the data of `benchmark`, a key of SOURCES, in their published order, cut to the fields named there.

    Raises DataError where they are neither in the folder nor on the hub, or where a row is malformed.
    """
    source = SOURCES[benchmark]
    folder = os.environ.get(DATA_VARIABLE)
    return _from_folder(Path(folder).expanduser(), benchmark, source) if folder else _from_hub(benchmark, source)


def _from_folder(folder: Path, benchmark: str, source: Source) -> datasets.Dataset:
    path = folder / source.file
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        tried = f"{DATA_VARIABLE} is set, and reading {path} failed"
        raise _missing(benchmark, source, tried, error, exit_code=BAD_FOLDER) from error
    rows = list(_rows(path, text, source.fields))
    if not rows:
        raise DataError(f"{path} holds no rows", exit_code=BAD_FOLDER)
    return datasets.Dataset.from_list(rows)


def _rows(path: Path, text: str, fields: tuple[str, ...]) -> Iterator[dict[str, str]]:
    """Yield the rows of a JSON Lines text; blank lines are none."""
    # Not splitlines(): it also splits at characters (U+2028, U+0085) that JSON allows inside a string.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            row, fault = _row(line, fields)
            if fault:
                raise DataError(f"{path}, line {number}: {fault}", exit_code=BAD_FOLDER)
            yield row


def _row(line: str, fields: tuple[str, ...]) -> tuple[dict[str, str], str]:
    """Return one line's `fields`, and what is wrong with the line ("" where nothing is)."""
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        return {}, f"not JSON ({error})"
    if not isinstance(row, dict):
        return {}, f"expected an object with the fields {', '.join(fields)}, got {type(row).__name__}"
    for field in fields:
        if field not in row:
            return {}, f"no field {field!r} (it has: {', '.join(map(repr, row)) or 'none'})"
        if not isinstance(row[field], str):
            return {}, f"field {field!r} is no text but {type(row[field]).__name__}"
    return {field: row[field] for field in fields}, ""


def _from_hub(benchmark: str, source: Source) -> datasets.Dataset:
    try:
        data = datasets.load_dataset(source.hub, source.config, split=source.split)
    except Exception as error:  # whatever went wrong in there, the data are not to be had, and the reason is passed on
        raise _missing(benchmark, source, f"loading {_hub_name(source)} from the hub failed", error) from error
    missing = [field for field in source.fields if field not in data.column_names]
    if missing:
        raise DataError(f"{_hub_name(source)} on the hub: no field {', '.join(map(repr, missing))}")
    return data.select_columns(list(source.fields))


def _hub_name(source: Source) -> str:
    config = f", config {source.config}" if source.config else ""
    return f"{source.hub} ({source.split}{config})"


def _missing(benchmark: str, source: Source, tried: str, error: Exception, exit_code: int | None = None) -> DataError:
    """Return the error that says what was tried, why that failed, and both ways to the data."""
    reason = " ".join(str(error).split()) or type(error).__name__
    return DataError(
        f"no data for {benchmark}: {tried}: {reason}\n"
        f"either set {DATA_VARIABLE} to a folder that holds {source.file},\n"
        f"or leave it unset and take {_hub_name(source)} from the Hugging Face hub, "
        "which needs a network and HF_HUB_OFFLINE unset, or a copy in its cache",
        exit_code=exit_code,
    )

"""The benchmarks' real data: from the Hugging Face hub, or from a folder for machines without a network.

The folder is the one that `DELLA_BENCH_DATA` names. Where it is set, it is the only place that is looked at: a hub that
steps in for a missing file would hide which data a number was made with.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import datasets

from della_bench.benchmarks import BENCHMARKS, DataSet
from della_bench.errors import DataError
from della_bench.jsonfiles import USERS_FILE, read_rows

__all__ = ["DATA_VARIABLE", "examples", "load"]

DATA_VARIABLE = "DELLA_BENCH_DATA"


def load(benchmark: str, part: str = "test") -> datasets.Dataset:
    """Return data of a benchmark in their published order, cut to the fields that its row in BENCHMARKS names.

    part: a split, or another part of the benchmark's data (a key of `Benchmark.data`).

    Raises DataError where they are neither in the folder nor on the hub, or where a row is malformed.
    """
    source = BENCHMARKS[benchmark].data[part]
    label = benchmark if part == "test" else f"{benchmark} ({part})"
    folder = os.environ.get(DATA_VARIABLE)
    return _from_folder(Path(folder).expanduser(), label, source) if folder else _from_hub(label, source)


def examples(benchmark: str) -> list[dict[str, Any]]:
    """Return a benchmark's training rows, which few-shot examples are drawn from; none where they are not to be had."""
    try:
        return list(load(benchmark, "train"))
    except DataError:
        return []


def _from_folder(folder: Path, label: str, source: DataSet) -> datasets.Dataset:
    path = folder / source.file
    if not path.is_file():
        raise _missing(label, source, f"{DATA_VARIABLE} is set, but there is no file {path}", exit_code=USERS_FILE)
    return _checked(path, source)


def _checked(path: Path, source: DataSet) -> datasets.Dataset:
    """Return the rows of `path`, each held to the source's fields."""
    rows = [_row(f"{path}, row {number}", row, source.fields) for number, row in read_rows(path)]
    if source.task_ids is not None:
        rows = [row for row in rows if row["task_id"] in source.task_ids]
    if not rows:
        raise DataError(f"{path} holds no rows", exit_code=USERS_FILE)
    return datasets.Dataset.from_list(rows)


def _row(place: str, row: dict[str, Any], fields: Mapping[str, type]) -> dict[str, Any]:
    for field, kind in fields.items():
        if field not in row:
            has = ", ".join(map(repr, row)) or "none"
            raise DataError(f"{place}: no field {field!r} (it has: {has})", exit_code=USERS_FILE)
        if not isinstance(row[field], kind):
            message = f"{place}: field {field!r} must be {kind.__name__}, got {type(row[field]).__name__}"
            raise DataError(message, exit_code=USERS_FILE)
    return {field: row[field] for field in fields}


def _from_hub(label: str, source: DataSet) -> datasets.Dataset:
    try:
        if source.hub_file:
            from huggingface_hub import hf_hub_download

            return _checked(Path(hf_hub_download(source.hub, source.hub_file, repo_type="dataset")), source)
        data = datasets.load_dataset(source.hub, source.config, split=source.split)
    except DataError:
        raise
    except Exception as error:  # whatever went wrong in there, the data are not to be had, and the reason is passed on
        reason = " ".join(str(error).split()) or type(error).__name__
        raise _missing(label, source, f"loading {_hub_name(source)} from the hub failed: {reason}") from error
    missing = [field for field in source.fields if field not in data.column_names]
    if missing:
        raise DataError(f"{_hub_name(source)} on the hub: no field {', '.join(map(repr, missing))}")
    return data.select_columns(list(source.fields))


def _hub_name(source: DataSet) -> str:
    if source.hub_file:
        return f"{source.hub} ({source.hub_file})"
    config = f", config {source.config}" if source.config else ""
    return f"{source.hub} ({source.split}{config})"


def _missing(label: str, source: DataSet, tried: str, exit_code: int | None = None) -> DataError:
    """Return the error that says what was tried and failed, and both ways to the data."""
    return DataError(
        f"no data for {label}: {tried}\n"
        f"either set {DATA_VARIABLE} to a folder that holds {source.file},\n"
        f"or leave it unset and take {_hub_name(source)} from the Hugging Face hub, "
        "which needs a network and HF_HUB_OFFLINE unset, or a copy in its cache",
        exit_code=exit_code,
    )

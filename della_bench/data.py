"""The benchmarks' real data: from the Hugging Face hub, or from a folder for machines without a network.

The folder is the one that `DELLA_BENCH_DATA` names. Where it is set, it is the only place that is looked at: a hub that
steps in for a missing file would hide which data a number was made with.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets

from della_bench.errors import DataError
from della_bench.jsonfiles import USERS_FILE, read_rows

__all__ = ["DATA_VARIABLE", "SOURCES", "Source", "load"]

DATA_VARIABLE = "DELLA_BENCH_DATA"


@dataclass(frozen=True)
class Source:
    """Where one benchmark's data lie, and the fields that each row must have, with their types.

    `config` is the data set's configuration on the hub; with `hub_file` the data are that one file of the repository.
    """

    hub: str
    split: str
    file: str
    fields: Mapping[str, type]
    config: str | None = None
    hub_file: str | None = None


SOURCES = {
    "gsm8k": Source(
        hub="openai/gsm8k",
        config="main",
        split="test",
        file="gsm8k_test.jsonl",
        fields={"question": str, "answer": str},
    ),
    "mbpp": Source(
        hub="google-research-datasets/mbpp",
        config="full",
        split="test",
        file="mbpp_test.jsonl",
        fields={
            "task_id": int,
            "text": str,
            "code": str,
            "test_list": list,
            "test_setup_code": str,
            "challenge_test_list": list,
        },
    ),
    "humaneval": Source(
        hub="openai/openai_humaneval",
        split="test",
        file="HumanEval.jsonl.gz",
        fields={"task_id": str, "prompt": str, "canonical_solution": str, "test": str, "entry_point": str},
    ),
    # Its loading script no longer runs with datasets >= 4: the file that the script would read.
    "alpaca_eval": Source(
        hub="tatsu-lab/alpaca_eval",
        hub_file="alpaca_eval.json",
        split="eval",
        file="alpaca_eval.json",
        fields={"instruction": str, "output": str, "generator": str, "dataset": str},
    ),
    "alpaca_eval_gpt4_baseline": Source(  # the same instructions with AlpacaEval 2's baseline
        hub="tatsu-lab/alpaca_eval",
        hub_file="alpaca_eval_gpt4_baseline.json",
        split="eval",
        file="alpaca_eval_gpt4_baseline.json",
        fields={"instruction": str, "output": str, "generator": str, "dataset": str},
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
    if not path.is_file():
        raise _missing(benchmark, source, f"{DATA_VARIABLE} is set, but there is no file {path}", exit_code=USERS_FILE)
    return _checked(path, source)


def _checked(path: Path, source: Source) -> datasets.Dataset:
    """Return the rows of `path`, each held to the source's fields."""
    rows = [_row(f"{path}, row {number}", row, source.fields) for number, row in read_rows(path)]
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


def _from_hub(benchmark: str, source: Source) -> datasets.Dataset:
    try:
        if source.hub_file:
            from huggingface_hub import hf_hub_download

            return _checked(Path(hf_hub_download(source.hub, source.hub_file, repo_type="dataset")), source)
        data = datasets.load_dataset(source.hub, source.config, split=source.split)
    except DataError:
        raise
    except Exception as error:  # whatever went wrong in there, the data are not to be had, and the reason is passed on
        reason = " ".join(str(error).split()) or type(error).__name__
        raise _missing(benchmark, source, f"loading {_hub_name(source)} from the hub failed: {reason}") from error
    missing = [field for field in source.fields if field not in data.column_names]
    if missing:
        raise DataError(f"{_hub_name(source)} on the hub: no field {', '.join(map(repr, missing))}")
    return data.select_columns(list(source.fields))


def _hub_name(source: Source) -> str:
    if source.hub_file:
        return f"{source.hub} ({source.hub_file})"
    config = f", config {source.config}" if source.config else ""
    return f"{source.hub} ({source.split}{config})"


def _missing(benchmark: str, source: Source, tried: str, exit_code: int | None = None) -> DataError:
    """Return the error that says what was tried and failed, and both ways to the data."""
    return DataError(
        f"no data for {benchmark}: {tried}\n"
        f"either set {DATA_VARIABLE} to a folder that holds {source.file},\n"
        f"or leave it unset and take {_hub_name(source)} from the Hugging Face hub, "
        "which needs a network and HF_HUB_OFFLINE unset, or a copy in its cache",
        exit_code=exit_code,
    )

"""What a model is compared with: the baseline's answers, and what length-controlled win rates are fitted with."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, cast

from della_bench.benchmarks import BENCHMARKS
from della_bench.errors import DataError
from della_bench.jsonfiles import USERS_FILE, read_rows
from della_bench.judging.json_types import JsonObject

if TYPE_CHECKING:
    from typing_extensions import NotRequired

__all__ = [
    "BASELINES",
    "Reference",
    "ReferenceRow",
    "doc_hash",
    "load_reference",
    "published_annotations",
    "read_reference",
]

# The baselines that AlpacaEval publishes, by generator: the part of the benchmark's data that each is.
BASELINES = {"text_davinci_003": "test", "gpt4_1106_preview": "gpt4_baseline"}

_REPOSITORY = "tatsu-lab/alpaca_eval"
_GAMED = "df_gamed.csv"


class ReferenceRow(TypedDict):
    """A row of alpaca_eval's format: an instruction, and what `generator` answered."""

    instruction: str
    output: str
    generator: str
    dataset: NotRequired[str]


@dataclass(frozen=True)
class Reference:
    """A baseline: its rows (instruction, output, generator, and dataset where it has one) in their published order.

    The order matters: length-controlled win rates look up an instruction's difficulty by position. `doc_hashes` are
    what lm-eval logs for the task's document with the same instruction, so that an item is the same one whatever
    baseline and whichever file its answer came from.
    """

    name: str
    generator: str
    rows: tuple[ReferenceRow, ...]
    positions: dict[str, int]
    doc_hashes: tuple[str, ...]


def load_reference(generator: str) -> Reference:
    """Return a published baseline, from the hub or the data folder. Raises DataError where it is not to be had."""
    from della_bench import data

    part = BASELINES[generator]
    rows = [cast(ReferenceRow, dict(row)) for row in data.load("alpaca_eval", part)]
    return _reference(BENCHMARKS["alpaca_eval"].data[part].file, rows, _documents())


def read_reference(path: Path) -> Reference:
    """Return the baseline in `path`, a list of instruction, output and generator. Raises DataError for other rows."""
    rows: list[ReferenceRow] = []
    for number, row in read_rows(path):
        for field in ("instruction", "output", "generator"):
            if not isinstance(row.get(field), str):
                message = f"{path}, row {number}: a baseline's row has a text {field!r}, got {row.get(field)!r}"
                raise DataError(message, exit_code=USERS_FILE)
        kept = {key: row[key] for key in ("instruction", "output", "generator", "dataset") if key in row}
        rows.append(cast(ReferenceRow, kept))
    return _reference(str(path), rows, _documents())


def doc_hash(doc: Mapping[str, object]) -> str:
    """Return what lm-eval logs as the doc_hash of a document."""
    return hashlib.sha256(json.dumps(doc, indent=2, ensure_ascii=False).encode("utf-8", "surrogatepass")).hexdigest()


def _documents() -> dict[str, JsonObject]:
    """Return the task's documents by instruction; none where they are not to be had, and a baseline stands alone."""
    from della_bench import data

    try:
        return {row["instruction"]: dict(row) for row in data.load("alpaca_eval")}
    except DataError:
        return {}


def _reference(name: str, rows: list[ReferenceRow], documents: dict[str, JsonObject]) -> Reference:
    positions: dict[str, int] = {}
    for position, row in enumerate(rows):
        first = positions.setdefault(row["instruction"], position)
        if first != position:
            message = f"{name}, row {position + 1}: the instruction of row {first + 1} again"
            raise DataError(message, exit_code=USERS_FILE)
    generators = sorted({row["generator"] for row in rows})
    if len(generators) != 1:
        message = f"{name}: a baseline is one model's, got {', '.join(map(repr, generators)) or 'no rows'}"
        raise DataError(message, exit_code=USERS_FILE)
    hashes = tuple(doc_hash(documents.get(row["instruction"], row)) for row in rows)
    return Reference(name, generators[0], tuple(rows), positions, hashes)


def published_annotations() -> Path:
    """Return the annotations that AlpacaEval's length-controlled win rate is fitted together with.

    They are the hub's df_gamed.csv, or a file of that name in the data folder. Raises DataError where it is missing.
    """
    from della_bench.data import DATA_VARIABLE

    folder = os.environ.get(DATA_VARIABLE)
    if folder:
        path = Path(folder).expanduser() / _GAMED
        if path.is_file():
            return path
        reason, code = f"{DATA_VARIABLE} is set, but there is no file {path}", USERS_FILE
    else:
        from huggingface_hub import hf_hub_download

        try:
            return Path(hf_hub_download(_REPOSITORY, _GAMED, repo_type="dataset"))
        except Exception as error:  # whatever went wrong in there, the file is not to be had; the reason is passed on
            reason, code = f"loading it from the hub failed: {' '.join(str(error).split())}", 1
    message = (
        f"a length-controlled win rate needs {_GAMED} of the data set {_REPOSITORY}: {reason}. Put the file into the "
        f"folder that {DATA_VARIABLE} names, or choose the plain win rate: `metric` win_rate"
    )
    raise DataError(message, exit_code=code)

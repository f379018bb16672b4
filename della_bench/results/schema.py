"""The files of a run: what is in them, where they lie, and how they are read.

    <run>/spec.yaml                                 the merge's spec, as `della-bench spec` reads it
    <run>/provenance.json                           Provenance: what the run was made with
    <run>/results_*.json, samples_<task>_*.jsonl    lm-eval's own, as `lm_eval --log_samples` writes them
    <run>/scores/<benchmark>.<scorer>.json          Score: one number
    <run>/scores/<benchmark>.<scorer>.items.jsonl   Item, one a row: what the number was made from
    <run>/scores/<benchmark>.<scorer>.input         whose the score is; another input's has its own name (`places`)

Provenance, Score and Item carry the schema's version. A version that this release does not know is an error that says
who reads it.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypedDict, cast

from della_bench import __version__
from della_bench.errors import DataError
from della_bench.jsonfiles import USERS_FILE, read_json, read_rows, write_json

__all__ = [
    "SCHEMA",
    "InputDigest",
    "Item",
    "Provenance",
    "Score",
    "Scorer",
    "check_schema",
    "items_path",
    "read_items",
    "read_provenance",
    "read_score",
    "score_path",
    "write_score",
]

SCHEMA = 1
# The first release that reads each version of the schema.
READ_SINCE = {1: "0.1.0"}


class Scorer(TypedDict):
    """Who made a number: a scorer's or judge's name and version, and the model that answered (None for a program)."""

    name: str
    version: str
    model: str | None


class Item(TypedDict):
    """One row of `<benchmark>.<scorer>.items.jsonl`: what one sample was given, and why.

    `value` is 0 to 1, or None where the sample is unscored: a broken judgement or a fault of the sandbox, which is no
    wrong answer. `verdict` is the scorer's word for it, `answer` what was scored (the program, the number, the output).
    Scorers may add keys of their own.
    """

    schema: int
    doc_id: int
    doc_hash: str
    filter: str
    value: float | None
    verdict: str
    answer: str
    explanation: str


class Score(TypedDict):
    """`<benchmark>.<scorer>.json`: one number with its uncertainty, and what it was made from.

    `value` and `interval` (95 %) are percent wherever they are shares. `n` counts the scored items, `unscored` the
    rest. `value` is None, and so is `interval`, where nothing was scored.
    """

    schema: int
    benchmark: str
    metric: str
    value: float | None
    interval: list[float] | None
    n: int
    unscored: int
    scorer: Scorer
    detail: dict[str, Any]


class InputDigest(TypedDict):
    """One input file of a merge: what it is to it, its name, where it lay, its size and the SHA-256 of its contents."""

    role: str
    name: str
    path: str
    bytes: int
    sha256: str


class Provenance(TypedDict):
    """`provenance.json`: all that the numbers of a run depend on.

    `digest` is the spec's and `fingerprint` the model's: the spec with the contents of `files`. `git` is the state of
    this package's checkout (None where it is installed). `steps` has, by benchmark (with the settings that are not
    lm-eval's defaults in brackets), when it was evaluated, how long it took (seconds since 1970, seconds), and how much
    of that was merging, answering and scoring. `advice` is what was said of the model on this machine. Keys may be
    added.
    """

    schema: int
    name: str
    spec: str
    digest: str
    fingerprint: str
    engine: str
    files: list[InputDigest]
    versions: dict[str, str]
    git: dict[str, Any] | None
    host: dict[str, Any]
    device: str
    dtype: str
    seeds: dict[str, int | None]
    arguments: dict[str, Any]
    advice: list[str]
    command: list[str]
    started: float
    steps: dict[str, Any]


def score_path(out: Path, benchmark: str, scorer: str) -> Path:
    """Return where a score lies below `out`; `scorer` is its name, or what `places.place_score` gave for it."""
    return out / "scores" / f"{benchmark}.{scorer}.json"


def items_path(out: Path, benchmark: str, scorer: str) -> Path:
    """Return where the rows behind a score lie below `out`."""
    return out / "scores" / f"{benchmark}.{scorer}.items.jsonl"


def write_score(out: Path, score: Score, name: str | None = None) -> Path:
    """Write `score` whole below `out` and return its path: with it, the scoring is complete.

    name: what stands for the scorer in the path, where that is not its name alone (`places.place_score`). A
    digest of all the rest goes with the score, so that a change by hand is noticed.
    """
    path = score_path(out, score["benchmark"], name or score["scorer"]["name"])
    write_json(path, {**score, "digest": _digest(score)})
    return path


def read_score(path: Path) -> Score:
    """Read a score. Raises DataError for another schema, a missing key, a value of another type or no finite one.

    A score that was changed after it was written is an error, too; those of earlier releases have no digest.
    """
    value = read_json(path)
    if not isinstance(value, dict):
        raise DataError(f"{path}: expected a JSON object, got {type(value).__name__}", exit_code=USERS_FILE)
    check_schema(value, str(path))
    _require(value, _SCORE, str(path))
    _require(value["scorer"], _SCORER, f"{path}, scorer")
    interval = value["interval"]
    numbers = [value["value"], *(interval or [])]
    if any(number is not None and not _finite(number) for number in numbers):
        raise DataError(f"{path}: value and interval must be finite numbers, got {numbers}", exit_code=USERS_FILE)
    if interval is not None and len(interval) != 2:
        raise DataError(f"{path}: interval must be [low, high], got {interval}", exit_code=USERS_FILE)
    score = {key: each for key, each in value.items() if key != "digest"}
    if value.get("digest", _digest(score)) != _digest(score):
        message = f"{path}: changed by hand after it was written (its digest does not fit it); score the samples again"
        raise DataError(message, exit_code=USERS_FILE)
    return cast(Score, score)


def _digest(score: Mapping[str, Any]) -> str:
    text = json.dumps(score, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def read_items(path: Path) -> Iterator[Item]:
    """Yield the rows of an items file. Raises DataError as `read_score` does, with the line."""
    for line, row in read_rows(path):
        place = f"{path}, line {line}"
        check_schema(row, place)
        _require(row, _ITEM, place)
        if row["value"] is not None and not _finite(row["value"]):
            raise DataError(f"{place}: value must be a finite number or null, got {row['value']}", exit_code=USERS_FILE)
        yield cast(Item, row)


def read_provenance(path: Path) -> Provenance:
    """Read a run's provenance. Raises DataError for another schema, a missing key or a value of another type."""
    value = read_json(path)
    if not isinstance(value, dict):
        raise DataError(f"{path}: expected a JSON object, got {type(value).__name__}", exit_code=USERS_FILE)
    check_schema(value, str(path))
    _require(value, _PROVENANCE, str(path))
    return cast(Provenance, value)


def check_schema(value: Mapping[str, object], place: str) -> None:
    """Raise DataError unless `value` carries the version of the schema that this release reads."""
    found = value.get("schema")
    if found == SCHEMA and not isinstance(found, bool):
        return
    if isinstance(found, int) and found > SCHEMA:
        who = "written by a later release; upgrade della-bench to read it"
    elif found in READ_SINCE:
        who = f"read by della-bench since {READ_SINCE[found]}"
    else:
        who = "no file of della-bench"
    message = f"{place}: schema {found!r}, and della-bench {__version__} reads schema {SCHEMA}: {who}"
    raise DataError(message, exit_code=USERS_FILE)


def _finite(number: object) -> bool:
    return isinstance(number, (int, float)) and not isinstance(number, bool) and math.isfinite(number)


_NUMBER = (int, float, type(None))
_SCORER: dict[str, tuple[type, ...]] = {"name": (str,), "version": (str,), "model": (str, type(None))}
_ITEM: dict[str, tuple[type, ...]] = {
    "doc_id": (int,),
    "doc_hash": (str,),
    "filter": (str,),
    "value": _NUMBER,
    "verdict": (str,),
    "answer": (str,),
    "explanation": (str,),
}
_SCORE: dict[str, tuple[type, ...]] = {
    "benchmark": (str,),
    "metric": (str,),
    "value": _NUMBER,
    "interval": (list, type(None)),
    "n": (int,),
    "unscored": (int,),
    "scorer": (dict,),
    "detail": (dict,),
}

_PROVENANCE: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("name", "spec", "digest", "fingerprint", "engine", "device", "dtype"), (str,)),
    **dict.fromkeys(("versions", "host", "seeds", "arguments", "steps"), (dict,)),
    **dict.fromkeys(("files", "command"), (list,)),
    "git": (dict, type(None)),
    "started": (int, float),
}


def _require(value: Mapping[str, object], keys: Mapping[str, tuple[type, ...]], place: str) -> None:
    """Raise DataError that names every key of `keys` that `value` lacks or has with another type."""
    faults = []
    for key, types in keys.items():
        if key not in value:
            faults.append(f"no {key!r}")
        elif not isinstance(value[key], types):
            wanted = " or ".join("null" if kind is type(None) else kind.__name__ for kind in types)
            faults.append(f"{key!r} must be {wanted}, got {type(value[key]).__name__}")
    if faults:
        raise DataError(f"{place}: {'; '.join(faults)}", exit_code=USERS_FILE)

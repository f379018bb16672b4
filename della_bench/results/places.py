"""Where a score is written, so that two inputs never share one name.

A folder may hold several models' answers: two samples files of lm-eval, or one `out` for many. The first input has the
plain name, `scores/<benchmark>.<scorer>.json`; any other gets `scores/<benchmark>.<scorer>.<model>-<digest>.json`, with
the model's name and the first digits of the input's SHA-256. Where several samples files of a task lie side by side,
all of them have their own. `scores/<benchmark>.<scorer>.input` says whose a name is, from before the first item on, so
that a killed scorer finds its files again and nobody else writes into them.
"""

from __future__ import annotations

import hashlib
import os
import re
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from della_bench.errors import DataError
from della_bench.jsonfiles import read_json, write_json
from della_bench.results.identity import Identity, identity_of
from della_bench.results.schema import read_score, score_path

__all__ = ["place_score", "score_file", "whose"]


@dataclass(frozen=True)
class _Claim:
    """Whose a name is: the input's file name and SHA-256, and its model's fingerprint where that is known."""

    samples: str
    sha256: str
    model: str | None


_SAMPLES = re.compile(r"samples_(?P<task>.+)_(?P<time>\d{4}-\d\d-\d\dT[^/]*)\.jsonl?(\.gz)?")


def place_score(
    out: Path, benchmark: str, scorer: str, samples: Path, *, model: str | None = None, replace: bool = False
) -> str:
    """Return the name that stands for the scorer in `score_path` and `items_path`, and claim it for `samples`.

    model: fingerprint of the one model that the folder `out` is for (a run's): its scores are of its latest samples.
    replace: the plain name, whoever has it. Raises OSError where the folder cannot be written.
    """
    digest = hashlib.sha256(samples.read_bytes()).hexdigest()
    known = whose(samples)
    claim = _Claim(samples.name, digest, model or (known.fingerprint if known else None))
    if replace:
        write_json(_claim_path(out, benchmark, scorer), asdict(claim))
        return scorer
    own = _is_own(out, benchmark, scorer, claim, of_one_model=model is not None)
    if own is None and (model is not None or not _has_siblings(samples)):
        own = _take(out, benchmark, scorer, claim)
    name = scorer if own else f"{scorer}.{_plain(known.name if known else _stem(samples))}-{(model or digest)[:8]}"
    write_json(_claim_path(out, benchmark, name), asdict(claim))
    return name


def score_file(out: Path, score: Mapping[str, object]) -> Path:
    """Return where a score that a scorer has just returned was written below `out`."""
    detail, scorer = score.get("detail"), score.get("scorer")
    place = detail.get("place") if isinstance(detail, dict) else None
    name = place or (scorer["name"] if isinstance(scorer, dict) else "")
    return score_path(out, str(score["benchmark"]), str(name))


def whose(samples: Path) -> Identity | None:
    """Return whose answers lm-eval's samples are, by the results beside them; None where there are none to be read."""
    found = _SAMPLES.fullmatch(samples.name)
    results = samples.with_name(f"results_{found['time']}.json") if found else None
    if results is None or not results.is_file():
        return None
    with suppress(DataError):
        value = read_json(results)
        return identity_of(results, value) if isinstance(value, dict) else None
    return None


def _stem(samples: Path) -> str:
    return samples.name.partition(".")[0]


def _plain(name: str) -> str:
    """Return a name as every file system takes it, without the dots that part the names of scores."""
    return re.sub(r"[^\w+-]+", "_", name, flags=re.ASCII).strip("_")[-60:] or "answers"


def _has_siblings(samples: Path) -> bool:
    """Return whether other samples of the same task lie beside these."""
    found = _SAMPLES.fullmatch(samples.name)
    if found is None:
        return False
    others = map(_SAMPLES.fullmatch, (path.name for path in samples.parent.glob("samples_*")))
    return sum(bool(other and other["task"] == found["task"]) for other in others) > 1


def _is_own(out: Path, benchmark: str, name: str, claim: _Claim, *, of_one_model: bool) -> bool | None:
    """Return whether a name was claimed, or its score made, by the same input; None where nobody has it.

    of_one_model: the same model's other samples are the same input, too.
    """
    path, score = _claim_path(out, benchmark, name), score_path(out, benchmark, name)
    with suppress(DataError):  # a claim that a kill has torn says nothing: the score does, where there is one
        if path.exists() and isinstance(known := read_json(path), dict):
            if of_one_model and known.get("model") is not None:
                return bool(known["model"] == claim.model)
            return bool(known.get("sha256") == claim.sha256)
    if not score.exists():
        return None
    try:
        detail = read_score(score)["detail"]
    except DataError:  # not to be read as a score, but somebody's
        return False
    # A score of an earlier release names its samples alone; a run's folder was always one model's.
    if digest := detail.get("samples_sha256"):
        return of_one_model or bool(digest == claim.sha256)
    return of_one_model or bool(detail.get("samples") == claim.samples)


def _take(out: Path, benchmark: str, name: str, claim: _Claim) -> bool:
    """Claim a name that nobody has; of two processes at once one gets it."""
    path = _claim_path(out, benchmark, name)
    whole = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    write_json(whole, asdict(claim))
    try:
        try:
            os.link(whole, path)  # which no reader finds half written, and which fails where the name is taken
        except FileExistsError:
            raise
        except OSError:  # a file system without links
            with path.open("x", encoding="utf-8") as file:
                file.write(whole.read_text(encoding="utf-8"))
    except FileExistsError:
        return _is_torn(path) and not score_path(out, benchmark, name).exists()
    finally:
        whole.unlink()
    return True


def _is_torn(path: Path) -> bool:
    """Return whether a claim says nothing, as a kill of an earlier release may have left it."""
    try:
        return not isinstance(read_json(path), dict)
    except DataError:
        return True


def _claim_path(out: Path, benchmark: str, name: str) -> Path:
    return score_path(out, benchmark, name).with_suffix(".input")

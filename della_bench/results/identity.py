"""Whose an evaluation is: read from lm-eval's results file and the provenance beside it, never from a folder's name."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from della_bench.errors import DataError
from della_bench.jsonfiles import USERS_FILE
from della_bench.results.schema import read_provenance

__all__ = ["Identity", "identity_of"]


@dataclass(frozen=True)
class Identity:
    """A model: what tables call it, its merge method (empty for no merge), spec, fingerprint, and what ran it.

    by_name: nothing but the name is known.
    """

    name: str
    method: str
    spec: str
    fingerprint: str
    engine: str
    by_name: bool = False


def identity_of(path: Path, value: Mapping[str, object]) -> Identity:
    """Return whose the results `value` of the file `path` are.

    A merge's fingerprint is the one that `della-bench run` writes into the results; then the provenance's, where it is
    about the same spec; else the one that keys the model type's response cache. Any other model is told by its type
    and arguments. How it was asked is no part of it (`settings`).

    Raises DataError where no model is named.
    """
    found = value.get("config")
    config: Mapping[str, object] = found if isinstance(found, dict) else {}
    ours = config.get("della_bench")
    if isinstance(ours, dict) and isinstance(ours.get("spec"), str):
        keys = ours.get("keys")
        return Identity(
            name=str(ours.get("name")),
            method=str(keys.get("merge_method", "")) if isinstance(keys, dict) else "",
            spec=ours["spec"],
            fingerprint=str(ours.get("model_fingerprint") or _from_provenance(path, ours) or ours.get("fingerprint")),
            engine=str(ours.get("engine", "")),
        )
    model = str(config.get("model") or "")
    if not model:
        raise DataError(f"{path}: no results of lm-eval: config names no model", exit_code=USERS_FILE)
    name, spec = _arguments(config.get("model_args"))
    facts = [model, spec, config.get("model_sha")]
    digest = hashlib.sha256(json.dumps(facts, default=str).encode()).hexdigest()
    return Identity(name=name or model, method="", spec=spec, fingerprint=digest, engine=model)


def _from_provenance(path: Path, ours: Mapping[str, object]) -> str | None:
    beside = path.parent / "provenance.json"
    known = read_provenance(beside) if beside.is_file() else None
    return known["fingerprint"] if known is not None and known["digest"] == ours.get("digest") else None


def _arguments(arguments: object) -> tuple[str, str]:
    """Return the checkpoint's name and all arguments as one string; lm-eval writes a mapping or a string."""
    if not isinstance(arguments, dict):
        arguments = dict(part.partition("=")[::2] for part in str(arguments or "").split(",") if part)
    name = arguments.get("pretrained") or arguments.get("model") or arguments.get("path") or ""
    return str(name), ",".join(f"{key}={each}" for key, each in arguments.items())

"""What a loader is told: the spec and how to merge, as it travels in vLLM's `model_loader_extra_config`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from della_bench.errors import CheckpointError, DellaBenchError, MergeError, SpecError
from della_bench.models.residency import PLACES
from della_bench.spec import MergeSpec
from della_bench.suggest import nearest

__all__ = ["Settings", "as_error", "failure_of"]


@dataclass(frozen=True)
class Settings:
    """One merge for one engine.

    resident: where the sources stay between merges, None to choose. divide: whether tensor-parallel workers divide the
    merging among themselves; otherwise each merges all of it. report: a file that takes a failure's reason, for vLLM
    tells a caller only that an engine did not start.
    """

    spec: MergeSpec
    resident: str | None = None
    divide: bool = True
    report: str | None = None

    @classmethod
    def read(cls, config: Any) -> Settings:
        """Read from `model_loader_extra_config`. Raises SpecError with all faults."""
        if not isinstance(config, dict) or not config.get("spec"):
            raise SpecError(
                "load_format=della_merged needs a spec: model_loader_extra_config={'spec': 'base=...,experts=...'}"
            )
        names = cls.__dataclass_fields__.keys()
        faults = [
            f"model_loader_extra_config: unknown key {key!r}{nearest(key, names)}" for key in config.keys() - names
        ]
        if (place := config.get("resident")) not in (None, *PLACES):
            faults.append(f"resident={place!r}: not a place to keep the sources in; allowed: {', '.join(PLACES)}")
        try:
            spec = MergeSpec.parse(config["spec"])
        except SpecError as error:
            raise SpecError([*faults, *error.faults]) from None
        if faults:
            raise SpecError(faults)
        return cls(**{**config, "spec": spec})

    def as_config(self) -> dict[str, Any]:
        """Return plain values for `model_loader_extra_config`, which `read` takes back."""
        given = {"resident": self.resident, "divide": self.divide, "report": self.report}
        return {"spec": self.spec.as_keys(), **{key: value for key, value in given.items() if value is not None}}

    def tell(self, error: BaseException) -> None:
        """Leave a failure's reason in the report's file, the first one alone."""
        if self.report is not None and not (path := Path(self.report)).exists():
            path.write_text(json.dumps(failure_of(error)), encoding="utf-8")


def failure_of(error: BaseException) -> dict[str, Any]:
    """Return plain values that carry an error to another process."""
    exit_code = error.exit_code if isinstance(error, DellaBenchError) else 1
    known = isinstance(error, (SpecError, CheckpointError, MergeError))
    text = str(error) if known else f"{type(error).__name__}: {error}"
    return {"kind": type(error).__name__ if known else "MergeError", "message": text, "exit_code": exit_code}


def as_error(failure: dict[str, Any]) -> DellaBenchError:
    """Return the error that `failure_of` was given, or a MergeError with its text where it is none of ours."""
    if failure["kind"] == "SpecError":
        return SpecError(failure["message"].splitlines())
    kind = CheckpointError if failure["kind"] == "CheckpointError" else MergeError
    return kind(failure["message"], exit_code=failure["exit_code"])

"""Finished evaluations: what lm-eval has written of a task, and which of a folder's depend on what is asked now."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from della_bench.benchmarks import benchmark_of
from della_bench.errors import DataError
from della_bench.jsonfiles import read_json
from della_bench.run.settings import EvalSettings

__all__ = ["Evaluated", "find_asked_alike", "find_evaluated", "is_asked", "samples_path", "tasks_of"]

_READ = ("config", "results", "versions", "higher_is_better", "n-samples")
_DEFAULT_WAY = {"limit": None, "seeds": EvalSettings().seeds}


class Evaluated:
    """A finished evaluation: lm-eval's results file, the samples beside it, and what the results say of the task.

    `task` may be a group of tasks.
    """

    def __init__(self, results: Path, task: str, value: Mapping[str, Any]) -> None:
        self.results = results
        self.task, self.benchmark = task, benchmark_of(task)
        self.result: Mapping[str, Any] = value["results"][task]
        self.task_version = str(value.get("versions", {}).get(task, ""))
        self.better: Mapping[str, Any] = value.get("higher_is_better", {}).get(task, {})
        ours: Mapping[str, Any] = value.get("config", {}).get("della_bench") or {}
        self.fingerprint: str | None = ours.get("model_fingerprint")
        self.advice: Mapping[str, str] = ours.get("advice") or {}
        self.answering = float((ours.get("answers") or {}).get("seconds", 0.0))  # seconds that the model took to answer
        run: Mapping[str, Any] = ours.get("run") or {}
        self._way = {key: run.get(key) for key in ("asked", "limit", "seeds") if run.get(key) != _DEFAULT_WAY.get(key)}

    @property
    def samples(self) -> Path:
        """The samples of a single task."""
        return samples_path(self.results, self.task)

    @property
    def owner(self) -> str | None:
        """Whose the scores are: the model's fingerprint, and where it was not asked by default, how it was.

        Evaluations of one model in different ways so have scores beside one another in its folder.
        """
        if self.fingerprint is None or not self._way:
            return self.fingerprint
        text = json.dumps([self.fingerprint, self._way], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def find_evaluated(folder: Path, task: str, record: Mapping[str, Any]) -> Evaluated | None:
    """Return the latest evaluation of `task` in `folder` that depends on exactly what `record` says, or None."""
    return next(_evaluations(folder, task, lambda run: run == record), None)


def find_asked_alike(folder: Path, task: str, record: Mapping[str, Any]) -> list[Evaluated]:
    """Return the evaluations of `task` in `folder` that depend on what `record` says, of whichever documents.

    The latest one is the first.
    """
    wanted = _without_documents(record)
    return list(_evaluations(folder, task, lambda run: _without_documents(run) == wanted))


def is_asked(folder: Path, task: str, record: Mapping[str, Any]) -> bool:
    """Return whether `folder` has an evaluation of `task` that depends on what `record` says, of whatever model."""
    wanted = {**record, "fingerprint": None}
    return any(_evaluations(folder, task, lambda run: {**run, "fingerprint": None} == wanted))


def _evaluations(folder: Path, task: str, is_wanted: Callable[[dict[str, Any]], bool]) -> Iterator[Evaluated]:
    """Yield the whole evaluations of a task which depend on what is wanted, the latest first."""
    for path in sorted(folder.glob("results_*.json"), reverse=True):
        try:
            value = _read(path, path.stat().st_mtime_ns)
            run = value["config"]["della_bench"]["run"]
            wanted = isinstance(run, dict) and task in value["results"] and is_wanted(run)
        except (DataError, OSError, KeyError, TypeError):  # not ours, or not whole: no evaluation to go on from
            continue
        if wanted and all(_is_whole(samples_path(path, name), value, name) for name in tasks_of(value, task)):
            yield Evaluated(path, task, value)


@lru_cache(maxsize=512)
def _read(path: Path, changed: int) -> Any:
    """Return what counts here of a results file. `changed`, its time in nanoseconds, parts it from an earlier one.

    A folder has a file for each of its tasks, and each task looks through all of them.
    """
    value = read_json(path)
    return {key: value[key] for key in _READ if key in value} if isinstance(value, dict) else value


def _without_documents(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an evaluation depends on, but which documents were asked."""
    rest = {name: value for name, value in record.items() if name not in ("limit", "asked")}
    asked = {name: value for name, value in record.get("asked", {}).items() if name != "samples"}
    return rest | ({"asked": asked} if asked else {})


def tasks_of(value: Mapping[str, Any], task: str) -> tuple[str, ...]:
    """Return the tasks that results are of: those with samples."""
    return tuple(value.get("n-samples") or [task])


def _is_whole(samples: Path, value: Mapping[str, Any], task: str) -> bool:
    """Return whether a samples file has a row for each document and filter: one cut short is not done."""
    try:
        rows = samples.read_bytes()
    except OSError:
        return False
    documents = value.get("n-samples", {}).get(task, {}).get("effective") or 1  # at least: those of one metric
    filters = {key.partition(",")[2] for key in value["results"].get(task, {}) if "," in key}
    return rows.endswith(b"\n") and rows.count(b"\n") >= documents * max(1, len(filters))


def samples_path(results: Path, task: str) -> Path:
    """Return where lm-eval writes the samples of a task: beside the results, with their time in its name."""
    time = results.name.removeprefix("results").removesuffix(".json")
    return results.with_name(f"samples_{task}{time}.jsonl")

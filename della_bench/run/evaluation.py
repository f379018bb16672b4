"""One step of a run: one task of lm-eval on the loaded model, its results and samples put in place whole."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from della_bench.errors import DataError
from della_bench.jsonfiles import read_json
from della_bench.run.provenance import SEEDS
from della_bench.spec import MergeSpec

__all__ = ["Evaluated", "evaluate", "find_evaluated"]

_STAGING = ".lm_eval.partial"


class Evaluated:
    """A finished evaluation: lm-eval's results file, the samples beside it, and what the results say of the task."""

    def __init__(self, results: Path, task: str, value: Mapping[str, Any]) -> None:
        self.results = results
        self.samples = _samples(results, task)
        self.task = task
        self.result: Mapping[str, Any] = value["results"][task]
        self.task_version = str(value.get("versions", {}).get(task, ""))
        self.better: Mapping[str, Any] = value.get("higher_is_better", {}).get(task, {})


def find_evaluated(folder: Path, task: str, settings: Mapping[str, Any]) -> Evaluated | None:
    """Return the latest evaluation of `task` in `folder` that was made with exactly these settings, or None."""
    found = []
    for path in folder.glob("results_*.json"):
        try:
            value = read_json(path)
            same = value["config"]["della_bench"]["run"] == settings and task in value["results"]
        except (DataError, KeyError, TypeError):  # not ours, or not whole: no evaluation to go on from
            continue
        if same and _samples(path, task).is_file():
            found.append((path.name, Evaluated(path, task, value)))
    return max(found, key=lambda pair: pair[0])[1] if found else None


def evaluate(
    model: Any,
    spec: MergeSpec,
    task: str,
    folder: Path,
    settings: Mapping[str, Any],
    *,
    manager: Any,
    limit: int | None,
    fingerprint: str,
    unsafe: bool,
) -> Evaluated:
    """Evaluate one task and put lm-eval's results and samples into `folder`, the results last.

    manager: lm-eval's TaskManager. settings: what the evaluation depends on; `find_evaluated` compares it. unsafe:
    whether tasks that run the model's programs may do so. Raises what lm-eval raises, and DataError where its files
    could not be written.
    """
    import lm_eval
    from lm_eval.loggers import EvaluationTracker

    staging = folder / _STAGING
    shutil.rmtree(staging, ignore_errors=True)
    tracker = EvaluationTracker(output_path=str(staging / "results.json"))
    found = lm_eval.simple_evaluate(
        model=model,
        tasks=[task],
        task_manager=manager,
        limit=limit,
        log_samples=True,
        evaluation_tracker=tracker,
        batch_size=settings["arguments"].get("batch_size"),
        device=settings["arguments"].get("device"),
        confirm_run_unsafe_code=unsafe,
        **SEEDS,
    )
    if found is None:
        raise DataError(f"{task}: lm-eval gave no results (is this a helper process of several?)")
    if task not in found["results"]:
        raise DataError(f"{task}: a group of tasks; name its tasks one by one", exit_code=2)
    samples = found.pop("samples")
    ours = dict(model.get_model_info()["della_bench"])
    found["config"] |= {"model": "della_merged", "model_args": spec.as_keys()}
    found["config"]["della_bench"] = {**ours, "model_fingerprint": fingerprint, "run": dict(settings)}
    tracker.save_results_aggregated(results=found, samples=samples)
    tracker.save_results_samples(task_name=task, samples=samples[task])
    return _put_in_place(staging, folder, task, found)


def _put_in_place(staging: Path, folder: Path, task: str, value: Mapping[str, Any]) -> Evaluated:
    """Move the staged files up, the results last: with them the evaluation is complete."""
    written = sorted(staging.glob("results_*.json"))
    if len(written) != 1 or not _samples(written[0], task).is_file():
        raise DataError(f"{folder}: lm-eval could not write its results (see its warnings; is the disk full?)")
    results = folder / written[0].name
    _samples(written[0], task).replace(_samples(results, task))
    written[0].replace(results)
    shutil.rmtree(staging, ignore_errors=True)
    return Evaluated(results, task, value)


def _samples(results: Path, task: str) -> Path:
    time = results.name.removeprefix("results").removesuffix(".json")
    return results.with_name(f"samples_{task}{time}.jsonl")

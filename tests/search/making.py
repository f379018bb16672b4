"""Searches without a model: answers whose worth is a function of the spec, through all of the search's own files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from della_bench.run.options import Options
from della_bench.run.tasks import Tasks
from della_bench.search.answering import Answers, Places
from della_bench.search.items import document_hashes
from della_bench.search.plan import Plan, make_plan
from della_bench.search.reading import read_space
from della_bench.search.settings import read_settings
from della_bench.spec import MergeSpec

SPACE: Mapping[str, Any] = {
    "base": "zoo:base",
    "experts": ["zoo:math", "zoo:code"],
    "merge_method": {"choices": ["task_arithmetic", "ties", "della"]},
    "density": {"low": 0.2, "high": 1.0},
    "epsilon": {"low": 0.0, "high": 0.2},
    "lambda": {"low": 0.4, "high": 1.6},
}
SEARCH: Mapping[str, Any] = {
    "benchmarks": ["zoo_math", "zoo_code"],
    "trials": 8,
    "seed": 3,
    "race": {"block": 10},
    "items": {"search": 40, "select": 10, "test": 20},
    "finalists": 2,
}


def plan(out: Path, space: Mapping[str, Any] = SPACE, search: Mapping[str, Any] | None = None, **more: Any) -> Plan:
    options = Options(out, (), **more.pop("options", {}))
    return make_plan(read_space(space), read_settings({**SEARCH, **(search or {})}, {}), options, **more)


def share(*parts: object) -> float:
    """Return a number in [0, 1) that is the same for the same parts."""
    return int.from_bytes(hashlib.sha256("\0".join(map(str, parts)).encode()).digest()[:6], "big") / 2**48


def quality(spec: MergeSpec) -> float:
    """Return how likely an item of middle difficulty is answered: best at a lambda of 1.1 and by della."""
    if spec.merge_method == "passthrough":
        return 0.3
    assert isinstance(spec.lambda_, float)
    return {"della": 0.75, "ties": 0.65}.get(spec.merge_method, 0.55) - abs(spec.lambda_ - 1.1) / 2


@cache
def _hashes(task: str) -> list[str]:
    tasks = Tasks([task])
    return document_hashes(tasks.task(tasks.benchmarks[0]))


METRICS = {
    "cot": ("exact_match", "answer-is"),
    "math": ("exact_match", "answer-is"),
    "code": ("program_match", "none"),
    "chat": ("exact_match", "none"),
}


def answers(
    spec: MergeSpec,
    places: Places,
    worth: Callable[[MergeSpec], float] = quality,
    documents: Callable[[str, int], dict[str, str]] | None = None,
) -> Answers:
    """Return what lm-eval would give for a model of such a worth.

    documents: a task's document at a place, where somebody reads it; each model then answers it in its own words.
    """
    samples: dict[str, list[dict[str, Any]]] = {}
    header: dict[str, Any] = {"config": {}, "results": {}, "versions": {}, "higher_is_better": {}, "n-samples": {}}
    for task, ids in places.items():
        metric, filter_name = METRICS[task.split("_")[1]]
        rows = []
        for place in sorted(ids):
            digest = _hashes(task)[place]
            right = bool(share(digest) * 0.7 + 0.3 * share(spec.digest, digest) < worth(spec))
            doc = {"prompt": digest} if documents is None else documents(task, place)
            reply = "1" if documents is None else f"{spec.digest[:12]} says 1"
            rows.append(
                {
                    "doc_id": place,
                    "doc": doc,
                    "target": "1",
                    "arguments": [["question", {}]],
                    "resps": [[reply]],
                    "filtered_resps": [reply],
                    "filter": filter_name,
                    "metrics": [metric],
                    "doc_hash": digest,
                    "prompt_hash": digest,
                    "target_hash": digest,
                    metric: float(right),
                }
            )
        samples[task] = rows
        header["results"][task] = {f"{metric},{filter_name}": sum(bool(row[metric]) for row in rows) / len(rows)}
        header["versions"][task] = 1.0
        header["higher_is_better"][task] = {metric: True}
        header["n-samples"][task] = {"original": len(_hashes(task)), "effective": len(rows)}
    model = {"name": spec.display_name, "spec": str(spec), "digest": spec.digest, "keys": spec.as_keys(effective=True)}
    model |= {"engine": "hf", "device": "cpu", "dtype": "torch.float32", "versions": {}}
    return Answers(json.loads(json.dumps(header)), samples, model, {"merge": 0.1, "generate": 0.2})


class FakeWorker:
    """Stands in the place of the worker; counts what it is asked."""

    worth: Callable[[MergeSpec], float] = staticmethod(quality)
    asked: list[tuple[str, Places]] = []  # noqa: RUF012  # of the class: a search makes its own worker

    def __init__(self, *_: object) -> None:
        pass

    def answer(self, spec: MergeSpec, places: Places) -> Answers:
        type(self).asked.append((spec.digest, places))
        return answers(spec, places, type(self).worth)

    def close(self) -> None:
        pass

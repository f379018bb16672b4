"""Folders as lm-eval and the scorers leave them, small and made up."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from della_bench.results.schema import SCHEMA, Scorer, items_path, write_score

EXACT = Scorer(name="exact", version="1", model=None)
JUDGE = Scorer(name="gpt", version="1", model="gpt-4")


def doc_hash(doc_id: int, revision: str = "") -> str:
    return f"hash of {doc_id}{revision}"


def plain_folder(
    folder: Path,
    name: str,
    answers: Mapping[str, Sequence[float | None]],
    *,
    date: float = 1_700_000_000.0,
    digest: str | None = None,
    spec: str | None = None,
    revision: str = "",
    metric: str = "exact_match",
    samples: bool = True,
    time: str = "2026-01-01T00-00-00.000000",
    filters: tuple[str, ...] = ("none",),
    version: float = 1.0,
    more: Mapping[str, Any] | None = None,
    prompts: str = "",
    limit: float | None = None,
    there: int | None = None,
) -> Path:
    """Write what `lm_eval --model della_merged --log_samples --output_path` writes; `answers` by task.

    more: further keys of the results file. prompts: what tells the prompts from other ones. limit: lm-eval's; there:
    how many documents a task has, where not all were asked.
    """
    folder.mkdir(parents=True, exist_ok=True)
    digest = digest or name
    results: dict[str, Any] = {}
    for task, values in answers.items():
        scored = [value for value in values if value is not None]
        mean = sum(scored) / len(scored) if scored else float("nan")
        results[task] = {"name": task, "alias": task}
        for each in filters:
            results[task] |= {f"{metric},{each}": mean, f"{metric}_stderr,{each}": 0.05}
        if samples:
            rows = [sample(i, value, revision, metric, each) for each in filters for i, value in enumerate(values)]
            rows = [{**row, "prompt_hash": f"prompt {row['doc_id']}{prompts}"} for row in rows]
            write_rows(folder / f"samples_{task}_{time}.jsonl", rows)
    spec = spec or f"base=zoo:base,experts=zoo:math,merge_method=ties,density=0.5,name={name}"
    ours = {
        "name": name,
        "spec": spec,
        "digest": digest,
        "fingerprint": f"{digest:x<64}",
        "engine": "hf",
        "keys": {"merge_method": "passthrough" if "passthrough" in spec else "ties"},
    }
    value = {
        "results": results,
        "versions": dict.fromkeys(answers, version),
        "n-samples": {
            task: {"original": there or len(values), "effective": len(values)} for task, values in answers.items()
        },
        "config": {"model": "della_merged", "model_args": {}, "limit": limit, "della_bench": ours},
        "date": date,
        "lm_eval_version": "0.4.13",
        **(more or {}),
    }
    (folder / f"results_{time}.json").write_text(json.dumps(value))
    return folder


def sample(doc_id: int, value: float | None, revision: str, metric: str, name: str = "none") -> dict[str, Any]:
    return {
        "doc_id": doc_id,
        "doc": {"question": f"question {doc_id}"},
        "target": f"target {doc_id}",
        "arguments": {"gen_args_0": {"arg_0": f"prompt {doc_id}", "arg_1": {}}},
        "resps": [[f"response {doc_id}"]],
        "filtered_resps": [f"answer {doc_id}"],
        "filter": name,
        "doc_hash": doc_hash(doc_id, revision),
        metric: value,
    }


def scored(
    folder: Path,
    benchmark: str,
    values: Sequence[float | None],
    scorer: Scorer = EXACT,
    *,
    value: float | None = None,
    detail: dict[str, Any] | None = None,
    metric: str = "accuracy",
    revision: str = "",
) -> Path:
    """Write what a scorer writes below `folder`; returns the score's path."""
    there = [each for each in values if each is not None]
    rows = [
        {
            "schema": SCHEMA,
            "doc_id": doc_id,
            "doc_hash": doc_hash(doc_id, revision),
            "filter": "none",
            "value": each,
            "verdict": "unscored" if each is None else "correct" if each else "incorrect",
            "answer": f"answer {doc_id}",
            "explanation": f"because of {doc_id}",
        }
        for doc_id, each in enumerate(values)
    ]
    write_rows(items_path(folder, benchmark, scorer["name"]), rows)
    return write_score(
        folder,
        {
            "schema": SCHEMA,
            "benchmark": benchmark,
            "metric": metric,
            "value": value if value is not None else 100 * sum(there) / len(there) if there else None,
            "interval": [0.0, 100.0] if there else None,
            "n": len(there),
            "unscored": len(values) - len(there),
            "scorer": scorer,
            "detail": detail or {},
        },
    )


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


BASE_SPEC = "base=zoo:base,experts=zoo:base,merge_method=passthrough,name=base"

"""A task of lm-eval as a user may write it: one YAML file and its data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

__all__ = ["write_task"]


def write_task(path: Path, **changes: Any) -> Path:
    """Write a task of four sums, called as its file, and the data beside it; returns the file's path."""
    data = path.with_suffix(".jsonl")
    data.write_text("".join(json.dumps({"question": f"{n} + 1", "answer": str(n + 1)}) + "\n" for n in range(4)))
    config = {
        "task": path.stem,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}},
        "test_split": "test",
        "output_type": "generate_until",
        "num_fewshot": 0,
        "doc_to_text": "{{question}}",
        "doc_to_target": "{{answer}}",
        "generation_kwargs": {"until": ["\n"], "do_sample": False, "max_gen_toks": 4},
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    }
    path.write_text(yaml.safe_dump({**config, **changes}))
    return path

"""The real mergekit configurations of the folder that DELLA_BENCH_DATA names."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

__all__ = ["FOLDER", "KINDS", "MARKS", "PLAIN", "load", "ranges"]

FOLDER = Path(os.environ.get("DELLA_BENCH_DATA", "")) / "mergekit_configs"
KINDS: dict[str, str] = {}
if (FOLDER / "INDEX.tsv").is_file():
    with (FOLDER / "INDEX.tsv").open(encoding="utf-8") as index:
        KINDS = {row["file"]: row["kind"] for row in csv.DictReader(index, delimiter="\t")}
PLAIN = [name for name, kind in KINDS.items() if kind == "valid"]

MARKS = [
    pytest.mark.real_data,
    pytest.mark.skipif(not KINDS, reason="DELLA_BENCH_DATA has no folder mergekit_configs"),
]


def load(name: str) -> dict[str, Any]:
    data: dict[str, Any] = yaml.safe_load((FOLDER / name).read_text(encoding="utf-8"))
    return data


def ranges(data: Any) -> Iterator[list[int]]:
    """All layer ranges of a configuration."""
    if isinstance(data, Mapping):
        for key, value in data.items():
            yield from [value] if key == "layer_range" else ranges(value)
    elif isinstance(data, list):
        for value in data:
            yield from ranges(value)

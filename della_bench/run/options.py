"""What a run is asked for beside its specs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

__all__ = ["Options"]


@dataclass(frozen=True)
class Options:
    """What a run is asked for beside its specs.

    benchmarks, include_path, unsafe: as `Tasks` takes them. engine: hf or vllm. arguments: the model type's own. limit:
    only so many documents of each task. force: do again what is done. judge: of gsm8k, "exact" asks no model.
    annotator: alpaca_eval's judge. max_cost: US dollars that judging one benchmark of one model may spend.
    """

    out: Path
    benchmarks: tuple[str, ...]
    include_path: Path | None = None
    engine: str = "hf"
    arguments: Mapping[str, Any] = field(default_factory=dict)
    limit: int | None = None
    force: bool = False
    unsafe: bool = False
    judge: str = "exact"
    annotator: str = "alpaca_eval_gpt4"
    max_cost: Decimal | None = None

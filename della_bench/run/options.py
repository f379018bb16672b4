"""What a run is asked for beside its specs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from della_bench.run.settings import EvalSettings

__all__ = ["Money", "Options"]


@dataclass
class Money:
    """US dollars that judges have spent in this run, or may have: what got lost on the way counts at its worst case."""

    spent: Decimal = Decimal(0)

    def spend(self, amount: Decimal) -> None:
        """Count what was spent."""
        self.spent += amount


@dataclass(frozen=True)
class Options:
    """What a run is asked for beside its specs.

    benchmarks, include_path, unsafe: as `Tasks` takes them. engine: hf or vllm. arguments: the model type's own.
    settings: lm-eval's, of every benchmark; by_benchmark: those that one benchmark has of its own, by its name, as
    `checked_settings` returns them. force: do again what is done. judge: of gsm8k, "exact" asks no model.
    annotator: alpaca_eval's judge. max_cost: US dollars that all judging of this run may spend; max_cost_each: that
    judging one benchmark of one model may. money: what is spent so far. watch: told what is under way within a step,
    how much of it is done, and of how much.
    """

    out: Path
    benchmarks: tuple[str, ...]
    include_path: Path | None = None
    engine: str = "hf"
    arguments: Mapping[str, Any] = field(default_factory=dict)
    settings: EvalSettings = field(default_factory=EvalSettings)
    by_benchmark: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    force: bool = False
    unsafe: bool = False
    judge: str = "exact"
    annotator: str = "alpaca_eval_gpt4"
    max_cost: Decimal | None = None
    max_cost_each: Decimal | None = None
    money: Money = field(default_factory=Money, compare=False)
    watch: Callable[[str, int, int], None] = field(default=lambda what, done, total: None, compare=False)

    def settings_of(self, benchmark: str) -> EvalSettings:
        """Return how a benchmark is asked."""
        return self.settings.changed(self.by_benchmark.get(benchmark, {}))

    def left(self) -> Decimal | None:
        """Return the US dollars that judging the next benchmark may spend, None where there is no limit."""
        whole = None if self.max_cost is None else max(Decimal(0), self.max_cost - self.money.spent)
        limits = [limit for limit in (whole, self.max_cost_each) if limit is not None]
        return min(limits, default=None)

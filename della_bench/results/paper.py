"""Table 1 of the DELLA paper as reference rows: Deep, Bhardwaj and Poria, arXiv:2406.11617v1.

Llama-2-13B: WizardLM-13B-V1.2 (LM), WizardMath-13B-V1.0 (Math), llama-2-13b-code-alpaca (Code). AlpacaEval is the win
rate against text_davinci_003 by alpaca_eval_gpt4 (the paper names no opponent; its values fit only that one), GSM8K the
accuracy by a GPT-4 judge, MBPP pass@1. The paper gives neither intervals nor answers, so nothing can be tested.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from della_bench.results.schema import Scorer
from della_bench.results.table import Cell, CellSource, Row

__all__ = ["PAPER", "TABLE_1", "paper_rows"]

PAPER = "arXiv:2406.11617v1, table 1"
_COLUMNS = {"alpaca_eval": "win_rate", "gsm8k": "accuracy", "mbpp": "pass@1"}

# Experts, method (None: the expert itself), and the three columns in percent; None where the paper has no number.
TABLE_1: tuple[tuple[str, str | None, float | None, float | None, float | None], ...] = (
    ("LM", None, 80.8, 45.9, 31.4),
    ("Math", None, None, 63.5, None),
    ("Code", None, None, None, 27.0),
    ("LM+Math", "task_arithmetic", 79.1, 60.6, None),
    ("LM+Math", "dare", 81.3, 63.3, None),
    ("LM+Math", "ties", 77.6, 66.8, None),
    ("LM+Math", "della", 81.8, 64.1, None),
    ("LM+Code", "task_arithmetic", 73.3, None, 0.0),
    ("LM+Code", "dare", 79.4, None, 32.8),
    ("LM+Code", "ties", 77.4, None, 9.6),
    ("LM+Code", "della", 79.7, None, 35.2),
    ("Math+Code", "task_arithmetic", None, 63.2, 15.6),
    ("Math+Code", "dare", None, 61.9, 20.0),
    ("Math+Code", "ties", None, 65.9, 20.8),
    ("Math+Code", "della", None, 64.9, 20.0),
    ("LM+Math+Code", "task_arithmetic", 72.1, 48.3, 0.0),
    ("LM+Math+Code", "dare", 77.5, 62.7, 29.4),
    ("LM+Math+Code", "ties", 77.5, 66.9, 27.2),
    ("LM+Math+Code", "della", 80.4, 61.8, 31.4),
)
_SCORERS = {
    "alpaca_eval": Scorer(name="alpaca_eval_gpt4", version="paper", model="gpt-4"),
    "gsm8k": Scorer(name="gpt4", version="paper", model="gpt-4"),
    "mbpp": Scorer(name="pass@1", version="paper", model=None),
}


def paper_rows(averaged: Sequence[str]) -> list[Row]:
    """Return the paper's rows in its order; a row has an average where it has all of `averaged`.

    All the merges elect signs, the paper's task arithmetic and DARE too.
    """
    out = []
    for experts, method, *numbers in TABLE_1:
        values = {name: value for name, value in zip(_COLUMNS, numbers, strict=True) if value is not None}
        average = None
        if averaged and values.keys() >= set(averaged):
            average = sum(values[name] for name in averaged) / len(averaged)
        name = f"paper: {experts}" + (f", {method}" if method else "")
        out.append(
            Row(
                name=name,
                method=method or "",
                spec="",
                fingerprint=hashlib.sha256(f"{PAPER}: {name}".encode()).hexdigest(),
                cells={benchmark: _cell(benchmark, value) for benchmark, value in values.items()},
                average=average,
                average_reason=None if average is not None else "the paper has not all of these benchmarks",
                reference=True,
                note=PAPER,
            )
        )
    return out


def _cell(benchmark: str, value: float) -> Cell:
    return Cell(
        benchmark=benchmark,
        metric=_COLUMNS[benchmark],
        value=value,
        interval=None,
        n=0,
        unscored=0,
        scorer=_SCORERS[benchmark],
        source=CellSource(folder=Path()),
        excluded=f"a number of {PAPER}",
    )

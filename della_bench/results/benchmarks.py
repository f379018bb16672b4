"""Which benchmark a task of lm-eval measures."""

from __future__ import annotations

__all__ = ["TASKS", "benchmark_of"]

# The benchmarks whose name is not their task's.
TASKS = {
    "gsm8k": "gsm8k_cot_zeroshot_alpaca",
    "mbpp": "mbpp_alpaca",
    "humaneval": "humaneval_alpaca",
    "alpaca_eval": "alpaca_eval",
}
_BENCHMARKS = {task: benchmark for benchmark, task in TASKS.items()}


def benchmark_of(task: str) -> str:
    """Return the benchmark that a task measures: any other task is a benchmark of its own name."""
    return _BENCHMARKS.get(task, task)

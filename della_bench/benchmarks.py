"""The benchmarks, a row each: what they are called, their tasks of lm-eval, their data, and whether they run programs.

`run`, `score`, `leaderboard` and the page know a benchmark by its row. To add one:

1. Write its task for lm-eval in tasks/<task>/; the utils.py beside it gets the data by `della_bench.data.load(name)`.
2. Add a row to BENCHMARKS. Its number is then the one that the task's own metric gives.
3. Only where something else scores the answers, too (a sandbox, a paid judge): write that function in
   della_bench/run/scorers.py and mark it there with `@scores(name, ...)`.

A task of lm-eval without a row can be run and shown all the same, under its own name and by its own metric.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

__all__ = ["BENCHMARKS", "SPLITS", "Benchmark", "DataSet", "benchmark_of", "split_of", "title_of"]

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class DataSet:
    """Where rows lie, on the Hugging Face hub and as a file in the user's data folder, and the fields each row has.

    `config` is the data set's configuration on the hub; with `hub_file` the data are that one file of the repository.
    `task_ids` picks a split's rows where `file` holds those of several splits.
    """

    hub: str
    split: str
    file: str
    fields: Mapping[str, type]
    config: str | None = None
    hub_file: str | None = None
    task_ids: range | None = None


@dataclass(frozen=True)
class Benchmark:
    """What is known of a benchmark without opening anything.

    title: its name for people. tasks: by split, the task of lm-eval that asks its questions; a number is the test
    split's, and only a number on the test split is shown under the benchmark's name. data: by split, its rows, where
    the task does not make them itself; also what a judge needs beside them, under a name that is no split. unsafe:
    answers are programs, and are run. logged: the first metric that lm-eval logs of the task is a number to show.
    """

    name: str
    title: str
    tasks: Mapping[str, str]
    data: Mapping[str, DataSet] = field(default_factory=lambda: MappingProxyType({}))
    unsafe: bool = False
    logged: bool = True

    @property
    def task(self) -> str:
        """The task of the test split."""
        return self.tasks["test"]

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits of which there are questions, in the order train, validation, test."""
        return tuple(split for split in SPLITS if split in self.tasks or split in self.data)


def _gsm8k(split: str) -> DataSet:
    return DataSet(
        hub="openai/gsm8k",
        config="main",
        split=split,
        file=f"gsm8k_{split}.jsonl",
        fields={"question": str, "answer": str},
    )


def _mbpp(split: str, file: str, task_ids: range | None = None) -> DataSet:
    fields = {
        "task_id": int,
        "text": str,
        "code": str,
        "test_list": list,
        "test_setup_code": str,
        "challenge_test_list": list,
    }
    hub = "google-research-datasets/mbpp"
    return DataSet(hub=hub, config="full", split=split, file=file, fields=fields, task_ids=task_ids)


def _alpaca_eval(file: str) -> DataSet:
    # Its loading script no longer runs with datasets >= 4: the file that the script would read.
    fields = {"instruction": str, "output": str, "generator": str, "dataset": str}
    return DataSet(hub="tatsu-lab/alpaca_eval", hub_file=file, split="eval", file=file, fields=fields)


def _zoo(skill: str) -> Benchmark:
    tasks = {"test": f"zoo_{skill}", "validation": f"zoo_{skill}_validation"}
    return Benchmark(f"zoo_{skill}", f"Zoo: {skill}", tasks)


_ROWS = (
    Benchmark(
        "gsm8k",
        "GSM8K",
        tasks={"test": "gsm8k_cot_zeroshot_alpaca", "train": "gsm8k_cot_zeroshot_alpaca_train"},
        data={"test": _gsm8k("test"), "train": _gsm8k("train")},
    ),
    Benchmark(
        "mbpp",
        "MBPP",
        tasks={"test": "mbpp_alpaca", "validation": "mbpp_alpaca_validation", "train": "mbpp_alpaca_train"},
        data={
            "test": _mbpp("test", "mbpp_test.jsonl"),
            "validation": _mbpp("validation", "mbpp_train_validation.jsonl", range(511, 601)),
            "train": _mbpp("train", "mbpp_train_validation.jsonl", range(601, 975)),
        },
        unsafe=True,
        logged=False,
    ),
    Benchmark(
        "humaneval",
        "HumanEval",
        tasks={"test": "humaneval_alpaca"},
        data={
            "test": DataSet(
                hub="openai/openai_humaneval",
                split="test",
                file="HumanEval.jsonl.gz",
                fields={"task_id": str, "prompt": str, "canonical_solution": str, "test": str, "entry_point": str},
            )
        },
        unsafe=True,
        logged=False,
    ),
    Benchmark(
        "alpaca_eval",
        "AlpacaEval",
        tasks={"test": "alpaca_eval"},
        data={
            "test": _alpaca_eval("alpaca_eval.json"),
            # The same instructions with AlpacaEval 2's baseline.
            "gpt4_baseline": _alpaca_eval("alpaca_eval_gpt4_baseline.json"),
        },
        logged=False,
    ),
    _zoo("chat"),
    _zoo("code"),
    _zoo("math"),
)
BENCHMARKS: Mapping[str, Benchmark] = MappingProxyType({row.name: row for row in _ROWS})  # columns stand in this order
_BY_TASK = {row.task: row.name for row in _ROWS}
_SPLIT_BY_TASK = {task: (row.name, split) for row in _ROWS for split, task in row.tasks.items()}


def benchmark_of(task: str) -> str:
    """Return the name of the benchmark whose test split a task asks; any other task is a benchmark of its own name."""
    return _BY_TASK.get(task, task)


def split_of(task: str) -> tuple[str, str]:
    """Return the benchmark and the split that a task asks; any other task is the test split of one of its own name."""
    return _SPLIT_BY_TASK.get(task, (task, "test"))


def title_of(name: str) -> str:
    """Return what people call a benchmark: a task without a row is called by its name.

    A column's name may say behind it, in brackets, how the benchmark was asked.
    """
    plain, bracket, how = name.partition(" (")
    return BENCHMARKS[plain].title + bracket + how if plain in BENCHMARKS else name

from __future__ import annotations

import pytest
from lm_eval.tasks import TaskManager

from della_bench.benchmarks import BENCHMARKS, benchmark_of
from della_bench.resources import folder
from della_bench.run.scorers import scorers_of
from della_bench.zoo import SKILLS


@pytest.fixture(scope="module")
def index():
    return TaskManager(include_path=str(folder("tasks")), include_defaults=False).task_index


def test_every_task_of_a_row_is_one_of_ours_and_reads_the_split_that_it_stands_for(index):
    for row in BENCHMARKS.values():
        for split, task in row.tasks.items():
            assert index[task].cfg["test_split"] == split, task
            assert bool(index[task].cfg.get("unsafe_code")) == row.unsafe


def test_only_the_test_splits_task_has_its_numbers_under_the_benchmarks_name():
    assert {row.name: benchmark_of(row.task) for row in BENCHMARKS.values()} == {name: name for name in BENCHMARKS}
    assert benchmark_of("zoo_math_validation") == "zoo_math_validation"
    assert benchmark_of("hellaswag") == "hellaswag"


def test_a_row_says_which_splits_there_are():
    splits = {name: row.splits for name, row in BENCHMARKS.items()}
    assert splits == {
        "gsm8k": ("train", "test"),
        "mbpp": ("train", "validation", "test"),
        "humaneval": ("test",),
        "alpaca_eval": ("test",),
        **{f"zoo_{skill}": ("validation", "test") for skill in SKILLS},
    }


def test_every_row_has_a_scorer_and_paid_or_unsafe_ones_have_their_own():
    steps = {name: [scorer.step for scorer in scorers_of(row)] for name, row in BENCHMARKS.items()}
    assert all(steps.values())
    assert (steps["gsm8k"], steps["alpaca_eval"]) == (["lm_eval", "judge"], ["annotator"])
    assert (steps["mbpp"], steps["humaneval"]) == (["sandbox"], ["sandbox"])

"""Which tasks of lm-eval a run's benchmarks are, and what is told of those that cannot be built."""

from __future__ import annotations

import pytest
import yaml

from della_bench.benchmarks import BENCHMARKS
from della_bench.errors import UsageError
from della_bench.run.tasks import BrokenTasksError, Tasks
from tests.run.tasks import write_task


def test_a_benchmarks_name_and_its_tasks_name_mean_its_row():
    assert Tasks(["mbpp", "mbpp_alpaca"], unsafe=True).benchmarks == [BENCHMARKS["mbpp"]]
    assert [row.name for row in Tasks(["zoo_math", "zoo_math_validation"]).benchmarks] == [
        "zoo_math",
        "zoo_math_validation",
    ]


def test_a_tasks_file_is_a_benchmark_of_the_tasks_name(tmp_path):
    path = write_task(tmp_path / "sums.yaml")
    tasks = Tasks([str(path)])
    (row,) = tasks.benchmarks
    assert (row.name, row.task, row.logged) == ("sums", "sums", True)
    assert tasks.task(row).doc_to_text(tasks.task(row).eval_docs[0]) == "0 + 1"


def test_a_pattern_stands_for_all_files_that_it_fits(tmp_path):
    for name in ("b.yaml", "a.yaml"):
        write_task(tmp_path / name)
    assert [row.name for row in Tasks([f"{tmp_path}/*.yaml"]).benchmarks] == ["a", "b"]


def test_a_task_in_the_users_folder_comes_before_ours_of_its_name(tmp_path):
    write_task(tmp_path / "zoo_math.yaml", doc_to_text="mine: {{question}}")
    for include_path, text in ((None, "Below is an instruction"), (tmp_path, "mine: 0 + 1")):
        tasks = Tasks(["zoo_math"], include_path=include_path)
        (row,) = tasks.benchmarks
        task = tasks.task(row)
        assert task.doc_to_text(task.eval_docs[0]).startswith(text)


def test_tasks_that_ship_need_no_digest_and_a_users_own_changes_with_all_that_it_reads(tmp_path):
    shipped = Tasks(["zoo_math"])
    assert shipped.digest(shipped.benchmarks[0]) is None
    path = write_task(tmp_path / "own.yaml", include="more.yaml")
    changes = {
        "nothing": lambda: None,
        "the file": lambda: write_task(path, include="more.yaml", description="Add."),
        "what it includes": lambda: (tmp_path / "more.yaml").write_text("target_delimiter: ','\n"),
        "the code beside it": lambda: (tmp_path / "utils.py").write_text("X = 1\n"),
        "its data": lambda: (tmp_path / "own.jsonl").write_text('{"question": "?", "answer": "!"}\n'),
    }
    (tmp_path / "more.yaml").write_text("target_delimiter: ' '\n")
    seen = set()
    for what, change in changes.items():
        change()
        by_file = Tasks([str(path)])
        digest = by_file.digest(by_file.benchmarks[0])
        assert digest is not None
        assert digest not in seen, what
        seen.add(digest)
    by_name = Tasks(["zoo_math"], include_path=tmp_path)
    assert by_name.digest(by_name.benchmarks[0]) is None


def test_all_names_that_mean_nothing_are_told_at_once(tmp_path):
    path = tmp_path / "broken.yaml"
    path.write_text("task: [")
    nameless = tmp_path / "nameless.yaml"
    nameless.write_text(yaml.safe_dump({"group": "x", "task": ["a", "b"]}))
    with pytest.raises(UsageError) as caught:
        Tasks([str(tmp_path / "absent.yaml"), str(path), str(nameless)])
    assert caught.value.argument == "benchmarks"
    faults = caught.value.message.splitlines()
    assert "there is no file" in faults[0]
    assert "broken.yaml cannot be read" in faults[1]
    assert "nameless.yaml is no task" in faults[2]


def test_one_task_in_two_forms_is_refused(tmp_path):
    path = write_task(tmp_path / "zoo_math.yaml")
    with pytest.raises(UsageError, match="asked for already in another form"):
        Tasks(["zoo_math", str(path)])


def test_a_folder_of_tasks_must_be_there(tmp_path):
    with pytest.raises(UsageError, match="there is no folder"):
        Tasks(["zoo_math"], include_path=tmp_path / "absent")


def test_a_users_task_that_runs_programs_must_be_allowed_to(tmp_path):
    path = write_task(tmp_path / "programs.yaml", unsafe_code=True)
    with pytest.raises(UsageError, match="programs: runs programs that the model wrote"):
        Tasks([str(path)])
    tasks = Tasks([str(path)], unsafe=True)
    tasks.build()
    assert [row.unsafe for row in tasks.benchmarks] == [True]


def test_all_tasks_that_cannot_be_built_are_told_at_once(tmp_path, monkeypatch):
    monkeypatch.setenv("DELLA_BENCH_DATA", str(tmp_path))
    broken = write_task(tmp_path / "broken.yaml", doc_to_target="{{nothing}}")
    empty = write_task(tmp_path / "split.yaml", test_split="absent")
    tasks = Tasks(["humaneval", str(broken), "zoo_chat", str(empty)], unsafe=True)
    with pytest.raises(BrokenTasksError) as caught:
        tasks.build()
    starts = ("humaneval: no data for humaneval", "broken: task broken", "split: task split")
    text = str(caught.value)
    assert all(any(line.startswith(start) for line in text.splitlines()) for start in starts)
    assert "zoo_chat" not in text
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("name", ["both", "sums"])
def test_a_group_or_tag_is_refused(tmp_path, name):
    (tmp_path / "both.yaml").write_text(yaml.safe_dump({"group": "both", "task": ["zoo_math", "zoo_chat"]}))
    write_task(tmp_path / "one.yaml", tag="sums")
    from lm_eval.tasks import TaskManager

    from della_bench.resources import folder

    manager = TaskManager(include_path=[folder("tasks"), tmp_path], include_defaults=False)
    with pytest.raises(UsageError, match=f"{name} is a group of tasks; name its tasks one by one"):
        Tasks([name], manager=manager)

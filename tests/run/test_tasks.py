"""Which tasks of lm-eval a run's benchmarks are, and what is told of those that cannot be built."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml

from della_bench.benchmarks import BENCHMARKS
from della_bench.errors import UsageError
from della_bench.resources import folder
from della_bench.run.settings import EvalSettings
from della_bench.run.task_files import task_digest
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
    rows = '{"question": "?", "answer": "!"}\n'
    for name in ("data", "common", "by_pattern", "below"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "rows.jsonl").write_text(rows)
    included = {"include": ["more.yaml", "common/asked.yaml"]}

    def with_data(**kwargs):
        return write_task(tmp_path / "own.yaml", **included, dataset_kwargs=kwargs)

    def split():
        for name, count in (("test", 2), ("train", 1)):
            (tmp_path / "data" / f"{name}.jsonl").write_text(count * rows)

    (tmp_path / "common" / "asked.yaml").write_text("process_docs: !function asked.kept\n")
    (tmp_path / "common" / "asked.py").write_text("def kept(docs):\n    return docs\n")
    path = write_task(tmp_path / "own.yaml", **included)
    changes = {
        "nothing": lambda: None,
        "the file": lambda: write_task(path, **included, description="Add."),
        "what it includes": lambda: (tmp_path / "more.yaml").write_text("target_delimiter: ','\n"),
        "the code beside it": lambda: (tmp_path / "utils.py").write_text("X = 1\n"),
        "its data": lambda: (tmp_path / "own.jsonl").write_text(rows),
        "the code beside what it includes": lambda: (tmp_path / "common" / "asked.py").write_text(
            "def kept(docs):\n    return docs.select([0])\n"
        ),
        "data by a pattern": lambda: with_data(data_files={"test": str(tmp_path / "by_pattern" / "*.jsonl")}),
        "those data": lambda: (tmp_path / "by_pattern" / "rows.jsonl").write_text(2 * rows),
        "one more of them": lambda: (tmp_path / "by_pattern" / "more.jsonl").write_text(rows),
        "data in a folder": lambda: with_data(data_dir=str(tmp_path / "data")),
        "the data there": lambda: (tmp_path / "data" / "rows.jsonl").write_text(2 * rows),
        "data below a folder": lambda: with_data(data_dir=str(tmp_path), data_files=["below/rows.jsonl"]),
        "the data below it": lambda: (tmp_path / "below" / "rows.jsonl").write_text(2 * rows),
        "a folder as its dataset": lambda: write_task(path, dataset_path=str(tmp_path / "data"), dataset_kwargs={}),
        "that folder": lambda: (tmp_path / "data" / "rows.jsonl").write_text(3 * rows),
        "the name of a file there": lambda: (tmp_path / "data" / "rows.jsonl").rename(tmp_path / "data" / "test.jsonl"),
        "where one file ends": split,
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


def test_what_lies_in_a_folder_of_data_besides_does_not_count_and_links_that_lead_back_are_no_loop(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    (data / "rows.jsonl").write_text("{}\n")
    for name in ("one", "two"):
        (data / name).symlink_to(data)
    for kwargs in ({"data_dir": str(data)}, {"data_files": f"{data}/**/*.jsonl"}):
        path = write_task(tmp_path / "own.yaml", dataset_kwargs=kwargs)
        before = task_digest(path)
        (data / "__pycache__").mkdir(exist_ok=True)
        (data / "__pycache__" / "x.pyc").write_bytes(b"made by an import of code that lies there")
        assert task_digest(path) == before
        (data / "__pycache__" / "x.pyc").unlink()
        (data / "more.jsonl").write_text("{}\n")
        assert task_digest(path) != before
        (data / "more.jsonl").unlink()


def test_the_data_of_a_class_and_of_a_task_within_a_group_and_a_function_in_a_folder_count(tmp_path):
    data = tmp_path / "data" / "rows.jsonl"
    data.parent.mkdir()
    path = write_task(tmp_path / "inner.yaml", dataset_kwargs={"data_files": {"test": str(data)}})
    inner = yaml.safe_load(path.read_text())
    path.unlink()
    (tmp_path / "group.yaml").write_text(yaml.safe_dump({"group": "group", "task": [inner]}))
    (tmp_path / "classes.yaml").write_text("task: classes\nclass: !function code.asked.Asked\n")
    (tmp_path / "plain.yaml").write_text(
        yaml.safe_dump({**inner, "task": "plain"}) + "process_docs: !function code.asked.kept\n"
    )
    (tmp_path / "code").mkdir()
    code = (
        "from lm_eval.api.task import ConfigurableTask\n\n"
        "def kept(docs):\n    return docs\n\n"
        "class Asked(ConfigurableTask):\n    VERSION = 0\n\n"
        f"    def __init__(self, config=None):\n        super().__init__(config={ {**inner, 'task': 'classes'} })\n"
    )
    (tmp_path / "code" / "asked.py").write_text(code)

    def digests(**changed):
        data.write_text(json.dumps({"question": "1 + 1", "answer": "2", **changed}) + "\n")
        tasks = Tasks(["group", "classes", "plain"], include_path=tmp_path)
        return {row.name: tasks.digest(row) for row in tasks.benchmarks}

    first = digests()
    assert digests() == first
    second = digests(answer="3")
    assert all(second[name] != first[name] for name in first)
    (tmp_path / "code" / "asked.py").write_text(code + "# other\n")
    third = digests(answer="3")
    assert third["plain"] != second["plain"]


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


@pytest.fixture
def with_groups(tmp_path):
    """lm-eval's manager of tasks `one` and `two`, a group of both, groups of these, and a tag."""
    write_task(tmp_path / "one.yaml", tag="sums", num_fewshot=0)
    write_task(tmp_path / "two.yaml", tag="sums")
    groups = {
        "both": ["one", {"task": "two", "num_fewshot": 1, "fewshot_split": "test"}],
        "outer": ["both", {"group": "inner", "task": ["zoo_math"]}],
        "doubled": ["both", "sums"],
        "programs": ["humaneval_alpaca"],
    }
    for name, members in groups.items():
        (tmp_path / f"{name}_group.yaml").write_text(yaml.safe_dump({"group": name, "task": members}))
    from lm_eval.tasks import TaskManager

    return TaskManager(include_path=[folder("tasks"), tmp_path], include_defaults=False)


def test_a_group_is_one_benchmark_with_its_own_settings_for_its_tasks(with_groups):
    tasks = Tasks(["both"], manager=with_groups)
    (row,) = tasks.benchmarks
    assert (row.name, row.task, tasks.leaves(row)) == ("both", "both", ("one", "two"))
    assert [task.config.num_fewshot for task in tasks.task(row).get_all_tasks()] == [0, 1]


def test_the_tasks_of_groups_in_a_group_are_found_as_lm_eval_names_them(with_groups):
    tasks = Tasks(["outer"], manager=with_groups)
    (row,) = tasks.benchmarks
    assert tasks.leaves(row) == ("one", "two", "zoo_math")
    assert {task.task_name for task in tasks.task(row).get_all_tasks()} == set(tasks.leaves(row))


def test_a_tag_and_a_pattern_are_words_for_their_tasks(with_groups):
    for name in ("sums", "[ot][nw][eo]"):
        assert [row.name for row in Tasks([name], manager=with_groups).benchmarks] == ["one", "two"]


@pytest.mark.parametrize("name", ["words", "gsm*", "{folder}/gsm8k.yaml"])
def test_a_task_of_somebody_elses_is_never_taken_for_the_benchmark_of_its_name(tmp_path, name):
    from lm_eval.tasks import TaskManager

    write_task(tmp_path / "gsm8k.yaml", tag="words")
    manager = TaskManager(include_path=[tmp_path], include_defaults=False)
    with pytest.raises(UsageError, match=r"give it another name.*task: NAME"):
        Tasks([name.format(folder=tmp_path)], manager=manager)
    assert Tasks(["gsm8k"], manager=manager).benchmarks == [BENCHMARKS["gsm8k"]]


def test_a_group_that_holds_a_task_twice_and_one_that_is_not_there_are_told_together(with_groups):
    with pytest.raises(UsageError) as caught:
        Tasks(["doubled", "bothh"], manager=with_groups)
    assert caught.value.message.splitlines() == [
        "doubled holds one, two twice",
        "bothh is neither a benchmark nor a task or group of lm-eval; did you mean 'both'?",
    ]


def test_a_group_with_programs_must_be_allowed_to_run_them(with_groups):
    with pytest.raises(UsageError, match="programs: runs programs"):
        Tasks(["programs"], manager=with_groups)


def test_a_groups_digest_changes_with_each_of_its_tasks(with_groups, tmp_path):
    def digest(name):
        tasks = Tasks([name], manager=with_groups)
        return tasks.digest(tasks.benchmarks[0])

    first = digest("outer")
    write_task(tmp_path / "two.yaml", tag="sums", description="Add.")
    assert first is not None
    assert digest("outer") != first


def settings_in_force(path, **own):
    tasks = Tasks([str(path)], settings=EvalSettings(num_fewshot=2, gen_kwargs={"temperature": 1.0}), by_benchmark=own)
    return tasks.settings(tasks.benchmarks[0])


def test_a_setting_that_changes_nothing_about_a_task_is_not_in_force(tmp_path):
    fixed = write_task(tmp_path / "fixed.yaml", num_fewshot=0)
    assert settings_in_force(fixed).num_fewshot is None  # as lm-eval has it
    assert settings_in_force(fixed, **{str(fixed): {"num_fewshot": 3}}).num_fewshot == 3
    assert settings_in_force(fixed, **{str(fixed): {"num_fewshot": 0}}).num_fewshot is None
    two = write_task(tmp_path / "two.yaml", num_fewshot=2)
    assert settings_in_force(two).num_fewshot is None
    choice = write_task(tmp_path / "choice.yaml", output_type="multiple_choice", doc_to_choice=["1", "2"])
    assert settings_in_force(choice).gen_kwargs == {}
    assert settings_in_force(two).gen_kwargs == {"temperature": 1.0}


def test_tasks_that_stay_without_examples_though_they_are_asked_for_are_named(tmp_path):
    names = ("fixed", "own", "free")
    paths = [str(write_task(tmp_path / f"{name}.yaml", num_fewshot=None if name == "free" else 0)) for name in names]
    asked = {paths[1]: {"num_fewshot": 3}}
    assert Tasks(paths, settings=EvalSettings(num_fewshot=2), by_benchmark=asked).without_examples() == ["fixed"]
    assert Tasks(paths, settings=EvalSettings(num_fewshot=0), by_benchmark=asked).without_examples() == []
    assert Tasks(paths, by_benchmark=asked).without_examples() == []


def test_what_settings_lack_in_the_tasks_is_told_for_all_tasks_at_once(tmp_path):
    paths = [write_task(tmp_path / f"{name}.yaml", num_fewshot=None) for name in ("bare", "short", "good")]
    write_task(paths[2], num_fewshot=None, fewshot_split="test")
    own: dict[str, dict[str, Any]] = {str(paths[0]): {"num_fewshot": 2}, str(paths[1]): {"samples": {"short": (1, 4)}}}
    tasks = Tasks([*map(str, paths)], settings=EvalSettings(num_fewshot=0), by_benchmark=own)
    with pytest.raises(BrokenTasksError) as caught:
        tasks.build()
    assert str(caught.value).splitlines() == [
        "bare: num_fewshot=2: task bare has no examples: no training or validation problems are to be had, and none of "
        "its own",
        "short: samples: task short has 4 documents, from 0 to 3: 4 is none",
    ]
    Tasks([str(paths[2])], settings=EvalSettings(num_fewshot=2)).build()


def test_samples_of_a_group_are_its_tasks_own(with_groups):
    with pytest.raises(UsageError, match="samples: both has 2 tasks: name them, such as one"):
        Tasks(["both"], manager=with_groups, settings=EvalSettings(samples={"both": (0,)}))
    tasks = Tasks(["both"], manager=with_groups, settings=EvalSettings(samples={"two": (0,)}))
    assert tasks.settings(tasks.benchmarks[0]).samples == {"two": (0,)}


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"samples": {"zoo_maths": (1,)}}, "samples: zoo_maths is no task of this run; did you mean 'zoo_math'"),
        ({"fewshot_as_multiturn": True}, "fewshot_as_multiturn: turns need a chat template"),
        ({"gen_kwargs": {"max_new_tokens": 3}}, "gen_kwargs: max_new_tokens: write max_gen_toks"),
    ],
)
def test_settings_that_mean_nothing_in_a_run_are_told(settings, fault):
    for how in ({"settings": EvalSettings(**settings)}, {"by_benchmark": {"zoo_math": settings}}):
        with pytest.raises(UsageError, match=re.escape(fault)):
            Tasks(["zoo_math", "zoo_chat"], **how)

"""mbpp_alpaca and humaneval_alpaca as lm-eval builds them: prompts, decoding, what filter and metric return."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from lm_eval.api.instance import Instance
from lm_eval.api.task import ConfigurableTask
from lm_eval.tasks._yaml_loader import load_yaml

from della_bench.errors import DataError, SandboxError
from della_bench.resources import folder
from della_bench.scoring.code import task as task_module
from tests.scoring.code.fake import use_fake_sandbox
from tests.scoring.code.small import HUMANEVAL, MBPP, write_data

# SHA-256 over the prompts of all problems in their order, each followed by a NUL.
PINNED = {
    "mbpp_alpaca": (500, "bd72d3025b832863600ecda49dda80f97b11311ae3e15dc093015e6c029d7d1f"),
    "humaneval_alpaca": (164, "1252b174ea9857b9161ebbb23078548003c7bf08470892dc7bc0173bac704f74"),
}
HEAD = "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n"


def build(name: str, variant: str = "") -> Any:
    return ConfigurableTask(config=load_yaml(folder("tasks") / name / f"{name}{variant}.yaml"))


@pytest.fixture
def small(tmp_path, monkeypatch):
    write_data(tmp_path)
    monkeypatch.setenv("DELLA_BENCH_DATA", str(tmp_path))


def run(task: Any, replies: list[list[str]]) -> list[tuple[list[dict[str, Any]], dict[str, float]]]:
    """Return what the filter logs of each document's replies, and its metrics."""
    docs = task.test_docs()
    instances = []
    for index, (doc, of_one_doc) in enumerate(zip(docs, replies, strict=True)):
        instance = Instance(request_type="generate_until", doc=doc, arguments=("", {}), idx=0, doc_id=index)
        instance.resps = of_one_doc
        instances.append(instance)
    (ensemble,) = task._filters
    ensemble.apply(instances)
    logged = [instance.filtered_resps["sandbox"] for instance in instances]
    return [
        ([json.loads(text) for text in texts], task.process_results(doc, [texts]))
        for doc, texts in zip(docs, logged, strict=True)
    ]


@pytest.mark.usefixtures("small")
def test_mbpp_prompt_has_the_text_and_all_tests_and_a_tab_for_four_blanks():
    task = build("mbpp_alpaca")
    assert task.doc_to_text(task.test_docs()[0]) == (
        f"{HEAD}\n\n"
        "### Instruction:\n"
        "Create a Python script for this problem:\n"
        "\n"
        "Write a function to add one.\n"
        "Test examples:\n"
        "assert add_one(1) == 2\n"
        "assert add_one(-1) == 0\n"
        "\n"
        "### Response:"
    )
    assert 'assert echo("\t") == "\t"' in task.doc_to_text(task.test_docs()[1])


@pytest.mark.usefixtures("small")
def test_task_493_shows_its_functions_name_in_the_place_of_its_tests():
    task = build("mbpp_alpaca")
    prompt = task.doc_to_text({**MBPP[0], "task_id": 493, "test_list": ["assert calculate_polygons(1) == [2]"]})
    assert "Test examples:\ncalculate_polygons(startx, starty, endx, endy, radius)\n\n### Response:" in prompt
    assert "assert" not in prompt


@pytest.mark.usefixtures("small")
def test_humaneval_prompt_is_the_data_sets_with_tabs():
    task = build("humaneval_alpaca")
    assert task.doc_to_text(task.test_docs()[0]) == (
        f"{HEAD}\n\n"
        "### Instruction:\n"
        "Create a Python script for this problem:\n"
        'def add_one(x: int) -> int:\n\t"""Return x and one.\n\t"""\n'
        "\n\n### Response:"
    )


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("name", PINNED)
def test_decoding_is_greedy_zero_shot_one_sample_of_512_tokens(name):
    task = build(name)
    assert (task.config.num_fewshot, task.config.repeats) == (0, 1)
    kwargs = dict(task.config.generation_kwargs)
    assert kwargs.pop("until") == ["### Instruction", "</s>", "<|im_end|>"]
    assert kwargs == {"do_sample": False, "temperature": 0.0, "max_gen_toks": 512}
    assert list(task.aggregation()) == ["pass@1"]


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("name", PINNED)
@pytest.mark.parametrize("variant", ["", "_sampled"])
def test_tasks_are_marked_as_running_code(name, variant):
    assert build(name, variant).UNSAFE_CODE is True


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("name", PINNED)
def test_the_sampled_variant_draws_ten_answers(name):
    task = build(name, "_sampled")
    assert task.config.repeats == 10
    assert task.config.generation_kwargs["do_sample"] is True
    assert list(task.aggregation()) == ["pass@1", "pass@5", "pass@10"]
    assert task.doc_to_text(task.test_docs()[0]) == build(name).doc_to_text(task.test_docs()[0])


@pytest.mark.usefixtures("small")
def test_the_filter_logs_program_rule_verdict_and_reason_as_json_and_metrics_are_numbers(monkeypatch):
    use_fake_sandbox(monkeypatch)
    task = build("mbpp_alpaca")
    right, wrong = run(task, [["```python\ndef add_one(x):\n\treturn x + 1\n```"], ["def echo(x):\n    return 1"]])
    assert right == (
        [{"program": "def add_one(x):\n    return x + 1", "rule": "fence", "verdict": "passed", "explanation": ""}],
        {"pass@1": 1.0},
    )
    (logged,), metrics = wrong
    assert (logged["verdict"], metrics) == ("failed", {"pass@1": 0.0})
    assert "echo" in logged["explanation"]


@pytest.mark.usefixtures("small")
def test_what_lm_eval_logs_of_the_filter_is_json_again(monkeypatch):
    from lm_eval.utils import sanitize_list

    use_fake_sandbox(monkeypatch)
    logged = task_module.run_replies("mbpp", [['def add_one(x):\n    "\N{SNOWMAN}"\n    return x + 1']], MBPP[:1])
    assert json.loads(sanitize_list(logged)[0][0])["verdict"] == "passed"


@pytest.mark.usefixtures("small")
def test_several_answers_give_unbiased_pass_at_k(monkeypatch):
    use_fake_sandbox(monkeypatch)
    right, wrong = "def add_one(x):\n    return x + 1", "def add_one(x):\n    return x"
    replies = [[right] * 3 + [wrong] * 7, [wrong] * 10]
    (_, first), (_, second) = run(build("mbpp_alpaca", "_sampled"), replies)
    assert first == pytest.approx({"pass@1": 0.3, "pass@5": 1 - 21 / 252, "pass@10": 1.0})
    assert second == {"pass@1": 0.0, "pass@5": 0.0, "pass@10": 0.0}


@pytest.mark.usefixtures("small")
def test_humaneval_takes_a_whole_function_and_a_mere_body(monkeypatch):
    use_fake_sandbox(monkeypatch)
    whole, body = run(build("humaneval_alpaca"), [["def add_one(x):\n    return x + 1"], ["    return x - 1\n"]])
    assert (whole[0][0]["rule"], whole[1]) == ("whole", {"pass@1": 1.0})
    assert (body[0][0]["rule"], body[1]) == ("body", {"pass@1": 1.0})
    assert body[0][0]["program"] == HUMANEVAL[1]["prompt"] + "    return x - 1"


@pytest.mark.usefixtures("small")
def test_a_fault_of_the_sandbox_has_no_part_in_the_mean(monkeypatch):
    use_fake_sandbox(monkeypatch, faults={"2"})
    right, fault = run(build("mbpp_alpaca"), [["def add_one(x):\n    return x + 1"], ["def echo(x):\n    return x"]])
    assert right[1] == {"pass@1": 1.0}
    assert (fault[0][0]["verdict"], fault[1]) == ("sandbox", {})


@pytest.mark.usefixtures("small")
def test_without_a_sandbox_replies_are_logged_and_nothing_is_scored(monkeypatch, caplog):
    def none_here(**_: Any) -> Any:
        raise SandboxError("no level of isolation works here")

    monkeypatch.setattr(task_module, "find_level", none_here)
    found = run(build("mbpp_alpaca"), [["def add_one(x):\n    return x + 1"], ["x"]])
    assert [(logged[0]["verdict"], metrics) for logged, metrics in found] == [("sandbox", {}), ("sandbox", {})]
    assert found[0][0][0]["program"] == "def add_one(x):\n    return x + 1"
    assert "no level of isolation" in caplog.text


@pytest.mark.usefixtures("small")
def test_one_log_line_says_which_level_of_sandbox_is_used(monkeypatch, caplog):
    use_fake_sandbox(monkeypatch)
    with caplog.at_level("INFO", logger="lm_eval"):
        run(build("mbpp_alpaca"), [["x"], ["x"]])
    ours = [record.message for record in caplog.records if "della_bench" in record.name]
    assert ours == ["running 2 programs in sandbox level bubblewrap"]


@pytest.mark.parametrize("name", PINNED)
def test_a_machine_without_the_data_gets_the_error_that_says_both_ways(name, tmp_path, monkeypatch):
    monkeypatch.setenv("DELLA_BENCH_DATA", str(tmp_path))
    with pytest.raises(DataError, match="DELLA_BENCH_DATA"):
        build(name)


@pytest.mark.real_data
@pytest.mark.parametrize("name", PINNED)
def test_prompts_of_all_problems_are_pinned(name):
    task = build(name)
    digest = hashlib.sha256()
    docs = task.test_docs()
    for doc in docs:
        digest.update(task.doc_to_text(doc).encode() + b"\0")
    assert (len(docs), digest.hexdigest()) == PINNED[name]


def test_the_readme_names_every_rule_and_verdict():
    from della_bench.scoring.code.extract import RULES
    from della_bench.scoring.sandbox import VERDICTS

    text = (folder("tasks") / "mbpp_alpaca" / "README.md").read_text(encoding="utf-8")
    for word in (*RULES, *VERDICTS):
        assert f"`{word}`" in text, word

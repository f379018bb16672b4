"""The GSM8K tasks as lm-eval builds them: prompts, decoding, and what each filter reads."""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from lm_eval.api.instance import Instance
from lm_eval.api.task import ConfigurableTask
from lm_eval.tasks._yaml_loader import load_yaml

from della_bench.errors import DataError
from della_bench.resources import folder

FOLDER = folder("tasks") / "gsm8k_cot_zeroshot_alpaca"
TASK = "gsm8k_cot_zeroshot_alpaca"
VERBATIM = "gsm8k_cot_zeroshot_alpaca_verbatim"
GOLDS = {"18": "So 9 * 2 = <<9*2=18>>18.\n#### 18", "1800": "#### 1,800", "-10": "#### -10"}

# SHA-256 over the prompts of all 1319 problems in their order, each followed by a NUL.
PINNED = {
    TASK: "f7b531803a3b55e31706c5c0dc6d79ecadf7cc758aa29a8abccf8adee74181f6",
    VERBATIM: "2d5677c4db3fe76a2d5dc56dd93c4f073b40ea26424916b50b2bc793b96bc204",
}


def build(name: str) -> Any:
    return ConfigurableTask(config=load_yaml(FOLDER / f"{name}.yaml"))


@pytest.fixture
def small(tmp_path, monkeypatch):
    """Three problems, one for each of GOLDS, in the place of the real ones."""
    lines = [json.dumps({"question": f"What is {gold}?", "answer": answer}) for gold, answer in GOLDS.items()]
    (tmp_path / "gsm8k_test.jsonl").write_text("\n".join(lines), encoding="utf-8")
    monkeypatch.setenv("DELLA_BENCH_DATA", str(tmp_path))


def read(task: Any, doc: dict[str, str], reply: str) -> dict[str, str]:
    """Return what each filter of `task` reads in `reply`."""
    instance = Instance(request_type="generate_until", doc=doc, arguments=("", {}), idx=0)
    instance.resps = [reply]
    for ensemble in task._filters:
        ensemble.apply([instance])
    return dict(instance.filtered_resps)


def score(task: Any, gold: str, reply: str) -> dict[str, float]:
    doc = {"question": "", "answer": GOLDS[gold]}
    return {
        name: float(task.process_results(doc, [answer])["exact_match"])
        for name, answer in read(task, doc, reply).items()
    }


def readme_table() -> list[tuple[str, ...]]:
    """Return the rows of the README's table of replies: reply, strict-match, flexible-extract, answer-is."""
    table = Path(FOLDER / "README.md").read_text(encoding="utf-8").partition("| reply |")[2]
    rows = [re.findall(r"`([^`]*)`", line) for line in table.splitlines() if line.startswith("| `")]
    return [tuple(row) for row in rows]


@pytest.mark.usefixtures("small")
def test_prompt_is_the_alpaca_template_with_line_breaks():
    task = build(TASK)
    assert task.doc_to_text(task.test_docs()[0]) == (
        "Below is an instruction that describes a task. "
        "Write a response that appropriately completes the request.\n"
        "\n"
        "### Instruction:\n"
        "What is 18?\n"
        "\n"
        "### Response: Let's think step by step."
    )


@pytest.mark.usefixtures("small")
def test_verbatim_prompt_has_backslash_n_for_each_line_break_and_no_full_stop():
    task = build(VERBATIM)
    prompt = task.doc_to_text(task.test_docs()[0])
    assert "\n" not in prompt
    assert prompt == (
        "Below is an instruction that describes a task. "
        r"Write a response that appropriately completes the request.\n\n"
        r"### Instruction:\n What is 18? \n\n### Response: Let's think step by step"
    )


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("name", "stops"),
    [(TASK, ["### Instruction", "</s>", "<|im_end|>"]), (VERBATIM, ["Q:", "</s>", "<|im_end|>"])],
)
def test_decoding_is_greedy_zero_shot_and_1000_tokens(name, stops):
    task = build(name)
    assert task.config.num_fewshot == 0
    assert task.config.generation_kwargs == {
        "until": stops,
        "do_sample": False,
        "temperature": 0.0,
        "max_gen_toks": 1000,
    }


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("name", [TASK, VERBATIM])
def test_both_tasks_have_the_same_filters_and_metric(name):
    task = build(name)
    assert [ensemble.name for ensemble in task._filters] == ["strict-match", "flexible-extract", "answer-is"]
    assert list(task.aggregation()) == ["exact_match"]
    assert task.VERSION == 1.0


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(("reply", "strict", "flexible", "answer_is"), readme_table())
def test_filters_read_what_the_readme_says(reply, strict, flexible, answer_is):
    task = build(TASK)
    expected = {"strict-match": strict, "flexible-extract": flexible, "answer-is": answer_is}
    assert read(task, task.test_docs()[0], reply) == expected


def test_the_readme_has_a_table_and_shows_both_slips_of_the_authors_expression():
    rows = {reply: strict for reply, strict, *_ in readme_table()}
    assert len(rows) >= 10
    assert rows["The answer is: 18"] == "1"
    assert rows["The answer is: $18."] == "[invalid]"


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("gold", "reply"),
    [
        ("18", "The answer is: 18."),
        ("18", "The answer is: 18. "),
        ("1800", "The answer is: 1800."),
        ("1800", "The answer is: 1,800."),
        ("-10", "The answer is: -10."),
    ],
)
def test_all_filters_score_a_plain_right_answer(gold, reply):
    assert score(build(TASK), gold, reply) == {"strict-match": 1.0, "flexible-extract": 1.0, "answer-is": 1.0}


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("gold", "reply"),
    [
        ("18", "The answer is: 18.0"),
        ("18", "The answer is $18.00 per day."),
        ("18", "**The answer is:** 018 eggs"),
        ("18", "the ANSWER is\n\n18"),
        ("18", "The answer is:\n- 18 eggs"),
        ("18", r"The answer is: $\$18$"),
        ("1800", r"The answer is $\boxed{1,800}$."),
        ("1800", "The answer is: €1,800.00"),
        ("-10", "The answer is -$10"),
        ("-10", "The answer is $-10.0"),
        ("-10", "The answer is −10"),
    ],
)
def test_answer_is_brings_equal_numbers_to_one_form(gold, reply):
    assert score(build(TASK), gold, reply)["answer-is"] == 1.0


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("gold", "reply"),
    [
        ("18", "The answer is: 1"),
        ("18", "The answer is: 180"),
        ("18", "The answer is: 18.5"),
        ("18", "The answer is: -18"),
        ("18", "The answer is: 18. No, the answer is: 19."),
        ("18", "18"),
        ("18", ""),
        ("-10", "The answer is: 10"),
        ("1800", "The answer is: 1"),
    ],
)
def test_answer_is_takes_no_other_number_for_the_right_one(gold, reply):
    assert score(build(TASK), gold, reply)["answer-is"] == 0.0


def test_a_machine_without_the_data_gets_the_error_that_says_both_ways(tmp_path, monkeypatch):
    monkeypatch.setenv("DELLA_BENCH_DATA", str(tmp_path))
    with pytest.raises(DataError, match=r"gsm8k_test\.jsonl"):
        build(TASK)


@pytest.mark.real_data
@pytest.mark.parametrize("name", [TASK, VERBATIM])
def test_prompts_of_all_problems_are_pinned(name):
    task = build(name)
    digest = hashlib.sha256()
    for doc in task.test_docs():
        digest.update(task.doc_to_text(doc).encode() + b"\0")
    assert digest.hexdigest() == PINNED[name]


@pytest.mark.real_data
def test_every_gold_answer_is_read_back_right_by_all_filters():
    task = build(TASK)
    for doc in task.test_docs():
        gold = doc["answer"].rpartition("#### ")[2]
        for name, answer in read(task, doc, f"The answer is: {gold}.").items():
            assert task.process_results(doc, [answer])["exact_match"] == 1.0, (name, doc)


@pytest.mark.real_data
@pytest.mark.parametrize(("model", "right"), [("6b_finetuning", 286), ("6b_verification", 515)])
def test_answer_is_agrees_with_the_verdicts_published_with_recorded_solutions(model, right):
    """The GSM8K authors' example solutions, which announce their answer with `A:`, and say which of them are right."""
    recorded = Path(os.environ["DELLA_BENCH_DATA"]) / "gsm8k_model_solutions_6b.jsonl"
    if not recorded.exists():
        pytest.skip(f"{recorded.name} is not in DELLA_BENCH_DATA")
    lines = [json.loads(line) for line in recorded.read_text(encoding="utf-8").split("\n") if line]
    task = build(TASK)
    verdicts = []
    for doc, line in zip(task.test_docs(), lines, strict=True):
        assert doc["question"] == line["question"]
        reply = line[model]["solution"].replace("\nA:", "\nThe answer is:")
        value = task.process_results(doc, [read(task, doc, reply)["answer-is"]])["exact_match"]
        assert bool(value) == line[model]["is_correct"], (doc, reply)
        verdicts.append(bool(value))
    assert sum(verdicts) == right

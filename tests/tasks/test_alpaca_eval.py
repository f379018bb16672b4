"""The AlpacaEval task as lm-eval builds it: prompt, decoding, and where an answer ends."""

from __future__ import annotations

import json
from typing import Any

import pytest
from lm_eval.api.instance import Instance
from lm_eval.api.task import ConfigurableTask
from lm_eval.tasks._yaml_loader import load_yaml

from della_bench.errors import DataError
from della_bench.judging.alpaca.outputs import STOPS, cut_answer
from della_bench.judging.alpaca.reference import doc_hash
from della_bench.resources import folder

FOLDER = folder("tasks") / "alpaca_eval"
ROWS = [
    {"instruction": "Name a bird.", "output": "A wren.", "generator": "text_davinci_003", "dataset": "helpful_base"},
    {"instruction": "Name {{a}} fish.", "output": "A carp.", "generator": "text_davinci_003", "dataset": "vicuna"},
]


def build() -> Any:
    return ConfigurableTask(config=load_yaml(FOLDER / "alpaca_eval.yaml"))


@pytest.fixture
def task(tmp_path, monkeypatch):
    (tmp_path / "alpaca_eval.json").write_text(json.dumps(ROWS), encoding="utf-8")
    monkeypatch.setenv("DELLA_BENCH_DATA", str(tmp_path))
    return build()


def read(task: Any, reply: str) -> str:
    instance = Instance(request_type="generate_until", doc=ROWS[0], arguments=("", {}), idx=0)
    instance.resps = [reply]
    for ensemble in task._filters:
        ensemble.apply([instance])
    return instance.filtered_resps["answer"]


def test_the_prompt_is_the_vicuna_template_around_the_instruction_as_it_is(task):
    prompts = [task.doc_to_text(doc) for doc in task.test_docs()]
    assert prompts[0] == (
        "A chat between a curious user and an artificial intelligence assistant. "
        "The assistant gives helpful, detailed, and polite answers to the user's questions. "
        "USER: Name a bird. ASSISTANT:"
    )
    assert prompts[1].endswith(" USER: Name {{a}} fish. ASSISTANT:")


def test_decoding_is_greedy_zero_shot_and_512_tokens_and_stops_where_the_judge_cuts(task):
    assert task.config.num_fewshot == 0
    assert task.config.generation_kwargs == {
        "until": list(STOPS),
        "do_sample": False,
        "temperature": 0.0,
        "max_gen_toks": 512,
    }
    assert STOPS == ("</s>", "USER:", "ASSISTANT:")


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        (" A wren.", "A wren."),
        (" A wren.</s>", "A wren."),
        ("A wren. USER: And a fish? ASSISTANT: A carp.", "A wren."),
        ("A wren.\nASSISTANT: A wren.", "A wren."),
        ("</s>A wren.", ""),
        ("The user: and the assistant:\n\n- a wren", "The user: and the assistant:\n\n- a wren"),
        ("", ""),
    ],
)
def test_an_answer_ends_at_the_first_stop_string_without_blanks_around_it(task, reply, answer):
    assert read(task, reply) == answer
    assert cut_answer(reply) == answer


def test_what_lm_eval_shows_is_the_length_and_claims_no_direction(task):
    assert task.process_results(ROWS[0], ["A wren."]) == {"answer_length": len("A wren.")}
    assert list(task.aggregation()) == ["answer_length"]
    assert not task.higher_is_better()["answer_length"]


def test_a_machine_without_the_data_gets_the_error_that_says_both_ways(tmp_path, monkeypatch):
    monkeypatch.setenv("DELLA_BENCH_DATA", str(tmp_path))
    with pytest.raises(DataError, match=r"alpaca_eval\.json"):
        build()


def test_doc_hash_is_what_lm_eval_logs_for_the_document():
    from lm_eval.utils import handle_non_serializable, hash_string

    doc = {**ROWS[0], "output": "Ein Zaunkönig.\n„Ja“"}
    text = json.dumps(doc, indent=2, default=handle_non_serializable, ensure_ascii=False)
    assert doc_hash(doc) == hash_string(text)


@pytest.mark.real_data
def test_all_805_instructions_are_asked_in_the_published_order():
    task = build()
    docs = list(task.test_docs())
    assert len(docs) == 805
    assert docs[0]["instruction"].startswith("What are the names of some famous actors")
    assert all(f"USER: {doc['instruction']} ASSISTANT:" in task.doc_to_text(doc) for doc in docs)

"""What AlpacaEval is given: answers in either format, a baseline, and an annotator's configuration."""

from __future__ import annotations

import json
import logging
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

from della_bench.errors import DataError, JudgeError
from della_bench.judging.alpaca.annotator import Annotator, load_annotator, write_annotator
from della_bench.judging.alpaca.outputs import read_answers
from della_bench.judging.alpaca.reference import doc_hash, load_reference, published_annotations, read_reference
from tests.judging import alpaca

installed = pytest.mark.skipif(find_spec("alpaca_eval") is None, reason="alpaca_eval is not installed")


@pytest.fixture
def reference(tmp_path, monkeypatch):
    monkeypatch.setenv("DELLA_BENCH_DATA", str(alpaca.folder(tmp_path / "data", 4)))
    return load_reference("text_davinci_003")


def write(path: Path, rows: list[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n", encoding="utf-8")
    return path


def sample(position: int, text: str, **more: Any) -> dict[str, Any]:
    doc = alpaca.baseline(position + 1)[position]
    return {"doc_id": position, "doc": doc, "resps": [[text]], "filter": "answer", "doc_hash": doc_hash(doc), **more}


def test_answers_come_in_the_baselines_order_cut_at_the_stops_and_named_after_their_folder(tmp_path, reference):
    rows = [sample(2, " c</s>"), sample(0, "a USER: more"), sample(3, "d"), sample(1, "b ASSISTANT: b")]
    answers = read_answers(write(tmp_path / "run-1" / "samples.jsonl", rows), reference)
    assert [(row.position, row.output, row.doc_id) for row in answers.rows] == [
        (0, "a", 0),
        (1, "b", 1),
        (2, "c", 2),
        (3, "d", 3),
    ]
    assert (answers.generator, answers.filter) == ("run-1", "answer")


def test_both_formats_name_the_same_items(tmp_path, reference):
    samples = read_answers(write(tmp_path / "s.jsonl", [sample(k, f"x{k}") for k in range(4)]), reference)
    rows = [{**row, "output": f"x{k}", "generator": "m"} for k, row in enumerate(alpaca.baseline(4))]
    (tmp_path / "o.json").write_text(json.dumps(rows[::-1]), encoding="utf-8")
    listed = read_answers(tmp_path / "o.json", reference)
    assert listed.rows == samples.rows
    assert listed.generator == "m"
    assert read_answers(tmp_path / "o.json", reference, name="mine").generator == "mine"


def test_an_answer_in_alpaca_evals_format_is_taken_as_it_is(tmp_path, reference):
    row = {**alpaca.baseline(1)[0], "output": " USER: is what I say </s>"}
    assert read_answers(write(tmp_path / "o.jsonl", [row]), reference).rows[0].output == " USER: is what I say </s>"


@pytest.mark.parametrize(
    ("rows", "fault"),
    [
        ([sample(0, "a"), sample(0, "b")], "line 2: doc_id 0, filter 'answer' stood in line 1"),
        ([sample(0, "a"), sample(0, "b", doc_id=9)], "line 2: doc_id 9: 'Say the number 0.' is answered twice"),
        ([sample(0, "a", doc={"question": "1 + 1?"})], "no instruction: is this another task's? (it has: 'question')"),
        ([sample(0, "a", doc={"instruction": "Sing."})], "the baseline alpaca_eval.json has no instruction 'Sing.'"),
        ([sample(0, "a", resps=[["a"], ["b"]])], "2 responses, and AlpacaEval judges one"),
        ([{"question": "1 + 1?", "response": "2"}], "row 1: neither a sample of lm-eval nor a row of alpaca_eval's"),
        ([{"instruction": "Say the number 0.", "output": None}], "row 1: neither a sample of lm-eval nor a row"),
        ([alpaca.baseline(2)[0], {**alpaca.baseline(2)[1], "generator": "x"}], "row 2: generator 'x', but 'text_dav"),
        ([alpaca.baseline(1)[0]] * 2, "row 2: 'Say the number 0.' is answered twice"),
    ],
)
def test_a_wrong_row_is_named_with_its_fault(tmp_path, reference, rows, fault):
    with pytest.raises(DataError) as caught:
        read_answers(write(tmp_path / "rows.jsonl", rows), reference)
    assert str(tmp_path / "rows.jsonl") in str(caught.value)
    assert fault in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_baseline_of_ones_own_is_read_and_a_wrong_one_named(tmp_path, monkeypatch):
    monkeypatch.setenv("DELLA_BENCH_DATA", str(tmp_path))
    rows = alpaca.baseline(3, "mine")
    good = read_reference(write(tmp_path / "r.jsonl", rows))
    assert (good.generator, [row["output"] for row in good.rows]) == ("mine", [row["output"] for row in rows])
    wrong = {
        "row 3: the instruction of row 1 again": [*rows[:2], rows[0]],
        "row 2: a baseline's row has a text 'output'": [rows[0], {**rows[1], "output": 3}],
        "a baseline is one model's, got 'mine', 'yours'": [rows[0], {**rows[1], "generator": "yours"}],
    }
    for fault, these in wrong.items():
        with pytest.raises(DataError) as caught:
            read_reference(write(tmp_path / "w.jsonl", these))
        assert fault in str(caught.value)


def test_annotations_that_a_length_controlled_rate_needs_are_missed_before_anything_is_asked(tmp_path, monkeypatch):
    monkeypatch.setenv("DELLA_BENCH_DATA", str(tmp_path))
    with pytest.raises(DataError, match=r"df_gamed\.csv of the data set tatsu-lab/alpaca_eval.*`metric` win_rate"):
        published_annotations()
    (tmp_path / "df_gamed.csv").write_text("x", encoding="utf-8")
    assert published_annotations() == tmp_path / "df_gamed.csv"


@installed
@pytest.mark.parametrize(
    ("name", "metric", "baseline", "model"),
    [
        ("alpaca_eval_gpt4", "win_rate", "text_davinci_003", "gpt-4"),
        (
            "weighted_alpaca_eval_gpt4_turbo",
            "length_controlled_winrate",
            "gpt4_1106_preview",
            "gpt-4-1106-preview",
        ),
    ],
)
def test_metric_and_baseline_go_with_the_annotator_and_not_with_alpaca_evals_default(name, metric, baseline, model):
    annotator = load_annotator(name)
    assert (annotator.name, annotator.metric, annotator.baseline, annotator.model) == (name, metric, baseline, model)


@installed
def test_the_default_of_alpaca_eval_alone_is_another_annotators_baseline_and_metric():
    """What the table above is for: were this mended upstream, passing them would be needless but right."""
    import inspect

    level = logging.getLogger().level
    from alpaca_eval import evaluate

    logging.getLogger().setLevel(level)
    default = {name: each.default for name, each in inspect.signature(evaluate).parameters.items()}
    assert (default["fn_metric"], default["sort_by"]) == ("get_length_controlled_winrate", "length_controlled_winrate")


@installed
def test_another_model_is_another_judge():
    other = load_annotator("alpaca_eval_gpt4", model="org/judge v2")
    assert (other.name, other.model) == ("alpaca_eval_gpt4-org_judge_v2", "org/judge v2")
    assert load_annotator("alpaca_eval_gpt4", model="gpt-4").name == "alpaca_eval_gpt4"


@installed
def test_a_written_annotator_is_read_back_the_same(tmp_path):
    annotator = load_annotator("alpaca_eval_gpt4")
    again = load_annotator(str(write_annotator(annotator, tmp_path / "annotator")))
    assert again == Annotator(
        annotator.name, (tmp_path / "annotator" / "configs.yaml"), annotator.config, annotator.prompt
    )


def config(folder: Path, template: str | None = None, **more: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    text = "<|im_start|>user\n{instruction} {output_1} {output_2}<|im_end|>" if template is None else template
    (folder / "prompt.txt").write_text(text, encoding="utf-8")
    entry = {"prompt_template": "prompt.txt", "completions_kwargs": {"model_name": "m"}, **more}
    (folder / "configs.yaml").write_text(yaml.safe_dump({"mine": entry}), encoding="utf-8")
    return folder


@installed
def test_an_annotator_of_ones_own_is_a_folder_or_a_file(tmp_path):
    folder = config(tmp_path / "mine")
    assert load_annotator(str(folder)) == load_annotator(str(folder / "configs.yaml"))
    assert load_annotator(str(folder)).metric == "win_rate"


@installed
@pytest.mark.parametrize(
    ("more", "fault"),
    [
        ({"fn_completion": "x"}, "unknown key 'fn_completion'"),
        ({"fn_completions": "anthropic_completions"}, "only OpenAI-compatible servers are asked"),
        ({"completions_kwargs": {}}, "completions_kwargs has no model_name"),
        (
            {"completions_kwargs": {"model_name": "m", "client_kwargs": {}}},
            "client_kwargs is not taken: name the server",
        ),
        ({"prompt_template": "absent.txt"}, "prompt_template 'absent.txt' is no file"),
        ({"template": "{instruction} {output_1} {output_2}"}, "is not in ChatML"),
        ({"template": "<|im_start|>user\n{instruction} {output_1}<|im_end|>"}, "has no {output_2}"),
    ],
)
def test_a_faulty_annotator_is_named_with_its_fault(tmp_path, more, fault):
    folder = config(tmp_path / "mine", **more)
    with pytest.raises(JudgeError) as caught:
        load_annotator(str(folder))
    assert fault in str(caught.value)
    assert str(folder / "configs.yaml") in str(caught.value)
    assert caught.value.exit_code == 2


@installed
def test_all_faults_are_named_at_once_and_an_unknown_name_gets_the_nearest(tmp_path):
    with pytest.raises(JudgeError) as caught:
        load_annotator(str(config(tmp_path / "mine", fn_completion=1, completions_kwargs={})))
    assert len(str(caught.value).splitlines()) == 2
    with pytest.raises(JudgeError, match="did you mean 'alpaca_eval_gpt4'"):
        load_annotator("alpaca_eval_gtp4")
    with pytest.raises(JudgeError, match="this is a pool: gpt4_1"):
        load_annotator("alpaca_farm")


def test_a_missing_alpaca_eval_names_the_extra(monkeypatch):
    from della_bench.judging.alpaca import process

    monkeypatch.setattr(process, "find_spec", lambda _: None)
    with pytest.raises(JudgeError, match=r"pip install 'della-bench\[alpaca\]'"):
        load_annotator("alpaca_eval_gpt4")

"""Folders as the DELLA authors' scripts, alpaca_eval and bigcode's harness leave them."""

from __future__ import annotations

import csv
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from della_bench.results.layouts import model_in_name
from della_bench.results.leaderboard import build_table
from tests.results.making import EXACT, scored

MERGE = "LM_math_code_della_1.1_0.3_0.14_1.0"


def write_annotations(path: Path, model: str, preferences: list[float | None]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [
        {"instruction": f"i{index}", "output_1": "a", "generator_1": "text_davinci_003", "output_2": "b",
         "generator_2": model, "annotator": "alpaca_eval_gpt4", "preference": preference}
        for index, preference in enumerate(preferences)
    ]  # fmt: skip
    path.write_text(json.dumps(rows))


def metrics(path: Path, share: float, **config: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"mbpp": {"pass@1": share}, "config": config}))


def labels(path: Path, annotated: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["", "instruction", "target", "output", "template_label", "comments", "gpt4_annotation"])
        writer.writerows([i, "q", "t", "o", "positive", "said\nso", label] for i, label in enumerate(annotated))


def old_lm_eval(folder: Path, model: str, right: list[int]) -> None:
    """Write what lm-eval 0.4.2 wrote: results.json, and one array without filters, a block a filter."""
    folder.mkdir(parents=True)
    task = "gsm8k_cot_zeroshot_alpaca"
    result = {"exact_match,strict-match": 0.0, "exact_match,flexible-extract": sum(right) / len(right)}
    value = {"results": {task: result}, "config": {"model": "hf", "model_args": f"pretrained=./{model}"}}
    (folder / "results.json").write_text(json.dumps(value))
    rows = [{"doc_id": i, "doc": {"question": "q"}, "target": "t", "resps": [["r"]], "exact_match": each}
            for block in ([0] * len(right), right) for i, each in enumerate(block)]  # fmt: skip
    (folder / f"pretrained=.__{model}_{task}.jsonl").write_text(json.dumps(rows, indent=2))


def test_the_authors_folders_are_one_row_a_model(tmp_path: Path) -> None:
    old_lm_eval(tmp_path / "save_gen_math_results/gsm8k" / MERGE, MERGE, [1, 0, 0, 0])
    labels(
        tmp_path / f"save_gsm8k_results/pretrained=.__{MERGE}_gsm8k_cot_zeroshot_alpacal_gpt4_labelled.csv",
        ["positive", "positive", "negative", "CantAnnotate"],
    )
    metrics(tmp_path / f"save_codes_results/mbpp/{MERGE}_full_eval_metrics.json", 0.314)
    write_annotations(tmp_path / "alpaca_eval_results/alpaca_eval_gpt4/annotations.json", MERGE, [2, 1, 2, 1.5, None])
    table = build_table([tmp_path], scorers={"gsm8k": "authors_gpt4"})
    assert table.faults == ()
    (row,) = table.rows
    assert {name: (round(cell.value or 0, 2), cell.n, cell.unscored) for name, cell in row.cells.items()} == {
        "gsm8k": (66.67, 3, 1),
        "mbpp": (31.4, 500, 0),
        "alpaca_eval": (62.5, 4, 1),
    }


def test_a_models_name_tells_its_method_where_no_run_does(tmp_path: Path) -> None:
    metrics(tmp_path / f"{MERGE}_full_eval_metrics.json", 0.314)
    metrics(tmp_path / "LM_math_7_dare_ties_1.1_0.3_0.0_1.0_norescale_eval_metrics.json", 0.2)
    metrics(tmp_path / "WizardLM_eval_metrics.json", 0.1)
    assert [row.method for row in build_table([tmp_path]).rows] == ["della", "dare_ties", ""]


@pytest.mark.parametrize(
    ("name", "model"),
    [
        (f"{MERGE}_full.jsonl", MERGE),
        (f"{MERGE}_full_32.json", MERGE),
        (f"pretrained__.__{MERGE}_gsm8k_cot_zeroshot_alpacal", MERGE),
        (f"pretrained=.__{MERGE}_gsm8k_cot_zeroshot_alpaca.jsonl", MERGE),
        ("model.jsonl", "model"),
    ],
)
def test_the_model_is_found_in_a_files_name(name: str, model: str) -> None:
    assert model_in_name(name) == model


def test_a_run_of_100_problems_is_no_number_over_500(tmp_path: Path) -> None:
    answers = tmp_path / "save_gen_codes_results/mbpp/m.jsonl"
    answers.parent.mkdir(parents=True)
    answers.write_text(json.dumps([["print()"]] * 100 + [[]] * 400))
    metrics(
        tmp_path / "save_codes_results/mbpp/m_eval_metrics.json",
        0.2,
        load_generations_path="./save_gen_codes_results/mbpp/m.jsonl",
    )
    table = build_table([tmp_path])
    assert table.rows == ()
    assert "100 of them have an answer: a partial run" in table.faults[0]


def test_our_score_of_their_answers_is_the_models(tmp_path: Path) -> None:
    (tmp_path / "m_full.jsonl").write_text("[]")
    scored(tmp_path, "mbpp", [1.0, 0.0], EXACT, detail={"samples": "m_full.jsonl"}, metric="pass@1")
    (row,) = build_table([tmp_path]).rows
    assert (row.name, row.cells["mbpp"].value) == ("m", 50.0)


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("annotations.json", "[1]", "no annotations of alpaca_eval"),
        (
            "annotations.json",
            '[{"instruction": "i", "generator_2": "m", "preference": 3}]',
            "preference 3: expected 0, or 1 to 2",
        ),
        ("m_eval_metrics.json", '{"mbpp": {"pass@1": "x"}}', "no metrics of bigcode's harness"),
        ("m_gpt4_labelled.csv", "a,b\n1,2\n", "no labels of the authors' judge"),
    ],
)
def test_what_such_a_file_lacks_is_said(tmp_path: Path, name: str, text: str, fault: str) -> None:
    (tmp_path / name).write_text(text)
    assert fault in build_table([tmp_path]).faults[0]


@pytest.mark.real_data
@pytest.mark.parametrize(("model", "published"), [("vicuna-13b", 70.43), ("alpaca-7b", 26.46)])
def test_recorded_preferences_of_alpaca_eval_give_the_published_win_rate(
    tmp_path: Path, model: str, published: float
) -> None:
    folder = Path(os.environ["DELLA_BENCH_DATA"])
    path = tmp_path / "alpaca_eval_gpt4/annotations.json"
    path.parent.mkdir()
    shutil.copy(folder / f"alpaca_eval_recorded_{model}.json", path)
    (row,) = build_table([tmp_path]).rows
    assert row.name == model
    assert row.cells["alpaca_eval"].value == pytest.approx(published, abs=0.01)


def test_one_file_of_annotations_may_hold_several_models(tmp_path: Path) -> None:
    path = tmp_path / "annotations.json"
    write_annotations(path, "m", [2, 2])
    first = json.loads(path.read_text())
    write_annotations(path, "n", [1, 1])
    path.write_text(json.dumps(first + json.loads(path.read_text())))
    assert {row.name: row.cells["alpaca_eval"].value for row in build_table([tmp_path]).rows} == {"m": 100.0, "n": 0.0}


def test_annotations_that_stand_twice_are_no_win_rate(tmp_path: Path) -> None:
    path = tmp_path / "alpaca_eval_gpt4" / "annotations.json"
    write_annotations(path, "ours", [1.0, 2.0])
    path.write_text(json.dumps(json.loads(path.read_text()) * 2))
    table = build_table([tmp_path])
    assert not table.rows
    assert table.notes == (
        f"{path}: 2 rows of ours are of an instruction that another row of it is of, too: its win rate would count "
        "some twice; left out",
    )


def test_results_whose_metrics_name_no_filter_are_said_to_be_another_releases(tmp_path: Path) -> None:
    """As lm-eval 0.3 wrote them."""
    value = {
        "results": {"gsm8k": {"acc": 0.5, "acc_stderr": 0.1}},
        "config": {"model": "hf", "model_args": "pretrained=x"},
    }
    (tmp_path / "results.json").write_text(json.dumps(value))
    table = build_table([tmp_path])
    assert not table.rows
    assert "results of lm-eval before 0.4" in table.notes[0]

"""The DELLA authors' README from top to bottom, with files as its scripts write them: each step's number.

The checkpoints are the zoo's; the answers are those that the benchmarks' data come with: MBPP's own solutions, a 6B
model's solutions of GSM8K (515 of 1,319 right), GPT-4's recorded preferences on AlpacaEval (70.43 % for vicuna-13b).
"""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from della_bench.cli import app
from della_bench.results.leaderboard import build_table

pytestmark = [pytest.mark.real_data, pytest.mark.exhaustive]

MODEL = "LM_math_code_della_1.1_0.3_0.14_1.0"
TASK = "gsm8k_cot_zeroshot_alpaca"
DATA = Path(os.environ.get("DELLA_BENCH_DATA", ""))


def call(*arguments: str | Path) -> Any:
    return CliRunner().invoke(app, [str(each) for each in arguments])


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as it is after all of their scripts have run, but for what their judges and harnesses write."""
    root = tmp_path_factory.mktemp("della")
    _config(root / "configs/LM_math_code.yml")
    _mbpp(root / f"save_gen_codes_results/mbpp/{MODEL}_full.jsonl", 500)
    _mbpp(root / f"save_gen_codes_results/mbpp/{MODEL}.jsonl", 100)
    _gsm8k(root / f"save_gen_math_results/gsm8k/{MODEL}")
    return root


def _config(path: Path) -> None:
    """merge.py --models LM_math_code --drop_rate 0.3 --window_size 0.14 --lambda_factor 1.1, of the zoo."""
    path.parent.mkdir(parents=True)
    models = [{"model": f"zoo:{name}", "parameters": {"weight": 1.0}} for name in ("chat", "math", "code")]
    numbers = {"density": 0.7, "lambda": 1.1, "window_size": 0.14, "rescale": 1}
    value = {"models": models, "merge_method": "della", "base_model": "zoo:base", "dtype": "float16"}
    path.write_text(yaml.safe_dump({**value, "parameters": numbers}))


def _mbpp(path: Path, answered: int) -> None:
    """generate.py --dataset mbpp: a list a problem, empty where it was not asked."""
    path.parent.mkdir(parents=True, exist_ok=True)
    problems = list(_rows(DATA / "mbpp_test.jsonl"))
    path.write_text(json.dumps([[row["code"]] if place < answered else [] for place, row in enumerate(problems)]))


def _gsm8k(folder: Path) -> None:
    """lm_eval of release 0.4.2: one array, a block of rows for each of two filters; the results beside it."""
    folder.mkdir(parents=True)
    solutions = list(_rows(DATA / "gsm8k_model_solutions_6b.jsonl"))
    rows = [
        {"doc_id": place, "doc": {"question": row["question"], "answer": problem["answer"]},
         "target": problem["answer"],
         "resps": [[row["6b_verification"]["solution"]]], "filtered_resps": ["[invalid]"],
         "exact_match": float(row["6b_verification"]["is_correct"])}
        for place, (row, problem) in enumerate(zip(solutions, _rows(DATA / "gsm8k_test.jsonl"), strict=True))
    ]  # fmt: skip
    strict = [{**row, "exact_match": 0.0} for row in rows]
    (folder / f"pretrained=.__{MODEL}_{TASK}.jsonl").write_text(json.dumps(strict + rows, indent=2))
    share = sum(row["exact_match"] for row in rows) / len(rows)
    result = {"exact_match,strict-match": 0.0, "exact_match,flexible-extract": share}
    config = {"model": "hf", "model_args": f"pretrained=./{MODEL}"}
    (folder / "results.json").write_text(json.dumps({"results": {TASK: result}, "config": config}))


def _rows(path: Path) -> Iterator[Any]:
    return (json.loads(line) for line in path.read_text().splitlines())


def test_merging_and_pruning(repository: Path) -> None:
    found = call("spec", repository / "configs/LM_math_code.yml")
    assert found.exit_code == 0
    for part in ("density", "0.7", "0.07", "1.1", "float16"):
        assert part in found.stdout


def test_mbpp_in_full_and_of_100_problems(repository: Path) -> None:
    folder = repository / "save_gen_codes_results/mbpp"
    assert call("score", "mbpp", folder / f"{MODEL}_full.jsonl", "--compat", "bigcode").exit_code == 0
    partial = call("score", "mbpp", folder / f"{MODEL}.jsonl", "--compat", "bigcode")
    assert partial.exit_code == 0
    assert "a partial run: the benchmark has 500" in partial.output


def test_gsm8k_by_its_number(repository: Path) -> None:
    answers = repository / f"save_gen_math_results/gsm8k/{MODEL}/pretrained=.__{MODEL}_{TASK}.jsonl"
    found = call("judge", "gsm8k", answers, "--judge", "exact")
    assert found.exit_code == 0, found.output + str(found.exception)


def test_the_leaderboard_has_each_steps_number(repository: Path) -> None:
    labelled = repository / f"save_gsm8k_results/pretrained=.__{MODEL}_{TASK}l_gpt4_labelled.csv"
    labelled.parent.mkdir()
    with labelled.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["", "gpt4_annotation"])
        right = [row["6b_verification"]["is_correct"] for row in _rows(DATA / "gsm8k_model_solutions_6b.jsonl")]
        writer.writerows((place, "positive" if each else "negative") for place, each in enumerate(right))
    metrics = repository / f"save_codes_results/mbpp/{MODEL}_full_eval_metrics.json"
    metrics.parent.mkdir(parents=True)
    named = f"./save_gen_codes_results/mbpp/{MODEL}_full.jsonl"
    metrics.write_text(json.dumps({"mbpp": {"pass@1": 1.0}, "config": {"load_generations_path": named}}))
    annotations = repository / "alpaca_eval_results/alpaca_eval_gpt4/annotations.json"
    annotations.parent.mkdir(parents=True)
    shutil.copy(DATA / "alpaca_eval_recorded_vicuna-13b.json", annotations)
    annotations.write_text(annotations.read_text().replace('"vicuna-13b"', json.dumps(MODEL)))
    table = build_table([repository], scorers={"gsm8k": "authors_gpt4"})
    (row,) = [row for row in table.rows if row.name.endswith(MODEL)]
    assert row.cells["gsm8k"].value == pytest.approx(100 * 515 / 1319)
    assert row.cells["mbpp"].value == pytest.approx(100.0)
    assert row.cells["alpaca_eval"].value == pytest.approx(70.43, abs=0.01)

"""`della-bench score` and `score_code` with the real sandbox."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from lm_eval import evaluator
from lm_eval.api.model import LM
from lm_eval.tasks.manager import TaskManager
from lm_eval.utils import sanitize_list

from della_bench import data
from della_bench.cli import main
from della_bench.plugin import register
from della_bench.resources import folder
from della_bench.results.schema import items_path, read_items, read_score, score_path
from della_bench.scoring.code.score import score_code
from della_bench.scoring.code.verdicts import Settings
from della_bench.scoring.sandbox import Limits
from tests.scoring.code.small import HUMANEVAL, MBPP, write_data, write_rows


@pytest.fixture
def small(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    write_data(tmp_path / "data")
    monkeypatch.setenv("DELLA_BENCH_DATA", str(tmp_path / "data"))


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main(["score", *map(str, arguments)])
    captured = capsys.readouterr()
    return ended.value.code or 0, captured.out, captured.err


def generations(tmp_path, value):
    path = tmp_path / "generations.json"
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


@pytest.mark.usefixtures("small")
def test_scores_lie_beside_the_samples_and_the_summary_says_how_they_were_made(tmp_path, capsys):
    code, out, _ = run(capsys, "mbpp", generations(tmp_path, [[doc["code"]] for doc in MBPP]))
    assert code == 0
    score = read_score(score_path(tmp_path, "mbpp", "sandbox"))
    assert score["value"] == 100.0
    assert f"sandbox: {score['detail']['sandbox']['level']}" in out
    assert "mbpp pass@1: 100.0 [34.2, 100.0] % of 2 problems" in out


@pytest.mark.usefixtures("small")
def test_out_names_another_folder_and_human_evals_own_format_is_read(tmp_path, capsys):
    rows = [{"task_id": doc["task_id"], "completion": doc["canonical_solution"]} for doc in HUMANEVAL]
    path = write_rows(tmp_path / "samples.jsonl", rows)
    code, *_ = run(capsys, "humaneval", path, "--out", tmp_path / "out")
    assert (code, (tmp_path / "scores").exists()) == (0, False)
    assert read_score(score_path(tmp_path / "out", "humaneval", "sandbox"))["value"] == 100.0


@pytest.mark.usefixtures("small")
def test_compat_prints_bigcodes_metric_file_alone_on_stdout_and_warns(tmp_path):
    path = generations(tmp_path, [[MBPP[0]["code"]], []])
    command = [sys.executable, "-m", "della_bench.cli", "score", "mbpp", str(path), "--compat", "bigcode"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    printed = json.loads(done.stdout)
    assert printed["mbpp"] == {"pass@1": 1.0}
    assert printed["config"]["load_generations_path"] == str(path)
    assert "1 of 2 problems have no candidates and are left out of the mean" in done.stderr


@pytest.mark.usefixtures("small")
def test_export_writes_generations_and_runs_nothing(tmp_path, capsys):
    rows = [{"task_id": doc["task_id"], "response": f"```python\n{doc['code']}\n```"} for doc in MBPP]
    path, exported = write_rows(tmp_path / "rows.jsonl", rows), tmp_path / "generations.json"
    code, out, _ = run(capsys, "mbpp", path, "--export", exported)
    assert (code, out) == (0, f"{exported}: 2 programs\n")
    assert not (tmp_path / "scores").exists()
    assert run(capsys, "mbpp", exported)[0] == 0
    assert read_score(score_path(tmp_path, "mbpp", "sandbox"))["value"] == 100.0


@pytest.mark.usefixtures("small")
def test_a_partial_run_is_said_to_be_one(tmp_path, capsys):
    rows = [{"task_id": "Mbpp/1", "solution": MBPP[0]["code"]}]
    path = write_rows(tmp_path / "rows.jsonl", rows)
    code, out, err = run(capsys, "mbpp", path)
    assert code == 0
    assert "a partial run: no answer to 1 of 2 problems (task 2); the score is of the others" in err
    assert "100.0 [20.7, 100.0] % of 1 problems; a partial run: the benchmark has 2" in out


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mbpp", "nothing.jsonl"], "nothing.jsonl: cannot be read: No such file"),
        (["mbpp", "generations.json"], "3 entries for 2 problems"),
        (["humaneval", "generations.json"], "3 entries for 2 problems"),
        (["mbpp", "two.json", "--filter", "x"], "only lm-eval samples have filters"),
        (["gsm8k", "generations.json"], "mbpp"),
        (["mbpp", "generations.json", "--workers", "0"], "workers"),
        (["mbpp", "generations.json", "--timeout", "0"], "timeout"),
        (["mbpp", "generations.json", "--timeout", "inf"], "--timeout: must be at most 86,400"),
        (["mbpp", "generations.json", "--timeout", "nan"], "--timeout"),
        (["mbpp", "generations.json", "--timeout", "1e300"], "--timeout: must be at most 86,400"),
        (["mbpp", "generations.json", "--limit", "0"], "limit"),
        (["mbpp", "generations.json", "--extraction", "mine"], "authors"),
        (["mbpp", "generations.json", "--compat", "other"], "bigcode"),
    ],
)
def test_a_users_mistake_is_one_message_and_exit_code_2(tmp_path, capsys, monkeypatch, arguments, message):
    generations(tmp_path, [["x"], ["y"]]).rename(tmp_path / "two.json")
    generations(tmp_path, [["x"], ["y"], ["z"]])
    monkeypatch.chdir(tmp_path)
    code, _, err = run(capsys, *arguments)
    assert code == 2
    assert message in err
    assert "Traceback" not in err
    assert not (tmp_path / "scores").exists()


def test_a_data_set_that_is_not_to_be_had_says_both_ways(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("DELLA_BENCH_DATA", str(tmp_path / "nowhere"))
    code, _, err = run(capsys, "mbpp", generations(tmp_path, [["x"]]))
    assert code == 2
    assert "mbpp_test.jsonl" in err
    assert "hub" in err


@pytest.mark.usefixtures("small")
def test_an_answer_of_ten_megabytes_gets_its_verdict(tmp_path):
    noise = "x" * 10_000_000
    rows = [
        {"task_id": 1, "program": f'{MBPP[0]["code"]}\nnoise = "{noise}"\n'},
        {"task_id": 2, "response": f"```python\n{MBPP[1]['code']}\n```\n{noise}"},
    ]
    score = score_code("mbpp", write_rows(tmp_path / "rows.jsonl", rows), tmp_path)
    assert score["detail"]["verdicts"] == {"passed": 2}
    rows = [{"task_id": 1, "response": noise}, {"task_id": 2, "program": f"{noise} ="}]
    score = score_code("mbpp", write_rows(tmp_path / "rows.jsonl", rows), tmp_path)
    assert score["value"] == 0.0
    assert score["unscored"] == 0


@pytest.mark.usefixtures("small")
def test_verdicts_of_the_real_sandbox_reach_the_items(tmp_path):
    answers = ["def add_one(x):\n    return x", "def echo(x)\n    return x"]
    score_code("mbpp", generations(tmp_path, [[answer] for answer in answers]), tmp_path)
    found = {item["doc_id"]: item for item in read_items(items_path(tmp_path, "mbpp", "sandbox"))}
    assert (found[0]["verdict"], found[1]["verdict"]) == ("failed", "syntax")
    assert "assert add_one(1) == 2" in found[0]["explanation"]


@pytest.mark.real_data
@pytest.mark.slow
def test_mbpps_own_solutions_pass_as_far_as_bigcodes_semantics_let_them(tmp_path):
    path = generations(tmp_path, [[doc["code"]] for doc in data.load("mbpp")])
    score = score_code("mbpp", path, tmp_path, settings=Settings(compat=True))
    items = read_items(items_path(tmp_path, "mbpp", "bigcode"))
    wrong = {item["doc_id"] + 11: item["verdict"] for item in items if not item["value"]}
    assert wrong.pop(367) == "error"  # it needs its setup code
    assert wrong in ({}, {123: "timeout"})  # 4 to 5 seconds of CPU time, of which there are three
    assert score["detail"]["bigcode"]["mbpp"]["pass@1"] == (499 - len(wrong)) / 500


@pytest.mark.real_data
@pytest.mark.slow
def test_mbpps_own_solutions_all_pass_with_setup_code_and_time_in_prose_as_well(tmp_path):
    rows = [
        {"task_id": doc["task_id"], "response": f"Here it is:\n\n```python\n{doc['code']}\n```\n\nIt is right."}
        for doc in data.load("mbpp")
    ]
    score = score_code(
        "mbpp", write_rows(tmp_path / "rows.jsonl", rows), tmp_path, settings=Settings(limits=Limits(cpu_seconds=10))
    )
    assert (score["value"], score["n"], score["unscored"]) == (100.0, 500, 0)
    assert score["detail"]["extraction"]["rules"] == {"fence": 500}


@pytest.mark.real_data
@pytest.mark.slow
def test_human_evals_canonical_solutions_all_pass(tmp_path):
    rows = [{"task_id": doc["task_id"], "completion": doc["canonical_solution"]} for doc in data.load("humaneval")]
    score = score_code("humaneval", write_rows(tmp_path / "samples.jsonl", rows), tmp_path)
    assert (score["value"], score["n"], score["unscored"]) == (100.0, 164, 0)


@pytest.mark.real_data
def test_every_own_solution_is_found_again_in_the_middle_of_prose():
    from della_bench.scoring.code.extract import extract

    for doc in data.load("mbpp"):
        code = doc["code"].replace("\r\n", "\n").replace("\r", "\n").replace("\t", "    ").rstrip()
        for reply in (code, f"Here is the solution:\n\n{code}\n\nThis solves it.", f"The solution is:\n{code}"):
            assert extract(reply).program.split() == extract(f"```\n{code}\n```").program.split(), doc["task_id"]


class Answering(LM):  # type: ignore[misc]
    """Answers MBPP's prompts with the given texts, in their order."""

    def __init__(self, replies):
        super().__init__()
        self.replies = replies

    def generate_until(self, requests, disable_tqdm=False):
        return list(self.replies)

    def loglikelihood(self, requests):
        raise AssertionError("this task only generates")

    loglikelihood_rolling = loglikelihood


@pytest.mark.usefixtures("small")
def test_lm_eval_and_a_later_scoring_of_its_log_come_to_the_same_verdicts(tmp_path):
    register()
    right = f"Sure:\n```python\n{MBPP[0]['code']}\n```"
    found = evaluator.simple_evaluate(
        model=Answering([right, "def echo(x):\n    return 1"]),
        tasks=["mbpp_alpaca"],
        task_manager=TaskManager(include_path=str(folder("tasks")), include_defaults=False),
        confirm_run_unsafe_code=True,
        bootstrap_iters=0,
    )
    assert found["results"]["mbpp_alpaca"]["pass@1,sandbox"] == 0.5
    logged = found["samples"]["mbpp_alpaca"]
    texts = [sanitize_list(row["filtered_resps"])[0][0] for row in logged]
    path = write_rows(tmp_path / "samples.jsonl", [json.loads(json.dumps(row)) for row in logged])
    assert score_code("mbpp", path, tmp_path)["value"] == 50.0
    items = sorted(read_items(items_path(tmp_path, "mbpp", "sandbox")), key=lambda item: item["doc_id"])
    for row, text, item in zip(logged, texts, items, strict=True):
        verdict = json.loads(text)
        assert (item["verdict"], item["answer"]) == (verdict["verdict"], verdict["program"])
        assert (item["value"], item["doc_hash"]) == (row["pass@1"], row["doc_hash"])
    assert [item["verdict"] for item in items] == ["passed", "failed"]

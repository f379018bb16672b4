"""Scores: what is counted how, what lies on disk, and both ways to bigcode-evaluation-harness."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lm_eval.utils import handle_non_serializable, hash_string

from della_bench import data
from della_bench.errors import DataError, SandboxError
from della_bench.lock import file_lock
from della_bench.results.schema import items_path, read_items, read_score, score_path
from della_bench.results.stats import wilson
from della_bench.scoring.code import score as score_module
from della_bench.scoring.code import verdicts
from della_bench.scoring.code.answers import read_answers
from della_bench.scoring.code.bigcode import metrics, write_generations
from della_bench.scoring.code.problems import load_problems, problem_of
from della_bench.scoring.code.score import export_programs, score_code
from della_bench.scoring.code.verdicts import Answer, Settings, find_program
from della_bench.scoring.sandbox import Limits, Outcome
from tests.scoring.code.fake import use_fake_sandbox
from tests.scoring.code.small import HUMANEVAL, MBPP, write_data, write_rows

RIGHT = ["def add_one(x):\n    return x + 1", "def echo(x):\n    return x"]
WRONG = "def add_one(x):\n    return x"
COMPAT = Settings(compat=True)


@pytest.fixture(autouse=True)
def small(tmp_path, monkeypatch):
    folder = tmp_path / "data"
    folder.mkdir()
    write_data(folder)
    monkeypatch.setenv("DELLA_BENCH_DATA", str(folder))


def generations(tmp_path, value):
    path = tmp_path / "generations.json"
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def items(out, scorer="sandbox", benchmark="mbpp"):
    found = {item["doc_id"]: item for item in read_items(items_path(out, benchmark, scorer))}
    return [found[key] for key in sorted(found)]


def test_a_score_says_what_passed_and_how_it_was_run(tmp_path, monkeypatch):
    use_fake_sandbox(monkeypatch)
    score = score_code("mbpp", generations(tmp_path, [[RIGHT[0]], ["def echo(x):\n    return 1"]]), tmp_path)
    assert read_score(score_path(tmp_path, "mbpp", "sandbox")) == score
    assert (score["metric"], score["value"], score["n"], score["unscored"]) == ("pass@1", 50.0, 2, 0)
    assert score["interval"] == pytest.approx([100 * end for end in wilson(1, 2)])
    detail = score["detail"]
    assert detail["verdicts"] == {"passed": 1, "failed": 1}
    assert detail["extraction"] == {"mode": "auto", "rules": {"none": 2}}
    assert detail["sandbox"]["level"] == "bubblewrap"
    assert detail["sandbox"]["limits"]["cpu_seconds"] == 3.0
    assert detail["python"].count(".") == 2
    passed, failed = items(tmp_path)
    assert (passed["value"], passed["verdict"], passed["answer"]) == (1.0, "passed", RIGHT[0])
    assert (failed["value"], failed["verdict"]) == (0.0, "failed")


def test_setup_code_runs_without_compat_and_challenge_tests_never_do(tmp_path, monkeypatch):
    calls = use_fake_sandbox(monkeypatch)
    path = generations(tmp_path, [[code] for code in RIGHT])
    assert score_code("mbpp", path, tmp_path)["value"] == 100.0
    assert [program.setup for program in calls[0]["programs"]] == ["", "given = 5"]
    assert not any("== 3" in program.test_source for program in calls[0]["programs"])


def test_bigcodes_semantics_leave_out_setup_code_and_problems_without_candidates(tmp_path, monkeypatch, caplog):
    calls = use_fake_sandbox(monkeypatch)
    path = generations(tmp_path, [[], [RIGHT[1]]])
    score = score_code("mbpp", path, tmp_path, settings=COMPAT)
    assert calls[0]["in_one_namespace"] is True
    assert [program.setup for program in calls[0]["programs"]] == [""]
    assert calls[0]["limits"].cpu_seconds == 3.0
    assert (score["value"], score["n"]) == (0.0, 1)  # the test needs the setup code
    assert score["detail"]["left_out"] == ["1"]
    assert "1 of 2 problems have no candidates and are left out of the mean" in caplog.text
    assert score["detail"]["bigcode"]["mbpp"] == {"pass@1": 0.0}
    assert len(items(tmp_path, "bigcode")) == 1


def test_without_compat_an_empty_candidate_counts_as_failed(tmp_path, monkeypatch):
    use_fake_sandbox(monkeypatch)
    score = score_code("mbpp", generations(tmp_path, [[], [" \n"]]), tmp_path)
    assert (score["value"], score["n"], score["detail"]["verdicts"]) == (0.0, 2, {"empty": 2})
    assert [item["verdict"] for item in items(tmp_path)] == ["empty", "empty"]


def test_a_fault_of_the_sandbox_is_unscored_and_never_wrong(tmp_path, monkeypatch):
    use_fake_sandbox(monkeypatch, faults={"2"})
    score = score_code("mbpp", generations(tmp_path, [[RIGHT[0]], [RIGHT[1]]]), tmp_path)
    assert (score["value"], score["n"], score["unscored"]) == (100.0, 1, 1)
    assert items(tmp_path)[1]["value"] is None
    assert items(tmp_path)[1]["verdict"] == "sandbox"


def test_where_only_some_answers_of_a_problem_could_be_run_the_others_count(tmp_path, monkeypatch):
    use_fake_sandbox(monkeypatch)
    real: Callable[..., Any] = vars(verdicts)["run"]

    def flaky(programs, *args, progress, **options):
        def changed(index, outcome):
            progress(index, outcome if index else Outcome("sandbox", "the worker died"))

        return real(programs, *args, progress=changed, **options)

    monkeypatch.setattr(verdicts, "run", flaky)
    score = score_code("mbpp", generations(tmp_path, [[RIGHT[0], RIGHT[0], WRONG], [RIGHT[1]] * 3]), tmp_path)
    assert [item["value"] for item in items(tmp_path)] == [0.5, 1.0]
    assert (score["n"], score["unscored"], score["detail"]["verdicts"]["sandbox"]) == (2, 0, 1)


def test_several_answers_give_pass_at_k_in_percent(tmp_path, monkeypatch):
    use_fake_sandbox(monkeypatch)
    value = [[RIGHT[0]] + [WRONG] * 9, ["no"] * 10]
    score = score_code("mbpp", generations(tmp_path, value), tmp_path)
    assert score["value"] == pytest.approx(5.0)
    assert score["detail"]["pass@5"] == pytest.approx(25.0)
    assert score["detail"]["pass@10"] == pytest.approx(50.0)
    first, second = items(tmp_path)
    assert (first["value"], first["verdict"], first["explanation"]) == (0.1, "mixed", "1 of 10 answers passed")
    assert [answer["verdict"] for answer in first["answers"]] == ["passed"] + ["failed"] * 9
    assert second["verdict"] == "failed"


def test_rows_are_written_as_programs_end_and_the_score_last(tmp_path, monkeypatch):
    use_fake_sandbox(monkeypatch, backwards=True)
    path = generations(tmp_path, [[RIGHT[0]], [RIGHT[1]]])
    score_code("mbpp", path, tmp_path)
    rows = [item["doc_id"] for item in read_items(items_path(tmp_path, "mbpp", "sandbox"))]
    assert rows == [1, 0]

    def killed(programs, *_, progress, **__):
        progress(0, Outcome("passed"))
        raise KeyboardInterrupt

    monkeypatch.setattr(verdicts, "run", killed)
    with pytest.raises(KeyboardInterrupt):
        score_code("mbpp", path, tmp_path)
    assert [item["doc_id"] for item in items(tmp_path)] == [0]
    assert not score_path(tmp_path, "mbpp", "sandbox").exists()


def test_who_scores_into_items_that_another_is_writing_is_refused_and_spoils_nothing(tmp_path, monkeypatch):
    use_fake_sandbox(monkeypatch)
    path = generations(tmp_path, [[RIGHT[0]], [RIGHT[1]]])
    score = score_code("mbpp", path, tmp_path)
    before = items(tmp_path)
    with file_lock(items_path(tmp_path, "mbpp", "sandbox")) as mine:
        assert mine
        with pytest.raises(DataError, match="another process is scoring into it"):
            score_code("mbpp", path, tmp_path)
    assert items(tmp_path) == before
    assert read_score(score_path(tmp_path, "mbpp", "sandbox")) == score
    assert score_code("mbpp", path, tmp_path) == score


def test_no_level_of_isolation_is_an_error_before_anything_is_written(tmp_path, monkeypatch):
    def none_here(*, allow_unsafe):
        assert allow_unsafe is False
        raise SandboxError("no level of isolation works here")

    monkeypatch.setattr(score_module, "find_level", none_here)
    with pytest.raises(SandboxError, match="no level"):
        score_code("mbpp", generations(tmp_path, [["a"], ["b"]]), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_data_set_that_is_not_to_be_had_is_an_error_that_says_both_ways(tmp_path, monkeypatch):
    monkeypatch.setenv("DELLA_BENCH_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match=r"no data for mbpp[\s\S]*mbpp_test\.jsonl[\s\S]*hub"):
        score_code("mbpp", generations(tmp_path, [["a"]]), tmp_path)


def test_each_way_of_scoring_has_a_file_of_its_own(tmp_path, monkeypatch):
    use_fake_sandbox(monkeypatch)
    rows = [{"task_id": i + 1, "response": f"```python\n{code}\n```"} for i, code in enumerate(RIGHT)]
    path = write_rows(tmp_path / "rows.jsonl", rows)
    for chosen in (Settings(), Settings(extraction="authors"), COMPAT, Settings(extraction="authors", compat=True)):
        score_code("mbpp", path, tmp_path, settings=chosen)
    names = sorted(file.name for file in (tmp_path / "scores").glob("*.json"))
    assert names == [f"mbpp.{name}.json" for name in ("bigcode-authors", "bigcode", "sandbox-authors", "sandbox")]


def test_settings_reach_the_sandbox(tmp_path, monkeypatch):
    calls = use_fake_sandbox(monkeypatch)
    chosen = Settings(isolate=True, workers=3, limits=Limits(cpu_seconds=10))
    detail = score_code("mbpp", generations(tmp_path, [["a"], ["b"]]), tmp_path, settings=chosen)["detail"]
    assert {key: calls[0][key] for key in ("isolate", "workers")} == {"isolate": True, "workers": 3}
    assert detail["sandbox"]["isolate"] is True
    assert detail["sandbox"]["limits"]["wall_seconds"] == 100
    assert detail["sandbox"]["limits"]["idle_seconds"] == 10


def test_a_partial_file_scores_what_is_there_and_says_so(tmp_path, monkeypatch, caplog):
    use_fake_sandbox(monkeypatch)
    path = write_rows(tmp_path / "rows.jsonl", [{"task_id": 2, "program": RIGHT[1]}])
    score = score_code("mbpp", path, tmp_path)
    assert "no answer to 1 of 2 problems (task 1)" in caplog.text
    assert (score["value"], score["n"], score["detail"]["problems"]) == (100.0, 1, 2)


def test_unequal_numbers_of_answers_are_scored_and_said(tmp_path, monkeypatch, caplog):
    use_fake_sandbox(monkeypatch)
    rows = [{"task_id": 1, "program": code} for code in [RIGHT[0]] + [WRONG] * 4] + [
        {"task_id": 2, "program": RIGHT[1]}
    ]
    score = score_code("mbpp", write_rows(tmp_path / "rows.jsonl", rows), tmp_path)
    assert score["value"] == pytest.approx(60.0)
    assert score["detail"]["of_some"] == {"pass@5": {"value": 100.0, "problems": 1}}
    assert "problems have 1 to 5 answers" in score["detail"]["notes"][0]
    assert score["detail"]["notes"][0] in caplog.text


def test_the_authors_own_rows_have_fences_and_pass_without_being_told(tmp_path, monkeypatch, caplog):
    use_fake_sandbox(monkeypatch)
    rows = [{"task_id": i + 1, "completion": f"```python\n{code}\n```"} for i, code in enumerate(RIGHT)]
    path = write_rows(tmp_path / "rows.jsonl", rows)
    assert score_code("mbpp", path, tmp_path)["value"] == 100.0
    assert "2 of 2 completions hold fenced blocks" in caplog.text
    assert score_code("mbpp", path, tmp_path, settings=Settings(extraction="none"))["value"] == 0.0


def test_human_evals_completions_go_on_from_the_prompt(tmp_path, monkeypatch):
    use_fake_sandbox(monkeypatch)
    rows = [{"task_id": doc["task_id"], "completion": doc["canonical_solution"]} for doc in HUMANEVAL]
    score = score_code("humaneval", write_rows(tmp_path / "samples.jsonl", rows), tmp_path)
    assert score["value"] == 100.0
    assert items(tmp_path, benchmark="humaneval")[0]["answer"] == HUMANEVAL[0]["prompt"] + "    return x + 1\n"


@pytest.mark.parametrize(
    ("answer", "extraction", "program", "rule"),
    [
        (Answer("```\nx = 1\n```", "reply"), "auto", "x = 1", "fence"),
        (Answer("```\nx = 1\n```", "program"), "auto", "```\nx = 1\n```", "none"),
        (Answer("```\nx = 1\n```", "program"), "standard", "x = 1", "fence"),
        (Answer("```python\nx = 1\n```", "reply"), "authors", "x = 1", "authors"),
        (Answer("```\nx = 1\n```", "reply"), "none", "```\nx = 1\n```", "none"),
        (Answer("x\r\n\ty", "program"), "auto", "x\r\n\ty", "none"),
    ],
)
def test_extraction_is_done_to_replies_unless_said_otherwise(answer, extraction, program, rule):
    found = find_program(problem_of("mbpp", 0, MBPP[0]), answer, extraction)
    assert (found.program, found.rule) == (program, rule)


def test_a_program_with_a_future_import_stands_for_itself():
    problem = problem_of("humaneval", 0, HUMANEVAL[0])
    code = "from __future__ import annotations\n\ndef add_one(x: Any):\n    return x + 1"
    assert find_program(problem, Answer(code, "reply")).program == code
    assert find_program(problem, Answer("", "completion")).program == ""


@pytest.mark.parametrize("benchmark", ["mbpp", "humaneval"])
def test_document_hashes_are_those_that_lm_eval_logs(benchmark):
    for problem, doc in zip(load_problems(benchmark), data.load(benchmark), strict=True):
        logged = json.dumps(doc, indent=2, default=handle_non_serializable, ensure_ascii=False)
        assert problem.doc_hash == hash_string(logged)


@given(st.lists(st.lists(st.text(), max_size=3), min_size=2, max_size=2).filter(any))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_exported_is_imported_unchanged(tmp_path, value):
    value = [[verdicts.clean(text) for text in group] for group in value]
    path = tmp_path / "generations.json"
    write_generations(path, value)
    assert json.loads(path.read_text(encoding="utf-8")) == value
    found = read_answers(path, "mbpp", load_problems("mbpp"))
    assert [[answer.text for answer in group or ()] for group in found.of_problem] == value


def test_an_export_holds_the_programs_that_are_run_in_the_data_sets_order(tmp_path, monkeypatch):
    rows = [{"task_id": 2, "response": f"Sure:\n```python\n{RIGHT[1]}\n```"}, {"task_id": 1, "program": RIGHT[0]}]
    path, exported = write_rows(tmp_path / "rows.jsonl", rows), tmp_path / "generations.json"
    assert export_programs("mbpp", path, exported) == 2
    assert json.loads(exported.read_text()) == [[RIGHT[0]], [RIGHT[1]]]
    use_fake_sandbox(monkeypatch)
    both = [score_code("mbpp", file, tmp_path) for file in (path, exported)]
    assert both[0]["value"] == both[1]["value"] == 100.0
    rows = [{"task_id": "HumanEval/1", "completion": "    return x - 1\n"}]
    path = write_rows(tmp_path / "samples.jsonl", rows)
    assert export_programs("humaneval", path, exported) == 1
    assert json.loads(exported.read_text()) == [[], [HUMANEVAL[1]["prompt"] + "    return x - 1\n"]]


def test_bigcodes_metric_file_has_each_k_that_every_problem_allows():
    found = metrics("mbpp", [(10, 1), (10, 0), (0, 0)], {"tasks": "mbpp"})
    assert found == {"mbpp": {"pass@1": 0.05, "pass@10": 0.5}, "config": {"tasks": "mbpp"}}
    assert metrics("mbpp", [(10, 1), (1, 0)], {})["mbpp"] == {"pass@1": 0.05}
    assert metrics("mbpp", [(0, 0)], {})["mbpp"] == {}

"""Reading answers: each format, and each way in which a file can be wrong."""

from __future__ import annotations

import gzip
import json
import re
from dataclasses import replace
from typing import Any

import pytest

from della_bench.errors import DataError
from della_bench.scoring.code.answers import partial_run, read_answers
from della_bench.scoring.code.problems import problem_of
from tests.scoring.code.small import HUMANEVAL, MBPP, write_rows

PROBLEMS = [problem_of("mbpp", index, doc) for index, doc in enumerate(MBPP)]
HUMAN = [problem_of("humaneval", index, doc) for index, doc in enumerate(HUMANEVAL)]


def sample(index, *texts, **other):
    row = {"doc_id": index, "doc": MBPP[index], "target": "", "resps": [list(texts)], "filtered_resps": [list(texts)]}
    return {**row, "filter": "sandbox", "doc_hash": "", **other}


def texts(found):
    return [None if group is None else [(answer.text, answer.form) for answer in group] for group in found.of_problem]


def fails(path, *, problems=PROBLEMS, benchmark="mbpp", error=DataError, **options):
    with pytest.raises(error) as caught:
        read_answers(path, benchmark, problems, **options)
    assert caught.value.exit_code == 2
    assert " --" not in str(caught.value).replace("--filter", "")  # the command line alone speaks of options
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_lm_eval_samples_are_read_by_task_whatever_their_order(tmp_path):
    path = write_rows(tmp_path / "samples.jsonl", [sample(1, "b1", "b2"), sample(0, "a1", "a2")])
    found = read_answers(path, "mbpp", PROBLEMS)
    assert (found.format, found.filter) == ("lm-eval", "sandbox")
    assert texts(found) == [[("a1", "reply"), ("a2", "reply")], [("b1", "reply"), ("b2", "reply")]]


def test_lm_evals_old_array_is_read_too(tmp_path):
    path = tmp_path / "samples.json"
    path.write_text(json.dumps([sample(0, "a"), sample(1, "b")]), encoding="utf-8")
    assert texts(read_answers(path, "mbpp", PROBLEMS)) == [[("a", "reply")], [("b", "reply")]]


def test_samples_of_another_task_with_other_document_ids_are_read_by_task_id(tmp_path):
    path = write_rows(tmp_path / "samples.jsonl", [sample(0, "a", doc_id=7), sample(1, "b", doc_id=3)])
    assert texts(read_answers(path, "mbpp", PROBLEMS)) == [[("a", "reply")], [("b", "reply")]]


def test_generations_are_programs_in_the_data_sets_order(tmp_path):
    path = tmp_path / "generations.json"
    path.write_text('\n [["a", "b"], []]', encoding="utf-8")
    found = read_answers(path, "mbpp", PROBLEMS)
    assert (found.format, texts(found)) == ("bigcode", [[("a", "program"), ("b", "program")], []])


def test_rows_say_by_their_key_what_they_hold(tmp_path):
    rows: list[dict[str, Any]] = [{"task_id": 2, "program": "p"}, {"task_id": "1", "response": "r", "note": "ignored"}]
    found = read_answers(write_rows(tmp_path / "rows.jsonl", rows), "mbpp", PROBLEMS)
    assert (found.format, texts(found)) == ("rows", [[("r", "reply")], [("p", "program")]])


@pytest.mark.parametrize("name", ["samples.jsonl", "samples.jsonl.gz"])
def test_human_evals_samples_are_completions_and_may_be_several_a_task(tmp_path, name):
    rows = [{"task_id": f"HumanEval/{i % 2}", "completion": str(i)} for i in range(4)]
    text = "".join(json.dumps(row) + "\n" for row in rows).encode()
    (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith("gz") else text)
    found = read_answers(tmp_path / name, "humaneval", HUMAN)
    assert texts(found) == [[("0", "completion"), ("2", "completion")], [("1", "completion"), ("3", "completion")]]


def test_half_of_a_surrogate_pair_becomes_the_replacement_character(tmp_path):
    path = tmp_path / "generations.json"
    path.write_text('[["\\ud800 \\ud83d\\ude00"], ["b"]]', encoding="utf-8")
    assert texts(read_answers(path, "mbpp", PROBLEMS))[0] == [
        ("\N{REPLACEMENT CHARACTER} \N{GRINNING FACE}", "program")
    ]


def test_missing_problems_make_a_partial_run(tmp_path):
    path = write_rows(tmp_path / "samples.jsonl", [sample(1, "b")])
    found = read_answers(path, "mbpp", PROBLEMS)
    assert texts(found) == [None, [("b", "reply")]]
    assert "a partial run: no answer to 1 of 2 problems (task 1)" in (partial_run(path, PROBLEMS, found) or "")


def test_a_whole_run_is_not_called_partial(tmp_path):
    path = write_rows(tmp_path / "samples.jsonl", [sample(1, "b"), sample(0, "a")])
    assert partial_run(path, PROBLEMS, read_answers(path, "mbpp", PROBLEMS)) is None


def test_a_limit_takes_the_first_problems_that_have_an_answer(tmp_path):
    path = write_rows(tmp_path / "samples.jsonl", [sample(1, "b"), sample(0, "a")])
    assert texts(read_answers(path, "mbpp", PROBLEMS, limit=1)) == [[("a", "reply")], None]
    path = write_rows(tmp_path / "second.jsonl", [sample(1, "b")])
    assert texts(read_answers(path, "mbpp", PROBLEMS, limit=1)) == [None, [("b", "reply")]]


def test_too_few_generations_are_of_the_first_problems(tmp_path):
    path = tmp_path / "generations.json"
    path.write_text('[["a"]]', encoding="utf-8")
    assert texts(read_answers(path, "mbpp", PROBLEMS)) == [[("a", "program")], None]


def test_too_many_generations_are_an_error(tmp_path):
    path = tmp_path / "generations.json"
    path.write_text('[["a"], ["b"], ["c"]]', encoding="utf-8")
    assert "3 entries for 2 problems" in fails(path)


def test_a_document_that_stands_twice_is_named_with_both_lines(tmp_path):
    path = write_rows(tmp_path / "a.jsonl", [sample(0, "a"), sample(1, "b"), sample(0, "a")])
    assert re.search(r"line 3: doc_id 0, .* line 1 already", fails(path))
    path = write_rows(tmp_path / "b.jsonl", [sample(0, "a"), sample(1, "b"), sample(0, "a", doc_id=9)])
    assert re.search(r"line 3: task 1 stood in line 1 already", fails(path))


def test_problems_may_have_unequal_numbers_of_answers(tmp_path):
    rows = [{"task_id": 1, "program": "a"}, {"task_id": 2, "program": "b"}, {"task_id": 1, "program": "a"}]
    found = read_answers(write_rows(tmp_path / "rows.jsonl", rows), "mbpp", PROBLEMS)
    assert texts(found) == [[("a", "program"), ("a", "program")], [("b", "program")]]


def test_evalplus_ids_and_its_solutions_are_programs(tmp_path):
    rows = [{"task_id": "Mbpp/2", "solution": "b"}, {"task_id": "Mbpp/1", "solution": "a", "_identifier": "x"}]
    found = read_answers(write_rows(tmp_path / "rows.jsonl", rows), "mbpp", PROBLEMS)
    assert texts(found) == [[("a", "program")], [("b", "program")]]
    rows = [{"task_id": f"HumanEval/{number}", "solution": str(number)} for number in range(2)]
    found = read_answers(write_rows(tmp_path / "human.jsonl", rows), "humaneval", HUMAN)
    assert texts(found) == [[("0", "program")], [("1", "program")]]


FENCED = "```python\ndef add_one(x):\n    return x + 1\n```"


def test_completions_that_hold_fences_are_replies(tmp_path):
    rows = [{"task_id": 1, "completion": FENCED}, {"task_id": 2, "completion": "def echo(x):\n    return x"}]
    found = read_answers(write_rows(tmp_path / "some.jsonl", rows), "mbpp", PROBLEMS)
    assert [group and group[0].form for group in found.of_problem] == ["reply", "completion"]
    assert found.notes == (
        "1 of 2 completions hold fenced blocks and are no code as they stand: these are read as a model's replies, "
        "the others as code",
    )
    rows = [*rows, {"task_id": 1, "completion": f"Sure:\n{FENCED}"}]
    found = read_answers(write_rows(tmp_path / "most.jsonl", rows), "mbpp", PROBLEMS)
    assert [answer.form for group in found.of_problem for answer in group or ()] == ["reply"] * 3
    assert "2 of 3 completions" in found.notes[0]


def test_a_completion_with_a_fence_in_its_docstring_is_code(tmp_path):
    body = '    """Add.\n\n```\nadd_one(1)\n```\n"""\n    return x + 1'
    rows = [{"task_id": f"HumanEval/{number}", "completion": body} for number in range(2)]
    found = read_answers(write_rows(tmp_path / "rows.jsonl", rows), "humaneval", HUMAN)
    assert (texts(found), found.notes) == ([[(body, "completion")]] * 2, ())


def test_mostly_empty_lists_are_a_partial_run(tmp_path):
    path = tmp_path / "generations.json"
    problems = [replace(PROBLEMS[0], key=str(number), doc_id=number) for number in range(5)]
    path.write_text('[["a"], ["b"], [], [], []]', encoding="utf-8")
    found = read_answers(path, "mbpp", problems)
    assert [group is None for group in found.of_problem] == [False, False, True, True, True]
    path.write_text('[["a"], ["b"], [], ["d"], []]', encoding="utf-8")
    assert read_answers(path, "mbpp", problems).of_problem[2] == []
    path.write_text("[[], [], [], [], []]", encoding="utf-8")
    assert "no answers" in fails(path, problems=problems)


@pytest.mark.parametrize("task_id", [3, "HumanEval/0", True, 1.0, [1], "01", "Mbpp/3", "Mbpp/01", "Mbpp/"])
def test_a_task_that_the_data_set_lacks_is_named(tmp_path, task_id):
    path = write_rows(tmp_path / "rows.jsonl", [{"task_id": 1, "program": "a"}, {"task_id": task_id, "program": "b"}])
    assert f"line 2: mbpp has no task {task_id!r} (it has 1 to 2)" in fails(path)


def test_samples_of_another_benchmark_or_data_set_are_refused(tmp_path):
    other = write_rows(tmp_path / "a.jsonl", [sample(0, "a", doc={"question": "?"})])
    assert "line 1: no task_id: not an answer to mbpp" in fails(other)
    changed = write_rows(tmp_path / "b.jsonl", [sample(0, "a", doc={**MBPP[0], "test_list": ["assert True"]})])
    assert "line 1: task 1: test_list is not what the data set has" in fails(changed)


def test_filters_that_differ_must_be_chosen_by_name(tmp_path):
    rows = [sample(i, text, filter=name) for name, text in (("x", "a"), ("y", "b")) for i in range(2)]
    path = write_rows(tmp_path / "samples.jsonl", rows)
    assert "filters 'x' and 'y' hold different documents or responses: choose one" in fails(path)
    assert texts(read_answers(path, "mbpp", PROBLEMS, filter_name="y")) == [[("b", "reply")]] * 2
    assert "no rows of filter 'z' (it has: 'x', 'y')" in fails(path, filter_name="z")


def test_filters_over_the_same_responses_are_one(tmp_path):
    rows = [sample(i, "a", filter=name) for name in ("x", "y") for i in range(2)]
    assert texts(read_answers(write_rows(tmp_path / "s.jsonl", rows), "mbpp", PROBLEMS)) == [[("a", "reply")]] * 2


def test_a_filter_is_refused_where_there_are_none(tmp_path):
    path = tmp_path / "generations.json"
    path.write_text('[["a"], ["b"]]', encoding="utf-8")
    assert "only lm-eval samples have filters" in fails(path, filter_name="x")


def test_malformed_json_is_named_with_line_and_column(tmp_path):
    path = write_rows(tmp_path / "samples.jsonl", [sample(0, "a")])
    with path.open("a", encoding="utf-8") as file:
        file.write('{"doc_id": 1, "doc": oops}\n')
    assert "line 2, column 22: not JSON" in fails(path)
    generations = tmp_path / "generations.json"
    generations.write_text('[["a"],\n ["b" "c"]]', encoding="utf-8")
    assert "line 2, column 7: not JSON" in fails(generations)


def test_what_is_not_utf8_is_named_with_line_and_byte(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"task_id": 1, "program": "a"}\n{"task_id": 2, "program": "\xff"}\n')
    assert "line 2, byte 28: not UTF-8 (byte 0xff)" in fails(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no rows"),
        ("\n \n", "no rows"),
        ("[]", "an empty list"),
        ('[["a"], "b"]', "entry 2: expected a list of programs, got str"),
        ('[["a"], null]', "entry 2: expected a list of programs, got null"),
        ('[["a"], ["b", 3]]', "entry 2, candidate 2: expected a program's text, got int"),
        ('[["a"], [null]]', "entry 2, candidate 1: expected a program's text, got null"),
        ('["a", "b"]', "entry 1: expected a list of programs, got str"),
        ("3", "expected a JSON object, got int"),
        ('{"a": 1}', "the first row has 'a'"),
        ('{"task_id": 1}', "line 1: task 1: expected one of completion, solution, program, response, got none"),
        ('{"task_id": 1, "program": "a", "response": "b"}', "got program, response"),
        ('{"task_id": 1, "program": null}', "line 1: task 1: program must be a text, got null"),
        ('{"task_id": 1, "program": "a"}\n{"program": "b"}', "line 2: no 'task_id'"),
        ('{"doc_id": 0, "doc": {}, "resps": []}', "resps hold no generated text"),
    ],
)
def test_rows_of_no_known_form_are_named(tmp_path, text, message):
    path = tmp_path / "file.json"
    path.write_text(text, encoding="utf-8")
    assert message in fails(path)


def test_a_file_that_is_not_there_is_named(tmp_path):
    assert "No such file" in fails(tmp_path / "nothing.jsonl")


def test_a_broken_archive_is_named(tmp_path):
    path = tmp_path / "samples.jsonl.gz"
    path.write_bytes(b"no gzip")
    assert "cannot be read" in fails(path)

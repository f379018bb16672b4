"""`della-bench search` on the command line, in this process and without a model."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from della_bench.cli import main
from tests.search.conftest import searched, worker  # noqa: F401

SPACE = "base=zoo:base,experts=zoo:math+zoo:code,merge_method=task_arithmetic|ties,density=0.2..0.9,lambda=0.4..1.6"
FEW = ["--benchmarks", "zoo_math,zoo_code", "--trials", "3"]


def call(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main(["search", *map(str, arguments)])
    return ended.value.code, capsys.readouterr()


def test_a_plan_is_shown_and_nothing_is_written(capsys, tmp_path):
    code, shown = call(capsys, SPACE, *FEW, "-o", tmp_path / "out", "--dry-run")
    assert code == 0
    for told in ("0.4 to 1.6", "unlimited", "40 of", "24 of", "200 of zoo_code", "about $0.00"):
        assert told in " ".join(shown.out.split())
    assert not (tmp_path / "out").exists()


def test_a_search_ends_with_a_spec_to_paste_and_is_shown_afterwards(capsys, worker, tmp_path):  # noqa: F811
    code, shown = call(capsys, SPACE, *FEW, "-o", tmp_path / "out")
    assert code == 0
    spec = shown.out.splitlines()[-1]
    assert spec.startswith("base=zoo:base,experts=")
    assert "[3/3] #2, search" in shown.err
    assert (tmp_path / "out" / "search.html").is_file()
    code, shown = call(capsys, "--show", tmp_path / "out")
    assert code == 0
    assert "3 candidates" in shown.out
    assert f"; {spec}" in shown.out


def test_in_80_columns_numbers_are_whole_and_each_candidate_takes_one_line(capsys, worker, monkeypatch, tmp_path):  # noqa: F811
    monkeypatch.setenv("COLUMNS", "80")
    space = SPACE.replace("task_arithmetic|ties", "dare_ties|ties") + ",weights=0.2..1.2"
    code, shown = call(capsys, space, *FEW, "-o", tmp_path / "out")
    assert code == 0
    lines = shown.out.splitlines()
    table = lines[next(n for n, line in enumerate(lines) if "candidate" in line and "test items" in line) :]
    for whole in ("search - test", "the best expert", "the runner-up"):
        assert whole in "\n".join(table)
    assert all(line.count("[") == line.count("]") for line in table)
    code, shown = call(capsys, "--show", tmp_path / "out")
    assert code == 0
    lines = shown.out.splitlines()
    first = next(n for n, line in enumerate(lines) if line.strip().startswith("──")) + 1
    assert [line.split()[0] for line in lines[first : first + 5]] == ["code", "math", "#0", "#1", "#2"]


def test_a_plan_is_refused_with_all_sources_that_are_not_there(capsys, tmp_path):
    space = SPACE.replace("zoo:math+zoo:code", f"{tmp_path}/one+{tmp_path}/two")
    code, shown = call(capsys, space, *FEW, "--out", tmp_path / "out", "--dry-run")
    assert code == 2
    for name in ("one", "two"):
        assert shown.err.count(f"{tmp_path}/{name}: no such folder") == 1


def test_a_search_wants_a_space_and_a_folder(capsys):
    code, shown = call(capsys)
    assert code == 2
    assert "SPACE is missing: a YAML file" in shown.err
    assert "--out is missing" in shown.err


@pytest.mark.usefixtures("indexed_once")
def test_everything_that_is_wrong_is_told_in_one_message(capsys, tmp_path):
    space = "base=zoo:base,experts=zoo:math,merge_method=tis,density=0.9..0.1,foo=1"
    wrong = ["--benchmarks", "zoo_mth", "--sampler", "tpee", "--time", "0", "--trials", "0", "--engine", "hff"]
    wrong += ["--max-cost", "-1", "--storage", "foo", "--warm-start", tmp_path / "no", "--html", tmp_path]
    code, shown = call(capsys, space, *wrong, "-o", tmp_path / "out")
    assert code == 2
    for told in (
        "did you mean 'ties'",
        "upside down",
        "foo: unknown key",
        "zoo_mth",
        "'tpe'",
        "zero",
        "trials",
        "'hf'",
        "--max-cost -1",
        "foo: cannot be reached",
        "there is no folder",
        "is a folder",
    ):
        assert told in shown.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("space", [" ", ",,,"])
def test_a_space_without_keys_is_told(capsys, tmp_path, space):
    code, shown = call(capsys, space, "--benchmarks", "zoo_math", "-o", tmp_path / "out")
    assert code == 2
    for told in ("base: missing", "experts: missing", "nothing to search"):
        assert told in shown.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "benchmarks", ["3", "true", "[1]", "[[zoo_math]]", "[zoo_math, null]", "2024-01-01", "',,'", "['']"]
)
def test_benchmarks_that_are_no_names_are_told(capsys, tmp_path, benchmarks):
    (tmp_path / "space.yaml").write_text(
        "base: zoo:base\nexperts: [zoo:math]\nmerge_method: ties\ndensity: {low: 0.2, high: 0.9}\n"
        f"search: {{benchmarks: {benchmarks}, trials: 0}}\n"
    )
    code, shown = call(capsys, tmp_path / "space.yaml", "-o", tmp_path / "out")
    assert code == 2
    assert "a list of benchmarks" in shown.err
    assert "search.trials=0" in shown.err


@pytest.mark.usefixtures("indexed_once")
@pytest.mark.parametrize("benchmarks", ["zoo_math", "zoo_mth"])
def test_a_plan_is_refused_where_the_items_cannot_be_asked_in_this_way(capsys, tmp_path, benchmarks):
    wrong = ["--gen-kwargs", "max_gen_tok=3,top_p=2", "--apply-chat-template", "--seed", "x", "--max-batch-size", "4"]
    wrong += ["--metadata", "a=1,a=2", "--fewshot-as-multiturn", "perhaps"]
    code, shown = call(capsys, SPACE, "--benchmarks", benchmarks, *wrong, "-o", tmp_path / "out", "--dry-run")
    assert code == 2
    for part in (
        "gen_kwargs: max_gen_tok: no generation argument; did you mean 'max_gen_toks'",
        "gen_kwargs: top_p=2: a number above 0, up to 1",
        "apply_chat_template: the tokenizer of zoo:base has no chat template",
        "seed=['x']: one whole number, or four",
        "--max-batch-size 4: needs --batch-size auto, and that is 8",
        "--metadata: a: given twice",
        "fewshot_as_multiturn=perhaps: true or false",
    ):
        assert part in shown.err


@pytest.mark.usefixtures("indexed_once")
def test_a_search_takes_lm_evals_settings_as_a_run_does_but_those_that_choose_documents(capsys, tmp_path, monkeypatch):
    plans: list[Any] = []
    monkeypatch.setattr("della_bench.cli.search_show.show_plan", plans.append)
    given = ["--seed", "7", "--metadata", "a=1", "--batch-size", "auto", "--max-batch-size", "4", "--num-fewshot", "0"]
    given += ["--system-instruction", "Be brief.", "--gen-kwargs", "max_gen_toks=5"]
    code, _ = call(capsys, SPACE, "--benchmarks", "zoo_math", *given, "-o", tmp_path / "out", "--dry-run")
    assert code == 0
    (plan,) = plans
    asked = plan.options.settings
    assert (asked.seed, asked.metadata, asked.system_instruction) == ((7, 7, 7, 7), {"a": 1}, "Be brief.")
    assert asked.gen_kwargs == {"max_gen_toks": 5}
    assert (plan.options.arguments["batch_size"], plan.options.arguments["max_batch_size"]) == ("auto", 4)
    # With other settings it would be another search.
    assert plan.definition["search"]["asked"]["zoo_math"] == {
        "gen_kwargs": {"max_gen_toks": 5},
        "system_instruction": "Be brief.",
        "metadata": {"a": 1},
        "seed": [7, 7, 7, 7],
    }


@pytest.mark.usefixtures("indexed_once")
def test_a_cluster_that_does_not_answer_is_told_with_everything_else(capsys, tmp_path):
    pytest.importorskip("ray", reason="Ray is not installed")
    wrong = ["--benchmarks", "zoo_mth", "--sampler", "tpee", "--ray", "nowhere", "--device", "cuda:1"]
    wrong += ["--max-batch-size", "4"]  # which hides nothing of the device
    code, shown = call(capsys, SPACE, *wrong, "-o", tmp_path / "out")
    assert code == 2
    for told in ("zoo_mth", "'tpe'", "nowhere: an address is host:port", "a worker sees its own GPUs alone"):
        assert told in shown.err
    assert not (tmp_path / "out").exists()


def test_a_search_of_a_cluster_that_has_gone_leaves_nothing_behind(capsys, tmp_path):
    pytest.importorskip("ray", reason="Ray is not installed")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    code, shown = call(capsys, SPACE, *FEW, "--ray", f"127.0.0.1:{port}", "-o", tmp_path / "out")
    assert code == 2
    assert f"no Ray answers at 127.0.0.1:{port}" in shown.err
    assert not (tmp_path / "out").exists()


def test_another_search_is_refused_and_with_force_new_starts_beside_it(capsys, worker, tmp_path):  # noqa: F811
    call(capsys, SPACE, *FEW, "-o", tmp_path / "out")
    other = [SPACE.replace("0.2..0.9", "0.3..0.9"), *FEW, "-o", tmp_path / "out"]
    code, shown = call(capsys, *other)
    assert code == 2
    assert "density.low: 0.2 there, 0.3 asked for" in shown.err
    code, _ = call(capsys, *other, "--force-new")
    assert code == 0
    assert (tmp_path / "out-2" / "winner.yaml").is_file()


def test_beside_a_folder_that_is_named_by_a_dot_is_beside_it_too(capsys, worker, monkeypatch, tmp_path):  # noqa: F811
    call(capsys, SPACE, *FEW, "-o", tmp_path / "out")
    monkeypatch.chdir(tmp_path / "out")
    code, _ = call(capsys, SPACE.replace("0.2..0.9", "0.3..0.9"), *FEW, "-o", ".", "--force-new")
    assert code == 0
    assert (tmp_path / "out-2" / "winner.yaml").is_file()


@pytest.mark.parametrize("text", ["", "- 1", "search: 3", "base: zoo:base\nsearch: {benchmarks: [zoo_math]}"])
def test_a_space_of_the_users_own_in_the_folder_is_no_search_and_is_left_alone(capsys, worker, tmp_path, text):  # noqa: F811
    (tmp_path / "space.yaml").write_text(text)
    code, shown = call(capsys, SPACE, *FEW, "-o", tmp_path)
    assert code == 2
    assert "space.yaml: no search wrote it" in shown.err
    code, shown = call(capsys, "--show", tmp_path)
    assert code == 2
    assert "holds no search" in shown.err
    assert (tmp_path / "space.yaml").read_text() == text


def test_ctrl_c_says_how_to_go_on(capsys, worker, monkeypatch, tmp_path):  # noqa: F811
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(worker, "answer", stopped)
    code, shown = call(capsys, SPACE, *FEW, "-o", tmp_path / "out")
    assert code == 130
    assert "the same command goes on" in shown.err

from __future__ import annotations

import pytest
import yaml

from della_bench.cli import main
from tests.run.tasks import write_task

TIES = "base=zoo:base,experts=zoo:math+zoo:code,merge_method=ties,density=0.5"


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """The command sets these, for its whole process."""
    for name in ("TQDM_DISABLE", "TOKENIZERS_PARALLELISM"):
        monkeypatch.setenv(name, "1")


def end(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main(["run", *map(str, arguments)])
    return ended.value.code, capsys.readouterr()


def test_a_dry_run_prints_every_step_and_writes_nothing(tmp_path, capsys):
    code, text = end(
        capsys, TIES, "--benchmarks", "gsm8k", "--with-base", "--with-experts", "--dry-run", "-o", tmp_path / "runs"
    )
    assert code == 0
    for name in ("base", "math", "code", "ties-density0.5"):
        assert name in text.out
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("dry", [["--dry-run"], []])
def test_all_sources_that_are_not_there_are_told_before_anything_is_done(tmp_path, capsys, dry):
    spec = f"base={tmp_path}/b,experts=zoo:math+{tmp_path}/nope,merge_method=linear"
    code, text = end(capsys, spec, "--benchmarks", "zoo_math", "-o", tmp_path / "runs", *dry)
    assert code == 2
    for name in ("b", "nope"):
        assert text.err.count(f"{tmp_path}/{name}: no such folder") == 1
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        ([TIES.replace("ties", "tis"), "--benchmarks", "gsm8k"], "did you mean 'ties'"),
        ([TIES, "--benchmarks", "mbpp"], "--confirm-run-unsafe-code"),
        ([TIES, "--benchmarks", "gsm8k", "--engine", "vlm"], "did you mean 'vllm'"),
        ([TIES, "--benchmarks", "gsm8k", "--model-args", "density=0.4"], "belongs to the spec"),
        ([TIES, "--benchmarks", "gsm8k", "--model-args", "max_length=9,max_length=8"], "given twice"),
    ],
)
def test_a_mistake_is_told_before_anything_is_loaded_or_written(tmp_path, capsys, arguments, fault):
    code, text = end(capsys, *arguments, "--out", tmp_path / "runs")
    assert code == 2
    assert fault in text.err
    assert not (tmp_path / "runs").exists()


def test_a_plan_without_the_data_set_says_that_the_cost_is_unknown(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("DELLA_BENCH_DATA", str(tmp_path))
    code, text = end(
        capsys, TIES, "--benchmarks", "gsm8k", "--judge", "gsm8k_gpt4", "--dry-run", "-o", tmp_path / "runs"
    )
    assert code == 0
    assert "and 1 of unknown price" in text.out


@pytest.mark.usefixtures("indexed_once")
def test_tasks_that_cannot_be_built_are_told_together_and_nothing_is_written(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("DELLA_BENCH_DATA", str(tmp_path))
    write_task(tmp_path / "mine.yaml", doc_to_text="{{no_such_field}}")
    code, text = end(capsys, TIES, "--benchmarks", "gsm8k,mine", "--include-path", tmp_path, "-o", tmp_path / "runs")
    assert code == 2
    assert "gsm8k: no data for gsm8k" in text.err
    assert "mine: task mine cannot be built" in text.err
    assert not (tmp_path / "runs").exists()


def test_an_error_names_the_option_that_is_at_fault(tmp_path, capsys):
    code, text = end(capsys, TIES, "--benchmarks", "zoo_math", "--include-path", tmp_path / "absent")
    assert code == 2
    assert text.err.startswith("della_bench: error: --include-path: there is no folder")


def test_a_tasks_file_is_evaluated_by_its_own_metric(tmp_path, capsys):
    path = write_task(tmp_path / "mine.yaml")
    code, text = end(capsys, TIES, "--benchmarks", path, "--device", "cpu", "-o", tmp_path / "runs")
    assert code == 0
    assert "mine (lm_eval)" in text.out


@pytest.fixture
def sums(tmp_path):
    return write_task(tmp_path / "sums.yaml", num_fewshot=None, fewshot_split="test")


def results(folder):
    return sorted(path.name for path in folder.glob("*/results_*.json"))


def test_the_same_run_through_a_file_and_through_options_gives_the_same_folders(tmp_path, capsys, sums):
    settings = {
        "num_fewshot": 1,
        "gen_kwargs": {"max_gen_toks": 3, "until": ["\n", ","]},
        "system_instruction": "Be brief.",
        "seed": [1, 2, None, 4],
        "samples": {"sums": [3, 0]},
    }
    options = [
        "--num-fewshot",
        "1",
        "--gen-kwargs",
        "max_gen_toks=3,until=['\\n', ',']",
        "--samples",
        '{"sums": [0, 3]}',
    ]
    options += ["--system-instruction", "Be brief.", "--seed", "1,2,None,4"]
    out = tmp_path / "runs"
    assert end(capsys, TIES, "--benchmarks", sums, *options, "--device", "cpu", "-o", out)[0] == 0
    before = results(out)
    for value in (
        {"benchmarks": [str(sums)], **settings},
        {"benchmarks": [{str(sums): settings}]},  # as its own
        {"benchmarks": [{str(sums): {**settings, "seed": 7}}], "seed": 8},  # the command line wins
    ):
        config = tmp_path / "config.yaml"
        config.write_text(yaml.safe_dump({**value, "device": "cpu", "out": str(out)}))
        code, text = end(capsys, TIES, "--config", config, "--seed", "1,2,None,4")
        assert code == 0
        assert "known already" in text.err
        assert results(out) == before


def test_the_command_line_wins_over_a_file(tmp_path, capsys, sums):
    config = tmp_path / "config.yaml"
    own = {"samples": [0], "num_fewshot": 1}
    config.write_text(
        yaml.safe_dump({"benchmarks": [{"zoo_math": own}], "limit": 3, "num_fewshot": 2, "batch_size": 1})
    )
    code, text = end(
        capsys,
        TIES,
        "--config",
        config,
        "--benchmarks",
        sums,
        "--samples",
        '{"sums": [1]}',
        "--dry-run",
        "-o",
        tmp_path,
    )
    assert code == 0
    assert 'sums: num_fewshot=2, samples={"sums": [1]}' in text.out
    assert "zoo_math" not in text.out


def test_a_dry_run_shows_the_settings_and_the_first_prompt_of_each_benchmark(tmp_path, capsys, sums):
    choice = write_task(
        tmp_path / "choice.yaml", output_type="multiple_choice", doc_to_choice=["1", "2"], doc_to_target=0
    )
    code, text = end(
        capsys, TIES, "--benchmarks", f"{sums},{choice}", "--num-fewshot", "1", "--limit", "0.5", "--dry-run"
    )
    assert code == 0
    assert "sums: num_fewshot=1, limit=0.5" in text.out
    assert "first prompt of ties-density0.5:" in text.out
    assert "  | 0 + 1\n" in text.out
    assert "  | ->  2\n" in text.out


@pytest.mark.usefixtures("indexed_once")
def test_all_faults_of_settings_names_specs_and_a_file_are_told_at_once(tmp_path, capsys):
    config = tmp_path / "config.yaml"
    config.write_text("num_fewshots: 3")
    code, text = end(
        capsys,
        TIES.replace("ties", "tis"),
        *("--config", config, "--benchmarks", "zoo_maths", "--limit", "2.5", "--seed", "1,x", "--engine", "vlm"),
        *("--gen-kwargs", "a=1,a=2", "--max-batch-size", "4", "--samples", "none.json", "--out", tmp_path / "runs"),
        *("--max-cost", "-1", "--max-cost-each", "free"),
    )
    assert code == 2
    for part in (
        "did you mean 'ties'",
        "config.yaml: num_fewshots: neither lm-eval nor",
        "zoo_maths is neither a benchmark nor a task or group of lm-eval; did you mean 'zoo_math'",
        "limit=2.5: a number of documents from 1 on",
        "seed=[1, 'x']: one whole number, or four",
        "did you mean 'vllm'",
        "--gen-kwargs: a: given twice",
        "--max-batch-size 4: needs --batch-size auto",
        "--samples: none.json: no JSON object, and no file",
        "--max-cost -1: US dollars",
        "--max-cost-each free: US dollars",
    ):
        assert part in text.err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("words", [["--apply-chat-template"], ["--apply-chat-template", "--limit", "3"]])
def test_a_template_needs_no_name(tmp_path, capsys, words):
    spec = f"{TIES},chat_template=chatml"
    for order in ([*words, spec], [spec, *words]):
        code, text = end(capsys, "--benchmarks", "zoo_math", "--dry-run", "-o", tmp_path, *order)
        assert code == 0
        assert "apply_chat_template=true" in text.out


def test_a_dry_run_tells_all_that_is_wrong_with_the_settings(tmp_path, capsys, sums):
    config = tmp_path / "config.yaml"
    own = {"num_fewshot": 1, "samples": [7]}
    none = write_task(tmp_path / "none.yaml", num_fewshot=None)
    config.write_text(yaml.safe_dump({"benchmarks": [{str(sums): {"samples": [2, 99]}}, {str(none): own}]}))
    code, text = end(
        *(capsys, TIES, "--config", config, "--dry-run", "--out", tmp_path / "runs"),
        *("--apply-chat-template", "--gen-kwargs", "max_gen_tok=3", "--with-base"),
    )
    assert code == 2
    assert text.out == ""
    for part in (
        "gen_kwargs: max_gen_tok: no generation argument; did you mean 'max_gen_toks'",
        "apply_chat_template: the tokenizer of zoo:base has no chat template",
        "samples: task sums has 4 documents, from 0 to 3: 99 is none",
        "num_fewshot=1: task none has no examples",
        "samples: task none has 4 documents, from 0 to 3: 7 is none",
    ):
        assert part in text.err


@pytest.mark.usefixtures("indexed_once")
@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_wrong_names_hide_nothing_that_is_wrong_with_the_settings(tmp_path, capsys, dry):
    for name in ("one", "two", "programs"):
        write_task(tmp_path / f"{name}.yaml", num_fewshot=None, unsafe_code=name == "programs")
    (tmp_path / "twice.yaml").write_text(yaml.safe_dump({"group": "twice", "task": ["one", "two", "one"]}))
    code, text = end(
        *(capsys, TIES, "--include-path", tmp_path, "--benchmarks", "one,twice,programs,zoo_maths"),
        *("--apply-chat-template", "--gen-kwargs", "max_gen_tok=3", "--num-fewshot", "2", "--seed", "x"),
        *("--samples", '{"one": [9], "zoo_maths": [0]}', "--out", tmp_path / "runs", *dry),
    )
    assert code == 2
    for part in (
        "twice holds one twice",
        "zoo_maths is neither a benchmark nor a task or group of lm-eval; did you mean 'zoo_math'",
        "programs: runs programs that the model wrote",
        "gen_kwargs: max_gen_tok: no generation argument; did you mean 'max_gen_toks'",
        "apply_chat_template: the tokenizer of zoo:base has no chat template",
        "num_fewshot=2: task one has no examples",
        "samples: task one has 4 documents, from 0 to 3: 9 is none",
        "num_fewshot=2: task programs has no examples",
        "seed=['x']: one whole number",
    ):
        assert text.err.count(part) == 1, (part, text.err)
    assert "zoo_maths is no task of this run" not in text.err  # it is said above what it is
    assert text.out == ""
    assert not (tmp_path / "runs").exists()


def test_a_value_that_is_not_true_or_false_is_told_and_no_merge(tmp_path, capsys):
    code, text = end(
        *(capsys, "--apply-chat-template", "--fewshot-as-multiturn", "maybe", f"{TIES},chat_template=chatml"),
        *("--benchmarks", "zoo_math", "--dry-run", "-o", tmp_path),
    )
    assert code == 2
    assert "fewshot_as_multiturn=maybe: true or false" in text.err


def test_a_template_that_a_tokenizer_does_not_have_by_name_is_told(tmp_path, capsys):
    code, text = end(
        *(capsys, "--apply-chat-template", "tool_use", f"{TIES},chat_template=chatml"),
        *("--benchmarks", "zoo_math", "--dry-run"),
    )
    assert code == 2
    assert "one template, without a name: 'tool_use' is not there" in text.err


def test_a_run_without_benchmarks_says_where_they_are_named(capsys):
    code, text = end(capsys, TIES)
    assert code == 2
    assert "--benchmarks: none are named, neither here nor in a file of settings (--config)" in text.err

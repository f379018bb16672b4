from __future__ import annotations

import pytest

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

"""The public API: lazy, complete, typed."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch

import della_bench
from della_bench import MergeSpec, SpecError, UsageError
from della_bench.merge.folder import write_folder
from della_bench.merge.stream import Merge
from della_bench.models.evaluating import evaluate
from della_bench.models.loading import load_merged

SPEC = {"base": "zoo:base", "experts": ["zoo:math", "zoo:code"], "merge_method": "ties", "density": 0.5}
HEAVY = ("torch", "pydantic", "numpy", "numba", "lm_eval", "transformers", "typer", "yaml", "openai")


def modules_after(statement: str) -> set[str]:
    """Return the modules that a fresh Python has loaded after a statement, which the start-up hook is no part of."""
    code = f"import sys; {statement}; import json; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


def test_importing_the_package_loads_nothing_heavy():
    assert not modules_after("import della_bench") & set(HEAVY)


def test_errors_and_names_are_there_without_anything_heavy():
    assert not modules_after("import della_bench; dir(della_bench); from della_bench import SpecError") & set(HEAVY)


def test_a_spec_loads_no_torch():
    assert "torch" not in modules_after("from della_bench import MergeSpec, METHODS")


@pytest.mark.parametrize("name", sorted(della_bench.__all__))
def test_every_public_name_is_there_documented_and_listed(name):
    value = getattr(della_bench, name)
    assert name in dir(della_bench)
    assert name == "METHODS" or value.__doc__


def test_type_checkers_see_the_names_that_python_does():
    tree = ast.parse(Path(della_bench.__file__).read_text(encoding="utf-8"))
    (guarded,) = [node for node in tree.body if isinstance(node, ast.If)]
    imported = {
        alias.name: node.module for node in guarded.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert imported == della_bench._HOMES
    assert sorted(imported) == sorted(della_bench.__all__)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'della_bench' has no attribute 'Mergespec'"):
        della_bench.Mergespec  # noqa: B018


def test_a_merge_in_memory_is_the_merge_on_disk(tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    write_folder(Merge(MergeSpec.parse(SPEC)), tmp_path / "merged", progress=False)
    model, tokenizer = load_merged(SPEC, progress=False)
    written = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), written.parameters(), strict=True))
    assert model.generation_config.to_dict() == written.generation_config.to_dict()
    assert model.config.to_dict().keys() == written.config.to_dict().keys()
    assert tokenizer.get_vocab() == AutoTokenizer.from_pretrained(tmp_path / "merged").get_vocab()
    assert not model.training


def test_the_bases_generation_config_is_taken(family, tmp_path):
    base = tmp_path / "base"
    shutil.copytree(family["base"], base)
    (base / "generation_config.json").write_text(json.dumps({"eos_token_id": [1, 2], "max_new_tokens": 7}))
    model, _ = load_merged({"base": str(base), "experts": [str(family["a"])], "merge_method": "task_arithmetic"})
    assert (model.generation_config.eos_token_id, model.generation_config.max_new_tokens) == ([1, 2], 7)


def test_a_faulty_spec_is_an_error_before_anything_is_read():
    with pytest.raises(SpecError, match="density"):
        load_merged({**SPEC, "density": 2})
    with pytest.raises(SpecError, match="density"):
        evaluate({**SPEC, "density": 2}, "zoo_math")


def test_a_spec_and_a_running_model_are_evaluated_alike():
    from lm_eval.tasks import TaskManager

    from della_bench import DellaMergedLM
    from della_bench.resources import folder

    manager = TaskManager(include_path=str(folder("tasks")), include_defaults=False)  # all of lm-eval's take seconds
    options = {"limit": 3, "bootstrap_iters": 0, "task_manager": manager}
    by_spec = evaluate(SPEC, "zoo_math", arguments={"max_length": 256}, batch_size=3, device="cpu", **options)
    model = DellaMergedLM(**SPEC, batch_size=3, device="cpu", max_length=256)
    by_model = evaluate(model, ["zoo_math"], **options)
    assert by_spec["results"] == by_model["results"]
    assert by_spec["config"]["della_bench"]["fingerprint"] == model.fingerprint
    with pytest.raises(UsageError, match="its constructor"):
        evaluate(model, ["zoo_math"], arguments={"device": "cpu"})
    with pytest.raises(UsageError, match=r"no task, tag or group of lm-eval: zoo_maths \(did you mean 'zoo_math'"):
        evaluate({**SPEC, "base": "/nowhere"}, ["zoo_math", "zoo_maths"], **options)


def test_tasks_are_told_what_lm_eval_tells_them(monkeypatch):
    """Some are made by the model's arguments and by `metadata`: lengths of contexts, a tokenizer."""
    import lm_eval

    told = []

    def simple_evaluate(**given):
        told.append(given["task_manager"].metadata)
        return {}

    monkeypatch.setattr(lm_eval, "simple_evaluate", simple_evaluate)
    evaluate(SPEC, "zoo_math", arguments={"max_length": 256}, metadata={"max_seq_lengths": [4096]})
    (metadata,) = told
    assert (metadata["max_seq_lengths"], metadata["max_length"]) == ([4096], 256)
    assert metadata["base"] == "zoo:base"


@pytest.mark.slow
def test_the_wheel_holds_what_an_installation_needs(tmp_path):
    project = Path(della_bench.__file__).parent.parent
    if not (project / "pyproject.toml").is_file():
        pytest.skip("not a checkout")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=project, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {
        "della_bench/py.typed",
        "della_bench/tasks/zoo_math/zoo_math.yaml",
        "della_bench/judges/gsm8k_gpt4/judge.yaml",
        "della_bench/zoo/base/model.safetensors",
        "della_bench/results/page/page.html.jinja",
        "della_bench_autoload.pth",
    } <= names


def test_a_merge_is_opened_from_a_spec_in_any_of_its_forms():
    text = "base=zoo:base,experts=zoo:math,merge_method=ties,density=0.5"
    spec = MergeSpec.parse(text)
    assert Merge(text).spec == Merge(spec.as_keys()).spec == Merge(spec).spec == spec

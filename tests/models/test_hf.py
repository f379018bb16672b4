from __future__ import annotations

import gc
import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import lm_eval.models  # noqa: F401
import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.api.model import CachingLM
from lm_eval.models.huggingface import HFLM
from safetensors.torch import load_file, save_file

from della_bench.errors import CheckpointError, SpecError, UsageError
from della_bench.merge.folder import write_folder
from della_bench.merge.stream import Merge
from della_bench.models import build
from della_bench.models.hf import DellaMergedLM
from della_bench.models.loading import load_merged
from della_bench.spec import MergeSpec
from tests import tiny
from tests.models.lm import ask, keys


def test_the_model_holds_the_streamed_tensors_without_a_copy(family, monkeypatch):
    streamed: dict[str, torch.Tensor] = {}
    original = build.merged_state_dict

    def record(*args: Any, **options: Any) -> dict[str, torch.Tensor]:
        streamed.update(original(*args, **options))
        return dict(streamed)

    monkeypatch.setattr(build, "merged_state_dict", record)
    lm = DellaMergedLM(**keys(family, "a", "b", "c"))
    held = lm.model.state_dict()
    assert held.keys() == streamed.keys()
    assert all(held[name].data_ptr() == tensor.data_ptr() for name, tensor in streamed.items())
    assert lm.model.dtype == torch.bfloat16
    assert not lm.model.training


def test_it_answers_as_lm_evals_own_model_type_does_on_the_written_merge(family, tmp_path):
    spec = keys(family, "a", "b", dtype="float32")
    folder = write_folder(Merge(MergeSpec.parse(spec)), tmp_path / "merged", progress=False)
    ours = DellaMergedLM(**spec, device="cpu", batch_size=2)
    theirs = HFLM(pretrained=str(folder), device="cpu", batch_size=2)
    prompts = ["One two three", "A", "def f(x):"]
    assert ask(ours, *prompts) == ask(theirs, *prompts)
    pairs = [Instance("loglikelihood", {}, (p, " yes"), i) for i, p in enumerate(prompts)]
    assert ours.loglikelihood(pairs) == theirs.loglikelihood(pairs)


@pytest.mark.parametrize(
    "defaults",
    [{"repetition_penalty": 1.3}, {"eos_token_id": list(range(1, 200, 2))}, {"no_repeat_ngram_size": 2, "top_k": 3}],
    ids=lambda defaults: next(iter(defaults)),
)
def test_it_answers_by_the_bases_generation_config_as_the_written_merge_does(family, tmp_path, defaults):
    folders = {**family, "base": tmp_path / "base"}
    shutil.copytree(family["base"], folders["base"])
    config = json.loads((folders["base"] / "generation_config.json").read_text())
    (folders["base"] / "generation_config.json").write_text(json.dumps({**config, **defaults}))
    spec = keys(folders, "a", "b", dtype="float32")
    folder = write_folder(Merge(MergeSpec.parse(spec)), tmp_path / "merged", progress=False)
    prompts = [f"{number} and" for number in range(40)]
    answers = ask(DellaMergedLM(**spec, batch_size=20), *prompts)
    assert answers == ask(HFLM(pretrained=str(folder), device="cpu", batch_size=20), *prompts)
    plain = ask(DellaMergedLM(**keys(family, "a", "b", dtype="float32"), batch_size=20), *prompts)
    assert answers != plain, "these defaults change no answer here"


def test_tied_weights_stay_tied(tmp_path):
    base = tiny.save(tiny.gpt2(), tmp_path / "base")
    expert = tiny.save(tiny.perturbed(tiny.gpt2(), 1), tmp_path / "expert")
    lm = DellaMergedLM(base=str(base), experts=str(expert), merge_method="task_arithmetic")
    assert lm.model.lm_head.weight.data_ptr() == lm.model.transformer.wte.weight.data_ptr()
    wanted = tiny.perturbed(tiny.gpt2(), 1).state_dict()
    for name, tensor in lm.model.state_dict().items():
        torch.testing.assert_close(tensor.cpu(), wanted[name], rtol=0, atol=1e-6)


def test_arguments_of_hflm_reach_it(family):
    lm = DellaMergedLM(**keys(family, "a"), batch_size=3, max_length=77, device="cpu", attn_implementation="eager")
    assert (lm.batch_size, lm.max_length, str(lm.device)) == (3, 77, "cpu")
    assert lm.model.config._attn_implementation == "eager"


def test_a_wrong_spec_ends_before_any_file_is_opened():
    with pytest.raises(SpecError) as caught:
        DellaMergedLM(base="/nowhere/base", experts="/nowhere/a", drop_rat=0.3)
    assert "drop_rat=0.3: unknown argument; did you mean 'drop_rate'" in str(caught.value)
    assert "density: missing" in str(caught.value)


def test_a_key_given_twice_in_the_argument_string_is_an_error(family):
    text = f"base={family['base']},experts={family['a']},base={family['b']},merge_method=task_arithmetic"
    with pytest.raises(SpecError, match="base: given twice"):
        DellaMergedLM.create_from_arg_string(text)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("max_length=abc", "max_length=abc: a whole number from 1 on"),
        ("max_length=-5", "max_length=-5: a whole number from 1 on"),
        ("prefix_token_id=x", "prefix_token_id=x: a whole number from 0 on"),
        ("softmax_dtype=float31", "softmax_dtype=float31: no dtype; did you mean 'float32'"),
        ("backend=casual", "backend=casual: not a kind of model; did you mean 'causal'"),
        ("experts=1e3", "experts=1000.0: read as a number"),
        ("experts=007", "experts=7: read as a number; a folder of such a name is ./NAME"),
    ],
)
def test_what_lm_eval_would_find_out_when_the_model_is_there_is_told_before(given, told):
    expert = "" if given.startswith("experts") else "experts=zoo:math,"
    with pytest.raises(SpecError) as caught:
        DellaMergedLM.create_from_arg_string(f"base=zoo:base,{expert}merge_method=task_arithmetic,{given}")
    assert told in str(caught.value)


def test_lm_evals_settings_may_stand_among_the_arguments_which_may_have_spaces_between_them(caplog):
    given = "base=zoo:base, experts=zoo:math, merge_method=task_arithmetic, device=cpu, batch_size=3"
    lm = DellaMergedLM.create_from_arg_string(f"{given}, softmax_dtype=half", {"device": "cuda:0", "batch_size": 1})
    assert (lm.device.type, lm.batch_size) == ("cpu", 3)
    assert "is not on this machine" not in caplog.text


def test_tokenizer_and_chat_template_come_from_the_sources_named(family, tmp_path):
    other = tiny.save(tiny.llama(), tmp_path / "other", tiny.tokenizer(chat_template="{{ messages[0].content }}!"))
    plain = DellaMergedLM(**keys(family, "a"))
    assert plain.tokenizer.chat_template is None
    assert DellaMergedLM(**keys(family, "a", tokenizer=str(other))).tokenizer.chat_template.endswith("!")
    templated = DellaMergedLM(**keys(family, "a", chat_template=str(other)))
    assert templated.apply_chat_template([{"role": "user", "content": "hi"}]) == "hi!"
    assert templated.tokenizer_name != plain.tokenizer_name
    with pytest.raises(CheckpointError, match="has no chat template"):
        DellaMergedLM(**keys(family, "a", chat_template=str(family["b"])))


def test_a_tokenizer_beyond_the_merged_vocabulary_is_an_error(family, tmp_path):
    tokenizer = tiny.tokenizer(extra=("[PAD]",))
    tokenizer.pad_token = "[PAD]"
    base = tiny.save(tiny.llama(dtype=torch.bfloat16), tmp_path / "base", tokenizer)
    with pytest.raises(CheckpointError, match="ids up to 259, but the merged vocabulary has 259 rows"):
        DellaMergedLM(**keys({**family, "base": base}, "a"))


def test_a_parameter_that_no_tensor_fills_is_an_error(family, tmp_path):
    folders = {}
    for name in ("base", "a"):
        folders[name] = tmp_path / name
        folders[name].mkdir()
        for file in family[name].iterdir():
            (folders[name] / file.name).write_bytes(file.read_bytes())
        tensors = load_file(folders[name] / "model.safetensors")
        del tensors["model.norm.weight"]
        save_file(tensors, folders[name] / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"parameters that the checkpoint lacks: model\.norm\.weight"):
        DellaMergedLM(**keys(folders, "a"))


def test_results_carry_spec_digest_and_versions(family):
    lm = DellaMergedLM(**keys(family, "a", "b"))
    info = json.loads(json.dumps(lm.get_model_info()))["della_bench"]
    assert MergeSpec.parse(info["spec"]) == lm.spec == MergeSpec.parse(info["keys"])
    assert info["digest"] == lm.spec.digest
    assert info["sources"][str(family["a"])] == str(family["a"])
    assert set(info["versions"]) == {"lm_eval", "torch", "transformers", "safetensors"}


def test_the_response_cache_keeps_merges_apart(family, tmp_path):
    database = str(tmp_path / "cache.db")
    prompts = ["Hello there", "What now"]
    specs = [keys(family, "a", "b"), keys(family, "a", "b", lambda_factor=1.2), keys(family, "a", "b", dtype="float32")]
    for spec in specs:
        fresh = ask(DellaMergedLM(**spec), *prompts)
        assert ask(CachingLM(DellaMergedLM(**spec), database), *prompts) == fresh
    rows = len(CachingLM(DellaMergedLM(**specs[0]), database).dbdict)
    assert rows == len(prompts) * len(specs)


def test_the_response_cache_is_used_for_the_same_merge(family, tmp_path, monkeypatch):
    database = str(tmp_path / "cache.db")
    first = ask(CachingLM(DellaMergedLM(**keys(family, "a")), database), "Hello there")
    again = DellaMergedLM(**keys(family, "a"), batch_size=4)
    monkeypatch.setattr(again, "_model_generate", lambda *_, **__: pytest.fail("asked the model again"))
    assert ask(CachingLM(again, database), "Hello there") == first


def test_a_copy_has_the_cached_answers_and_other_bytes_of_the_same_size_and_time_have_not(
    family, tmp_path, monkeypatch
):
    database, expert = str(tmp_path / "cache.db"), shutil.copytree(family["a"], tmp_path / "expert")
    wanted = ask(CachingLM(DellaMergedLM(**keys({**family, "a": expert}, "a")), database), "A")

    def from_cache(folder: Path) -> list[str]:
        lm = DellaMergedLM(**keys({**family, "a": folder}, "a"))
        monkeypatch.setattr(lm, "_model_generate", lambda *_, **__: pytest.fail("it was not in the cache"))
        return ask(CachingLM(lm, database), "A")

    copy = shutil.copytree(expert, tmp_path / "copy")
    os.utime(copy / "model.safetensors", ns=(1, 1))
    assert from_cache(copy) == wanted
    weights, state = expert / "model.safetensors", (expert / "model.safetensors").stat()
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.utime(weights, ns=(state.st_atime_ns, state.st_mtime_ns))
    with pytest.raises(pytest.fail.Exception, match="not in the cache"):
        from_cache(expert)


def test_the_fingerprint_knows_a_retrained_expert_in_the_same_folder(family, tmp_path):
    def fingerprint(seed: int) -> str:
        expert = tiny.save(tiny.perturbed(tiny.llama(0, dtype=torch.bfloat16), seed), tmp_path / "expert")
        return DellaMergedLM(**keys({**family, "a": expert}, "a")).fingerprint

    assert fingerprint(1) != fingerprint(2)


@pytest.fixture
def gsm8k(tmp_path) -> Path:
    rows = [{"question": f"What is {n} plus {n}?", "answer": f"#### {2 * n}"} for n in range(5)]
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "gsm8k_test.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return tmp_path / "data"


@pytest.mark.slow
def test_lm_eval_evaluates_a_merge_and_no_weights_are_written(family, tmp_path, gsm8k, few_tasks):
    work = tmp_path / "work"
    work.mkdir()
    environment = (
        os.environ
        | few_tasks
        | {
            "DELLA_BENCH_DATA": str(gsm8k),
            "TMPDIR": str(work),
            "HF_HOME": str(work / "hf"),
            "OMP_NUM_THREADS": "1",
        }
    )
    spec = str(MergeSpec.parse(keys(family, "a", "b")))
    command = [sys.executable, "-m", "lm_eval", "--model", "della_merged", "--model_args", spec, "--log_samples"]
    command += ["--tasks", "gsm8k_cot_zeroshot_alpaca", "--gen_kwargs", "max_gen_toks=4", "--output_path", "out"]
    done = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (results,) = work.rglob("results_*.json")
    assert results.parent.name == MergeSpec.parse(keys(family, "a", "b")).file_name
    config = json.loads(results.read_text())["config"]
    assert config["della_bench"]["spec"] == str(MergeSpec.parse(keys(family, "a", "b")))
    (samples,) = work.rglob("samples_*.jsonl")
    assert len({json.loads(line)["doc_id"] for line in samples.read_text().splitlines()}) == 5
    weights = family["base"] / "model.safetensors"
    large = [path for path in work.rglob("*") if path.is_file() and path.stat().st_size >= weights.stat().st_size / 2]
    assert [path for path in large if path.suffix not in (".json", ".jsonl", ".arrow")] == []


@pytest.mark.slow
def test_two_processes_of_accelerate_answer_each_document_once(family, tmp_path, gsm8k, few_tasks):
    script = tmp_path / "count.py"
    script.write_text(
        "import json, os, sys\n"
        "import lm_eval, torch.utils.collect_env\n"
        "torch.utils.collect_env.get_pretty_env_info = lambda: ''\n"  # it asks pip and the like, which takes seconds
        "from della_bench.models.hf import DellaMergedLM\n"
        "lm = DellaMergedLM(**json.loads(sys.argv[1]))\n"
        "ask = lm._model_generate\n"
        "def counted(context, *args, **options):\n"
        "    with open(f'asked_{lm.rank}', 'a') as file:\n"
        "        file.writelines(lm.tokenizer.decode(row) .replace(chr(10), ' ') + chr(10) for row in context)\n"
        "    return ask(context, *args, **options)\n"
        "lm._model_generate = counted\n"
        "found = lm_eval.simple_evaluate(lm, tasks=['gsm8k_cot_zeroshot_alpaca'], gen_kwargs='max_gen_toks=4')\n"
        "if lm.rank == 0:\n"
        "    asked = [sample['doc_id'] for sample in found['samples']['gsm8k_cot_zeroshot_alpaca']]\n"
        "    open('samples', 'w').write(json.dumps(asked))\n"
    )
    # A launch of several processes is called multi_gpu; without a GPU, or with one that they do not see, they talk over
    # gloo.
    environment = os.environ | few_tasks | {"CUDA_VISIBLE_DEVICES": ""}
    environment |= {"DELLA_BENCH_DATA": str(gsm8k), "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "1"}
    launch = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"]
    launch += ["--mixed_precision", "no", "--dynamo_backend", "no", str(script), json.dumps(keys(family, "a"))]
    done = subprocess.run(
        [sys.executable, *launch], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    asked = [(tmp_path / f"asked_{rank}").read_text().splitlines() for rank in (0, 1)]
    # Five documents for two ranks: three each, of which one is lm-eval's padding.
    assert [len(lines) for lines in asked] == [3, 3]
    assert len(set(asked[0]) | set(asked[1])) == 5
    assert sorted(set(json.loads((tmp_path / "samples").read_text()))) == list(range(5))


@pytest.mark.skipif(torch.cuda.is_available(), reason="has lm-eval's default device")
def test_lm_evals_default_device_is_no_error_where_it_is_not_there_but_one_that_was_asked_for_is(caplog):
    given = {"base": "zoo:base", "experts": "zoo:math", "merge_method": "passthrough"}
    with caplog.at_level(logging.WARNING):
        made = DellaMergedLM.create_from_arg_obj(given, {"device": "cuda:0"})
    assert made.device.type in ("cpu", "mps")
    assert "device cuda:0, lm-eval's default, is not on this machine" in caplog.text
    with pytest.raises(UsageError, match="cuda:1: torch sees no such device"):
        DellaMergedLM.create_from_arg_obj(given, {"device": "cuda:1"})


def test_two_models_whose_layers_lie_on_the_disk_each_have_their_own_files(tmp_path):
    """Tied ones: the embeddings are looked for on the disk by either of their names."""
    spec = {"base": "zoo:base", "experts": "zoo:math", "merge_method": "task_arithmetic"}
    on_disk = {"device": "cpu", "parallelize": True, "offload_folder": str(tmp_path / "offload")}
    first, second = (DellaMergedLM(**spec, weights=weight, **on_disk) for weight in (1.0, 0.3))
    assert next(first.model.parameters()).device.type == "meta"
    for weight, lm in ((1.0, first), (0.3, second)):
        in_memory = DellaMergedLM(**spec, weights=weight, device="cpu")
        requests = [Instance("loglikelihood", {}, (prompt, " yes"), 0) for prompt in ("Tom has 3 apples.", "A")]
        assert lm.loglikelihood(requests) == pytest.approx(in_memory.loglikelihood(requests))
    assert len(list((tmp_path / "offload").iterdir())) == 2
    loaded = [
        load_merged({**spec, "weights": w}, device_map={"": "disk"}, offload_folder=tmp_path / "offload")[0]
        for w in (1, 0.3)
    ]
    for model, lm in zip(loaded, (first, second), strict=True):
        ids = torch.arange(3, 9)[None]
        assert torch.equal(model(ids).logits, lm.model(ids).logits)
    del first, second, lm, loaded, model
    gc.collect()
    assert not list((tmp_path / "offload").iterdir())


def test_a_base_without_a_tokenizer_or_with_a_broken_one_is_told(family, tmp_path):
    without = shutil.copytree(family["base"], tmp_path / "without")
    for file in without.glob("tokenizer*"):
        file.unlink()
    broken = shutil.copytree(family["base"], tmp_path / "broken")
    (broken / "tokenizer.json").write_text("{")
    for folder, told in ((without, "holds no tokenizer: name one by tokenizer=SOURCE"), (broken, "cannot be loaded")):
        spec = {**keys(family, "a"), "base": str(folder)}
        with pytest.raises(CheckpointError, match=told):
            DellaMergedLM(**spec)
        with pytest.raises(CheckpointError, match=told):
            load_merged(spec)

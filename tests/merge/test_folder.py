from __future__ import annotations

import json
import resource
import subprocess
import sys

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer

from della_bench.errors import MergeError
from della_bench.merge.config import merged_config
from della_bench.merge.folder import write_folder
from della_bench.merge.stream import Merge
from della_bench.models.loading import load_merged
from della_bench.spec import MergeSpec
from tests import tiny


def merge(family, **keys):
    experts = [str(family["a"]), str(family["b"])]
    defaults = {"merge_method": "della", "density": 0.7, "epsilon": 0.1}
    return Merge(MergeSpec.parse(base=str(family["base"]), experts=experts, **{**defaults, **keys}))


def parameters(folder):
    return AutoModelForCausalLM.from_pretrained(folder, dtype="auto").state_dict()


@pytest.mark.parametrize(("max_shard_bytes", "files"), [(5 * 10**9, 1), (20_000, 4)])
def test_transformers_loads_the_streams_bits(family, tmp_path, max_shard_bytes, files):
    made = merge(family)
    folder = write_folder(made, tmp_path / "out", max_shard_bytes=max_shard_bytes, progress=False)
    loaded = parameters(folder)
    assert all(torch.equal(loaded[name], tensor) for name, tensor in made.stream())
    assert len(list(folder.glob("*.safetensors"))) == files
    assert AutoTokenizer.from_pretrained(folder)("abc") == AutoTokenizer.from_pretrained(family["base"])("abc")


def test_a_dtype_is_written_to_weights_and_config(family, tmp_path):
    folder = write_folder(merge(family, dtype="float32"), tmp_path / "out", progress=False)
    assert {tensor.dtype for tensor in parameters(folder).values()} == {torch.float32}
    assert json.loads((folder / "config.json").read_text())["dtype"] == "float32"


@pytest.mark.parametrize(("stored", "said"), [("float32", "bfloat16"), ("bfloat16", "float32"), ("bfloat16", None)])
def test_the_config_says_the_dtype_that_the_merge_runs_in(tmp_path, stored, said):
    """A config that says another dtype than its weights have is common; transformers loads them in what it says."""
    base = tiny.save(tiny.llama(dtype=getattr(torch, stored)), tmp_path / "base")
    expert = tiny.save(tiny.perturbed(tiny.llama(dtype=getattr(torch, stored)), 1), tmp_path / "expert")
    for folder in (base, expert):
        config = json.loads((folder / "config.json").read_text())
        config.pop("dtype")
        (folder / "config.json").write_text(json.dumps(config | ({"dtype": said} if said else {})))
    spec = MergeSpec.parse(base=str(base), experts=str(expert), merge_method="task_arithmetic")
    live, _ = load_merged(spec, progress=False)
    folder = write_folder(Merge(spec), tmp_path / "out", progress=False)
    written = AutoModelForCausalLM.from_pretrained(folder)
    assert written.dtype == live.dtype == getattr(torch, stored)
    ids = torch.arange(3, 9)[None]
    assert torch.equal(written(ids).logits, live(ids).logits)
    assert ("dtype" in json.loads((folder / "config.json").read_text())) == bool(said)


def test_the_dtype_of_a_text_part_is_the_merges_too(tmp_path):
    base = tiny.save(tiny.llama(dtype=torch.bfloat16), tmp_path / "base")
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "dtype": "float32", "text_config": {"dtype": "float32"}}))
    made = merged_config(Merge(MergeSpec.parse(base=str(base), experts=str(base), merge_method="linear")))
    assert (made["dtype"], made["text_config"]) == ("bfloat16", {"dtype": "bfloat16"})


def test_a_tied_model_loads_tied(tmp_path):
    base = tiny.save(tiny.gpt2(), tmp_path / "base")
    expert = tiny.save(tiny.perturbed(tiny.gpt2(), 1), tmp_path / "expert")
    spec = MergeSpec.parse(base=str(base), experts=str(expert), merge_method="task_arithmetic")
    model = AutoModelForCausalLM.from_pretrained(write_folder(Merge(spec), tmp_path / "out", progress=False))
    assert model.lm_head.weight.data_ptr() == model.transformer.wte.weight.data_ptr()


def test_card_and_weights_hold_the_spec(family, tmp_path):
    made = merge(family)
    folder = write_folder(made, tmp_path / "out", progress=False)
    card = (folder / "README.md").read_text()
    assert str(made.spec) in card
    assert made.spec.digest in card
    with safe_open(folder / "model.safetensors", framework="pt") as file:
        assert MergeSpec.parse(file.metadata()["della_bench"]) == made.spec


def test_another_chat_template_is_written(family, tmp_path):
    other = tiny.save(tiny.llama(), tmp_path / "other", tiny.tokenizer(chat_template="{{ 1 }}"))
    folder = write_folder(merge(family, chat_template=str(other)), tmp_path / "out", progress=False)
    assert AutoTokenizer.from_pretrained(folder).chat_template == "{{ 1 }}"


def test_a_disk_that_takes_no_more_is_an_error_that_names_the_tensor_and_leaves_nothing_behind(family, tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(MergeError, match=r"model\.safetensors: writing tensor \S+ failed: File too large"):
            write_folder(merge(family), tmp_path / "here" / "out", progress=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list((tmp_path / "here").iterdir()) == []


def test_a_merge_of_safetensors_on_the_cpu_needs_no_torch(family, tmp_path):
    program = (
        "import pathlib, sys\n"
        "from della_bench.merge.folder import write_folder\n"
        "from della_bench.merge.stream import Merge\n"
        "from della_bench.spec import MergeSpec\n"
        "write_folder(Merge(MergeSpec.parse(sys.argv[1])), pathlib.Path(sys.argv[2]), progress=False)\n"
        "print('torch' in sys.modules)\n"
    )
    out = tmp_path / "out"
    command = [sys.executable, "-c", program, str(merge(family).spec), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
    with safe_open(out / "model.safetensors", framework="pt") as file:
        assert all(torch.equal(file.get_tensor(name), tensor) for name, tensor in merge(family).stream())

"""What a training run leaves beside or instead of a model that transformers loads."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from della_bench import load_merged
from della_bench.checkpoint import open_folder
from della_bench.checkpoint.architecture import Architectures
from della_bench.checkpoint.config_shapes import shape_faults
from della_bench.checkpoint.model import unwrapped
from della_bench.errors import CheckpointError
from della_bench.merge.folder import write_folder
from della_bench.merge.stream import Merge
from della_bench.spec import MergeSpec
from tests import families, tiny

PROMPT = torch.tensor([[0, 5, 17, 40, 200, 258, 3, 9]])
WRAPPERS = ["_orig_mod.", "module.", "module._orig_mod.", "_orig_mod.module.", "_fsdp_wrapped_module."]


def wrap(folder: Path, wrapper: str) -> None:
    families.edit_tensors(folder, lambda tensors: {wrapper + name: tensor for name, tensor in tensors.items()})


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("places", [["expert"], ["base"], ["base", "expert"]], ids=str)
def test_a_model_saved_from_within_a_wrapper_is_the_same_model(tmp_path, wrapper, places):
    keys = families.make("llama", tmp_path)
    before = dict(Merge(MergeSpec.parse(keys)).stream())
    for place in places:
        wrap(tmp_path / place, wrapper)
    after = dict(Merge(MergeSpec.parse(keys)).stream())
    assert after.keys() == before.keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in after.items())


@torch.no_grad()
def test_a_merge_over_a_wrapped_base_is_a_model_live_and_written(tmp_path):
    keys = families.make("gpt2", tmp_path)
    wanted = load_merged(keys, progress=False)[0](PROMPT).logits
    wrap(tmp_path / "base", "_orig_mod.")
    folder = write_folder(Merge(MergeSpec.parse(keys)), tmp_path / "out", progress=False)
    for made in (load_merged(keys, progress=False)[0], AutoModelForCausalLM.from_pretrained(folder)):
        assert torch.equal(made(PROMPT).logits, wanted)


def test_a_wrapper_around_single_layers_is_left_off_and_a_module_of_that_name_is_not():
    inner = ["model.layers.0._checkpoint_wrapped_module.mlp.up_proj.weight", "module.norm.weight"]
    assert unwrapped(inner) == {"model.layers.0.mlp.up_proj.weight": inner[0], "module.norm.weight": inner[1]}


def test_names_that_would_meet_without_their_wrapper_stay_as_they_are():
    names = ["_orig_mod.norm.weight", "norm.weight"]
    assert unwrapped(names) == dict(zip(names, names, strict=True))


@pytest.mark.parametrize("place", ["base", "expert"])
def test_weights_without_elements_are_told_once_with_what_makes_whole_ones(tmp_path, place):
    keys = families.make("llama", tmp_path)
    families.edit_tensors(
        tmp_path / place,
        lambda tensors: {name: torch.empty(0) if "k_proj" in name else tensor for name, tensor in tensors.items()},
    )
    with pytest.raises(CheckpointError) as caught:
        Merge(MergeSpec.parse(keys))
    _, *told = str(caught.value).split("\n")
    assert len(told) == 1
    assert told[0].startswith(f"{tmp_path / place}: 2 tensors (model.layers.0.self_attn.k_proj.weight, ")
    assert "ZeRO-3" in told[0]
    assert "zero_to_fp32.py" in told[0]


# family, changes of the config, what is told beside the label; nothing where that is the config's to say
CONTRADICTIONS = [
    ("llama", {"hidden_size": 64, "head_dim": None},
     "model.embed_tokens.weight is F32 [259, 32], but config.json says [259, 64] (hidden_size 64)"),
    ("llama", {"intermediate_size": 40},
     "model.layers.0.mlp.down_proj.weight is F32 [32, 48], but config.json says [32, 40] (intermediate_size 40)"),
    ("llama", {"num_attention_heads": 8},
     "model.layers.0.self_attn.o_proj.weight is F32 [32, 32], but config.json says [32, 128] (head_dim 16, "
     "num_attention_heads 8)"),
    ("llama", {"num_key_value_heads": 2},
     "model.layers.0.self_attn.k_proj.weight is F32 [16, 32], but config.json says [32, 32]"),
    ("llama", {"num_hidden_layers": 3}, "has the layers 0 to 1, but config.json says num_hidden_layers 3"),
    ("gpt2", {"n_embd": 64}, "transformer.h.0.attn.c_attn.bias is F32 [96], but config.json says [192]"),
    ("gpt2", {"n_layer": 4}, "has the layers 0 to 1, but config.json says n_layer 4"),
    ("qwen3_moe", {"moe_intermediate_size": 16}, "model.layers.0.mlp.experts.0.down_proj.weight is F32 [32, 24], but"),
    ("qwen3_moe", {"num_experts": 8, "num_local_experts": 8},
     "model.layers.0.mlp.gate.weight is F32 [4, 32], but config.json says [8, 32]"),
    ("gpt_oss", {"num_local_experts": 8}, "model.layers.0.mlp.experts.down_proj is F32 [4, 48, 32], but config.json"),
]  # fmt: skip


@pytest.mark.parametrize(("family", "changes", "told"), CONTRADICTIONS, ids=str)
def test_a_base_of_other_shapes_than_its_config_says_is_an_error_that_names_tensor_and_number(
    tmp_path, family, changes, told
):
    keys = families.make(family, tmp_path)
    for place in ("base", "expert"):
        families.edit_config(tmp_path / place, **changes)
    with pytest.raises(CheckpointError, match=re.escape(f"{tmp_path / 'base'}: {told}")):
        Merge(MergeSpec.parse(keys))


def test_a_norm_that_is_too_short_for_the_config_is_an_error_before_anything_is_written(tmp_path):
    keys = families.make("llama", tmp_path)
    for place in ("base", "expert"):
        path = tmp_path / place / "model.safetensors"
        save_file({**load_file(path), "model.norm.weight": torch.ones(16)}, path)
    with pytest.raises(
        CheckpointError, match=r"norm.weight is F32 \[16\], but config.json says \[32\] \(hidden_size 32"
    ):
        Merge(MergeSpec.parse(keys))


@pytest.mark.parametrize("family", families.FAMILIES)
def test_no_family_contradicts_the_config_that_it_was_made_of(tmp_path, family):
    base = open_folder(tiny.save(families.model(family), tmp_path / "base"), "base")
    assert shape_faults(base, Architectures(base)) == []


def test_a_plain_decoder_is_told_without_building_its_model(tmp_path):
    base = open_folder(tiny.save(families.model("llama", attention_bias=True), tmp_path / "base"), "base")
    known = Architectures(base)
    assert shape_faults(base, known) == []
    assert not known.asked


@pytest.mark.parametrize(
    ("left", "told"),
    [("global_step100/mp_rank_00_model_states.pt", "zero_to_fp32.py"),
     ("pytorch_model_fsdp_0/__0_0.distcp", "accelerate merge-weights")],
)  # fmt: skip
def test_a_checkpoint_in_a_trainers_own_format_says_what_makes_weights_of_it(tmp_path, left, told):
    keys = families.make("llama", tmp_path)
    (tmp_path / "expert" / "model.safetensors").unlink()
    (tmp_path / "expert" / left).parent.mkdir()
    (tmp_path / "expert" / left).write_bytes(b"")
    with pytest.raises(CheckpointError, match=f"no weights in .*{told}"):
        Merge(MergeSpec.parse(keys))


def test_a_folder_of_checkpoints_names_the_latest(tmp_path):
    keys = families.make("llama", tmp_path)
    for number in (10, 20):
        shutil.copytree(tmp_path / "expert", tmp_path / "run" / f"checkpoint-{number}", copy_function=shutil.copy2)
    with pytest.raises(CheckpointError, match=r"; 2 of the folders in it do \(the latest is checkpoint-20\)"):
        Merge(MergeSpec.parse({**keys, "experts": str(tmp_path / "run")}))


def test_a_whole_model_that_was_saved_with_its_adapter_is_told_once_with_what_makes_one_of_it(tmp_path):
    peft = pytest.importorskip("peft")
    keys = families.make("llama", tmp_path)
    adapted = peft.get_peft_model(families.model("llama"), peft.LoraConfig(r=2, target_modules=["q_proj"]))
    save_file(dict(adapted.state_dict()), tmp_path / "expert" / "model.safetensors")
    with pytest.raises(CheckpointError) as caught:
        Merge(MergeSpec.parse(keys))
    _, *told = str(caught.value).split("\n")
    assert len(told) == 1
    assert told[0].startswith(
        f"{tmp_path / 'expert'}: 4 tensors (base_model.model.model.layers.0.self_attn.q_proj.lora_A"
    )
    assert "merge_and_unload()" in told[0]


def test_an_adapter_beside_a_whole_model_is_left_out_with_a_warning(tmp_path, caplog):
    peft = pytest.importorskip("peft")
    keys = families.make("llama", tmp_path)
    wanted = dict(Merge(MergeSpec.parse(keys)).stream())
    caplog.clear()
    adapted = peft.get_peft_model(families.model("llama"), peft.LoraConfig(r=2, target_modules=["q_proj"]))
    adapted.save_pretrained(tmp_path / "expert")
    merge = Merge(MergeSpec.parse(keys))
    (told,) = [record.getMessage() for record in caplog.records]
    assert told.startswith(f"{tmp_path / 'expert'}: a LoRA adapter lies beside the whole model: the model is taken")
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in merge.stream())

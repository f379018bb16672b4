"""What a training run leaves beside or instead of a model that transformers loads."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from della_bench import load_merged
from della_bench.checkpoint.model import unwrapped
from della_bench.errors import CheckpointError
from della_bench.merge.folder import write_folder
from della_bench.merge.stream import Merge
from della_bench.spec import MergeSpec
from tests import families

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


def test_a_base_of_another_shape_than_its_config_says_is_an_error_that_names_it(tmp_path):
    keys = families.make("llama", tmp_path)
    for place in ("base", "expert"):
        path = tmp_path / place / "model.safetensors"
        save_file({**load_file(path), "model.norm.weight": torch.ones(16)}, path)
    with pytest.raises(CheckpointError, match=r"config.json says: model.norm.weight \(\[16\] for \[32\]\)"):
        load_merged(keys, progress=False)


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

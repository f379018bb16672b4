"""What an earlier save, a lost shard or a checkout without large files leaves in a folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from della_bench.checkpoint import check_fit, open_folder
from della_bench.errors import CheckpointError
from della_bench.merge.stream import Merge
from della_bench.spec import MergeSpec
from tests import families, tiny

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 13000000000\n"
INDEX = "model.safetensors.index.json"


def sharded(folder: Path) -> Path:
    return tiny.save(tiny.llama(0), folder, max_shard_size="20KB")


def name_in_index(folder: Path, *names: str) -> None:
    data = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    data["weight_map"] |= dict.fromkeys(names, next(iter(data["weight_map"].values())))
    (folder / INDEX).write_text(json.dumps(data), encoding="utf-8")


def as_transformers_has_it(folder: Path) -> dict[str, torch.Tensor]:
    return AutoModelForCausalLM.from_pretrained(folder).state_dict()


@pytest.mark.parametrize(
    "places", [{"model.norm.weight": "gone.safetensors"}, {}], ids=["of lost shards", "of nothing"]
)
def test_a_whole_file_counts_beside_an_index_of_an_earlier_save(tmp_path, places):
    folder = tiny.save(tiny.llama(0), tmp_path / "x")
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": places}), encoding="utf-8")
    opened, wanted = open_folder(folder, "x"), as_transformers_has_it(folder)
    assert opened.tensors.keys() == wanted.keys()
    assert all(torch.equal(opened.tensor(name).to_torch(), tensor) for name, tensor in wanted.items())


def test_what_only_an_index_names_and_the_model_does_not_need_is_left_out_with_one_warning(tmp_path, caplog):
    folder = sharded(tmp_path / "x")
    name_in_index(folder, "model.layers.0.self_attn.rotary_emb.inv_freq", "mtp.fc.weight")
    assert as_transformers_has_it(folder)
    opened = open_folder(folder, "x")
    check_fit(opened, [opened])
    assert [record.getMessage() for record in caplog.records if record.name.startswith("della_bench")] == [
        "x: its index names 2 tensors (model.layers.0.self_attn.rotary_emb.inv_freq, mtp.fc.weight) that no shard "
        "holds: left out"
    ]


@pytest.mark.parametrize("place", ["base", "expert"])
def test_what_only_an_index_names_and_the_model_needs_is_an_error(tmp_path, place):
    base, expert = (open_folder(sharded(tmp_path / name), name) for name in ("base", "expert"))
    folder = tmp_path / place
    name = "model.layers.1.mlp.up_proj.weight"
    file = folder / json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"][name]
    save_file({key: tensor for key, tensor in load_file(file).items() if key != name}, file, {"format": "pt"})
    base, expert = (open_folder(tmp_path / name, name) for name in ("base", "expert"))
    with pytest.raises(CheckpointError) as caught:
        check_fit(base, [expert])
    assert f"{place}: its index names 1 tensor ({name}) that no shard holds and the model needs" in str(caught.value)


def test_a_tied_head_that_only_an_index_names_is_the_embedding(tmp_path, caplog):
    folder = tiny.save(tiny.llama(0, tie_word_embeddings=True), tmp_path / "x", max_shard_size="20KB")
    name_in_index(folder, "lm_head.weight")
    opened = open_folder(folder, "x")
    check_fit(opened, [opened])
    assert not caplog.records


def test_a_trainers_safetensors_beside_torch_weights_are_no_model(tmp_path):
    folder = tiny.save(tiny.llama(0), tmp_path / "x")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    save_file({"exp_avg": torch.zeros(2)}, folder / "optimizer.safetensors")
    assert open_folder(folder, "x").tensors.keys() == as_transformers_has_it(folder).keys()


@pytest.mark.parametrize(
    "file",
    ["model.safetensors", "model-00001-of-00002.safetensors", "pytorch_model.bin", "config.json", "tokenizer.model",
     "tokenizer.json", "adapter_model.safetensors"],
)  # fmt: skip
def test_a_pointer_of_git_lfs_in_the_place_of_a_file_is_called_one(tmp_path, file):
    keys = families.make("llama", tmp_path)
    (tmp_path / "base" / file).write_text(POINTER, encoding="utf-8")
    with pytest.raises(CheckpointError, match=rf"{file} is a Git LFS pointer, .*: run `git lfs pull`"):
        Merge(MergeSpec.parse(keys))

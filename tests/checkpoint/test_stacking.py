"""Layers of several checkpoints under one model's names, and what keeps them from standing in one model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from della_bench.checkpoint import open_source
from della_bench.errors import CheckpointError
from della_bench.merge.config import merged_config
from della_bench.merge.folder import write_folder
from della_bench.merge.stream import Merge
from della_bench.spec import MergeSpec, Source
from tests import families, tiny

UP, Q = "model.layers.{}.mlp.up_proj.weight", "model.layers.{}.self_attn.q_proj.weight"


@pytest.fixture(scope="module")
def llamas(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Three models of 4, 4 and 6 layers, and some that do not go with them."""
    root = tmp_path_factory.mktemp("llamas")
    made: dict[str, Any] = {
        "base": tiny.llama(0, layers=4),
        "a": tiny.llama(1, layers=4),
        "long": tiny.llama(2, layers=6),
        "gpt2": tiny.gpt2(0),
    }
    for name, option in (("wide", {"hidden_size": 64}), ("fat", {"intermediate_size": 64})):
        config = tiny.llama(0, layers=4).config
        for key, value in option.items():
            setattr(config, key, value)
        made[name] = type(made["base"])(config)
    return {name: tiny.save(model, root / name) for name, model in made.items()}


def merge(folders: dict[str, Path], *experts: str, slices: str, method: str = "passthrough", **others: Any) -> Merge:
    keys = {"base": str(folders["base"]), "experts": [str(folders[name]) for name in experts]}
    return Merge(MergeSpec.parse({**keys, "merge_method": method, "slices": slices, **others}))


def told(folders: dict[str, Path], *experts: str, slices: str, method: str = "passthrough") -> list[str]:
    with pytest.raises(CheckpointError) as caught:
        merge(folders, *experts, slices=slices, method=method)
    assert caught.value.exit_code == 2
    text = str(caught.value)
    for name, folder in folders.items():
        text = text.replace(str(folder), name)
    return text.splitlines()


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def test_each_layer_is_that_of_its_source_and_the_ends_are_those_of_the_first_and_the_last_slice(llamas):
    found = dict(merge(llamas, "a", "long", slices="1:1-3/2:4-6/1:0-1").stream())
    a, long = weights(llamas["a"]), weights(llamas["long"])
    for place, (source, layer) in enumerate([(a, 1), (a, 2), (long, 4), (long, 5), (a, 0)]):
        assert torch.equal(found[UP.format(place)], source[UP.format(layer)])
    found = dict(merge(llamas, "a", "long", slices="2:0-1/1:0-1").stream())
    assert torch.equal(found["model.embed_tokens.weight"], long["model.embed_tokens.weight"])
    assert torch.equal(found["model.norm.weight"], a["model.norm.weight"])
    assert torch.equal(found["lm_head.weight"], a["lm_head.weight"])


def test_a_slice_of_the_base_alone_is_the_base_in_the_dtype_of_the_merge(llamas):
    found = merge(llamas, "a", slices="0-2/0:2-4", method="task_arithmetic", dtype="bfloat16")
    base = weights(llamas["base"])
    tensors = dict(found.stream())
    assert torch.equal(tensors[UP.format(3)], base[UP.format(3)].bfloat16())
    assert not torch.equal(tensors[UP.format(1)], base[UP.format(1)].bfloat16())
    assert {str(tensor.dtype) for tensor in tensors.values()} == {"torch.bfloat16"}
    host = {name: tensor.dtype for name, tensor in found.stream_host()}
    assert host == {name: found.info(name).dtype for name in found.names}


def test_random_draws_differ_between_two_copies_of_a_layer(llamas):
    found = merge(llamas, "a", slices="0-2/0-2", method="dare_linear", density=0.5)
    first, second = found.tensor(UP.format(0)), found.tensor(UP.format(2))
    assert not torch.equal(first, second)


def test_layers_of_another_source_come_in_the_dtype_of_the_base(llamas, tmp_path):
    half = tiny.save(tiny.llama(1, layers=4, dtype=torch.float16), tmp_path / "half")
    found = merge({**llamas, "half": half}, "a", "half", slices="1:0-2/2:2-4")
    assert {info.dtype for info in map(found.info, found.names)} == {"F32"}
    assert found.tensor(UP.format(3)).dtype == torch.float32


def test_a_checkpoint_without_the_base_models_prefix_gives_its_layers(llamas, tmp_path):
    bare = tiny.save(tiny.llama(1, layers=4), tmp_path / "bare")
    tensors = {name.removeprefix("model."): tensor for name, tensor in weights(bare).items()}
    save_file(tensors, bare / "model.safetensors", metadata={"format": "pt"})
    folders = {**llamas, "bare": bare}
    for method in ("passthrough", "linear"):
        ours, plain = (
            dict(merge(folders, "base", name, slices="1:0-2/2:1-4", method=method).stream()) for name in ("bare", "a")
        )
        assert ours.keys() == plain.keys()
        assert all(torch.equal(tensor, plain[name]) for name, tensor in ours.items())


def test_an_adapter_gives_its_layers(llamas, tmp_path):
    peft = pytest.importorskip("peft")
    adapted = peft.get_peft_model(tiny.llama(0, layers=4), peft.LoraConfig(r=2, target_modules=["q_proj"]))
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.1)
    adapted.save_pretrained(tmp_path / "adapter")
    found = merge({**llamas, "adapter": tmp_path / "adapter"}, "a", "adapter", slices="1:0-2/2:1-3")
    adapter = open_source(Source(str(tmp_path / "adapter")), open_source(Source(str(llamas["base"]))))
    assert torch.equal(found.tensor(Q.format(3)), adapter.tensor(Q.format(2)).to_torch())
    assert not torch.equal(found.tensor(Q.format(3)), weights(llamas["base"])[Q.format(2)])


def test_more_tokens_of_a_source_are_left_out_as_in_a_merge_of_whole_models(llamas, tmp_path, caplog):
    more = tiny.save(tiny.llama(1, layers=4, vocab=262), tmp_path / "more", tiny.tokenizer(("<x>", "<y>", "<z>")))
    found = dict(merge({**llamas, "more": more}, "a", "more", slices="2:0-2/1:2-4").stream())
    assert torch.equal(found["model.embed_tokens.weight"], weights(more)["model.embed_tokens.weight"][:259])
    assert "its extra rows are left out" in caplog.text


def test_a_head_of_the_last_slices_source_is_the_heads_where_the_base_ties_its_own(tmp_path):
    tied = tiny.save(tiny.llama(0, layers=2, tie_word_embeddings=True), tmp_path / "base")
    own = tiny.save(tiny.llama(1, layers=2), tmp_path / "own")
    folders = {"base": tied, "own": own}
    last = dict(merge(folders, "base", "own", slices="1:0-2/2:0-2").stream())
    assert torch.equal(last["lm_head.weight"], weights(own)["lm_head.weight"])
    first = merge(folders, "base", "own", slices="2:0-2/1:0-2")
    assert "lm_head.weight" not in first.names


def test_the_head_of_a_source_that_ties_it_is_its_embedding(tmp_path):
    untied = tiny.save(tiny.llama(0, layers=2), tmp_path / "base")
    tied = tiny.save(tiny.llama(1, layers=2, tie_word_embeddings=True), tmp_path / "tied")
    found = dict(merge({"base": untied, "tied": tied}, "base", "tied", slices="1:0-2/2:0-2").stream())
    assert torch.equal(found["lm_head.weight"], weights(tied)["model.embed_tokens.weight"])
    assert torch.equal(found["model.embed_tokens.weight"], weights(untied)["model.embed_tokens.weight"])


def test_what_a_layer_has_and_its_model_does_not_need_is_left_out(llamas, tmp_path):
    scaled = tiny.save(tiny.llama(1, layers=4), tmp_path / "scaled")
    tensors = weights(scaled) | {f"model.layers.{k}.self_attn.k_scale": torch.ones(1) for k in range(4)}
    save_file(tensors, scaled / "model.safetensors", metadata={"format": "pt"})
    names = merge({**llamas, "scaled": scaled}, "a", "scaled", slices="1:0-2/2:2-4").names
    assert not [name for name in names if "k_scale" in name]


def test_stacked_models_are_sources_of_another_merge_and_of_slices(llamas, tmp_path):
    def stacked(expert: str, slices: str) -> dict[str, Any]:
        return {
            "base": str(llamas["base"]),
            "experts": [str(llamas[expert])],
            "merge_method": "passthrough",
            "slices": slices,
        }

    base, a = stacked("base", "0-3/1-4"), stacked("a", "0-3/1-4")
    stages: dict[str, Any] = {"base": base, "experts": [a], "merge_method": "linear"}
    folders = {}
    for name, stage in (("base", base), ("a", a)):
        folders[name] = write_folder(Merge(MergeSpec.parse(stage)), tmp_path / name, progress=False)
    for slices in (None, "0-2/4-6"):
        merged = Merge(MergeSpec.parse({**stages, "slices": slices}))
        keys = {"base": str(folders["base"]), "experts": str(folders["a"]), "merge_method": "linear", "slices": slices}
        written = Merge(MergeSpec.parse(keys))
        theirs = dict(written.stream())
        assert {name: torch.equal(tensor, theirs[name]) for name, tensor in merged.stream()} == dict.fromkeys(
            theirs, True
        )
        assert merged_config(merged)["num_hidden_layers"] == merged_config(written)["num_hidden_layers"]


def test_layers_that_a_source_does_not_have_are_told_all_at_once(llamas):
    assert told(llamas, "a", "long", slices="1:0-5/2:2-9/1:3-8") == [
        "slices: slice 0: 1:0-5: a has 4 layers, 0 to 3",
        "slices: slice 1: 2:2-9: long has 6 layers, 0 to 5",
        "slices: slice 2: 1:3-8: a has 4 layers, 0 to 3",
    ]


def test_sources_of_another_hidden_size_are_told_beside_layers_that_are_not_there(llamas):
    found = told(llamas, "base", "wide", "fat", slices="1:0-4/2:2-4/3:1-2/1:3-5")
    assert found[1] == "slices: slice 3: 1:3-5: base has 4 layers, 0 to 3"
    assert found[2].startswith("wide: layer 2 is not like the base's layers: 9 tensors (")
    assert found[2].endswith("input_layernorm.weight is [64], the base's [32]")
    assert found[3].startswith("fat: layer 1 is not like the base's layers: 3 tensors (mlp.down_proj.weight, ")


def test_the_blame_is_on_the_source_that_differs_from_the_base_wherever_it_stands(llamas):
    found = told(llamas, "fat", "base", slices="0-1", method="linear")
    assert len(found) > 1
    assert all(line.startswith("fat: ") for line in found[1:])


def test_another_architecture_is_told(llamas):
    assert "gpt2: is a gpt2, but base is a llama" in told(llamas, "base", "gpt2", slices="1:0-2/2:0-2")


def test_a_model_of_two_stacks_of_layers_is_refused_with_their_names(tmp_path):
    keys = families.make("qwen2_vl", tmp_path)
    with pytest.raises(CheckpointError, match=r"has 2 stacks of layers \(.*\); slices are of a model with one stack"):
        Merge(MergeSpec.parse({**keys, "merge_method": "linear", "slices": "0-1"}))


def test_a_fault_is_told_before_any_weight_is_read(llamas, monkeypatch):
    from della_bench.checkpoint.files import SafetensorsFile

    monkeypatch.setattr(SafetensorsFile, "tensor", lambda *_: pytest.fail("a weight is read"))
    assert told(llamas, "base", "wide", slices="1:0-9/2:0-2")
    merge(llamas, "a", "long", slices="1:0-2/2:0-2")

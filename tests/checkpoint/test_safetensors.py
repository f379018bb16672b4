"""What a folder must hold to be a checkpoint, and that opening one reads headers only."""

import json
import os
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from della_bench.checkpoint import TensorInfo, files, open_folder, open_source
from della_bench.errors import CheckpointError
from della_bench.spec import Source
from tests import tiny
from tests.checkpoint.conftest import tensors

INDEX = "model.safetensors.index.json"


def refused(folder):
    with pytest.raises(CheckpointError) as caught:
        open_folder(folder, "org/name")
    text = str(caught.value)
    assert text.startswith("org/name: ")
    assert caught.value.exit_code == 2
    return text


@pytest.fixture
def sharded(write):
    folder = write("sharded")
    (folder / "model.safetensors").unlink()
    shards: dict[str, dict[str, torch.Tensor]] = {f"model-0000{i}-of-00002.safetensors": {} for i in (1, 2)}
    for index, (name, tensor) in enumerate(tensors().items()):
        list(shards.values())[index % 2][name] = tensor + index
    for file, content in shards.items():
        save_file(content, folder / file)
    weight_map = {name: file for file, content in shards.items() for name in content}
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}), encoding="utf-8")
    return folder


def edit_index(folder, edit):
    data = json.loads((folder / INDEX).read_text())
    edit(data)
    (folder / INDEX).write_text(json.dumps(data), encoding="utf-8")


def test_a_single_file_is_read(write):
    folder = write("one", {"w": torch.arange(6.0).reshape(2, 3), "n": torch.tensor([1, 2])})
    checkpoint = open_folder(folder, "one")
    assert checkpoint.tensors == {"w": TensorInfo((2, 3), "F32"), "n": TensorInfo((2,), "I64")}
    assert checkpoint.files == [folder / "config.json", folder / "model.safetensors"]
    assert torch.equal(checkpoint.tensor("w").to_torch(), torch.arange(6.0).reshape(2, 3))
    assert checkpoint.tensor("n").to_torch().dtype == torch.int64
    assert (checkpoint.model_type, checkpoint.label) == ("llama", "one")


def test_shards_are_read_by_their_index(sharded):
    checkpoint = open_folder(sharded, "x")
    assert set(checkpoint.tensors) == set(tensors())
    for index, (name, tensor) in enumerate(tensors().items()):
        assert torch.equal(checkpoint.tensor(name).to_torch(), tensor + index)


def test_a_sharded_model_of_transformers_is_the_same_as_its_single_file(tmp_path):
    made = tiny.llama(0)
    one = open_folder(tiny.save(made, tmp_path / "one"), "one")
    many = open_folder(tiny.save(made, tmp_path / "many", max_shard_size="20KB"), "many")
    assert len(many.files) > 2
    assert many.tensors.keys() == one.tensors.keys()
    assert all(torch.equal(many.tensor(name).to_torch(), one.tensor(name).to_torch()) for name in one.tensors)


def test_a_single_file_of_another_name_is_read(write):
    folder = write("other")
    (folder / "model.safetensors").rename(folder / "weights.safetensors")
    assert set(open_folder(folder, "x").tensors) == set(tensors())


def test_a_source_is_opened_under_its_own_text(write):
    folder = write("a,b")
    assert open_source(Source(str(folder))).label == str(Source(str(folder)))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_the_float_dtypes_are_those_a_merge_computes_with(model, dtype):
    assert all(info.is_float for info in model("x", tensors(dtype=dtype)).tensors.values())


def test_integers_and_bools_are_taken_and_are_no_floats(model):
    content = {"i": torch.tensor([1]), "b": torch.tensor([True]), "u": torch.tensor([1], dtype=torch.uint8)}
    assert not any(info.is_float for info in model("x", content).tensors.values())


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_a_float_of_eight_bits_is_refused_by_its_tensors_name(write, dtype):
    text = refused(write("x", {**tensors(), "w": torch.zeros(2).to(dtype)}))
    assert "tensor w has dtype F8_" in text
    assert "BF16" in text


def test_a_tensor_prints_its_dtype_and_shape(model):
    assert str(model("x").tensors["model.norm.weight"]) == "F32 [4]"


def test_opening_reads_no_tensor(sharded, write, monkeypatch):
    def refuse(_path, _start, size):
        raise AssertionError(f"{size} bytes were mapped")

    monkeypatch.setattr(files, "_map", refuse)
    for folder in (sharded, write("one")):
        checkpoint = open_folder(folder, "x")
        assert checkpoint.tensors["model.norm.weight"].shape == (4,)
        with pytest.raises(AssertionError, match="16 bytes were mapped"):
            checkpoint.tensor("model.norm.weight")


def test_a_checkpoint_whose_data_are_garbage_opens(write):
    folder = write("x")
    file = folder / "model.safetensors"
    header = 8 + int.from_bytes(file.read_bytes()[:8], "little")
    file.write_bytes(file.read_bytes()[:header] + b"\xff" * (file.stat().st_size - header))
    checkpoint = open_folder(folder, "x")
    assert checkpoint.tensors["model.norm.weight"].shape == (4,)
    assert checkpoint.tensor("model.norm.weight").to_torch().isnan().all()


def test_a_folder_without_a_config_is_no_model(tmp_path):
    assert f"no model folder: {tmp_path} holds no config.json" in refused(tmp_path)


def test_a_folder_that_is_gone_is_no_model(tmp_path):
    assert "no model folder" in refused(tmp_path / "missing")


@pytest.mark.parametrize("content", ["", "{", "[]", "null", b"\xff\xfe{}"])
def test_a_broken_config_is_named(write, content):
    folder = write("x")
    (folder / "config.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    assert str(folder / "config.json") in refused(folder)


@pytest.mark.parametrize("left", [0, 1, 7, 8, 30, -1])
def test_a_truncated_file_is_named(write, left):
    folder = write("x")
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:left])
    assert "model.safetensors is no readable safetensors file" in refused(folder)


@pytest.mark.parametrize("content", [b"not safetensors at all", b"\xff" * 64, b"\x02" + b"\x00" * 7 + b"{}extra"])
def test_a_file_that_is_no_safetensors_is_named(write, content):
    folder = write("x")
    (folder / "model.safetensors").write_bytes(content)
    assert "model.safetensors is no readable safetensors file" in refused(folder)


def test_a_truncated_shard_is_named(sharded):
    file = sharded / "model-00002-of-00002.safetensors"
    file.write_bytes(file.read_bytes()[:-4])
    assert "model-00002-of-00002.safetensors is no readable" in refused(sharded)


def test_a_file_that_cannot_be_mapped_is_named(write, monkeypatch):
    def full(*arguments, **options):
        raise OSError("unable to mmap: Cannot allocate memory")

    monkeypatch.setattr(files, "safe_open", full)
    assert "Cannot allocate memory" in refused(write("x"))


def test_all_missing_shards_are_named(sharded):
    edit_index(sharded, lambda data: data["weight_map"].update(x="model-3.safetensors", y="model-4.safetensors"))
    text = refused(sharded)
    assert "model-3.safetensors, model-4.safetensors" in text
    assert "model-00001" not in text


def test_tensors_that_only_the_index_knows_are_the_checkpoints_absent_ones(sharded):
    file = "model-00001-of-00002.safetensors"
    edit_index(sharded, lambda data: data["weight_map"].update(ghost=file, spirit=file))
    opened = open_folder(sharded, "x")
    assert opened.absent == ["ghost", "spirit"]
    assert set(opened.tensors) == set(tensors())


def test_tensors_that_only_the_shards_know_are_taken(sharded):
    edit_index(sharded, lambda data: data["weight_map"].pop("lm_head.weight"))
    assert set(open_folder(sharded, "x").tensors) == set(tensors())


@pytest.mark.parametrize("weight_map", [None, {}, [], "x", {"w": 3}, {"w": ["a"]}, {"w": None}])
def test_an_index_without_a_map_is_refused(sharded, weight_map):
    edit_index(sharded, lambda data: data.update(weight_map=weight_map))
    assert f"{INDEX} holds no weight_map" in refused(sharded)


def test_a_broken_index_is_named(sharded):
    (sharded / INDEX).write_text("{", encoding="utf-8")
    assert INDEX in refused(sharded)


def test_shards_without_an_index_are_no_model(sharded):
    (sharded / INDEX).unlink()
    assert f"2 files of weights in {sharded} but no {INDEX}" in refused(sharded)


def test_safetensors_beside_torch_weights_are_read(write):
    folder = write("x")
    shutil.copy(folder / "model.safetensors", folder / "pytorch_model.bin")
    assert set(open_folder(folder, "x").tensors) == set(tensors())


def test_a_folder_without_weights_is_no_model(write):
    folder = write("x")
    (folder / "model.safetensors").unlink()
    assert f"no weights in {folder}" in refused(folder)


def test_a_whole_model_that_was_an_adapter_is_a_model(write):
    assert open_folder(write("x", adapter_config={"peft_type": "LORA"}), "x").tensors


def test_a_file_that_shrinks_after_it_was_opened_is_named_with_the_tensor(write):
    folder = write("x")
    checkpoint = open_folder(folder, "x")
    file = folder / "model.safetensors"
    os.truncate(file, file.stat().st_size - 1)
    last = list(checkpoint.tensors)[-1]
    with pytest.raises(
        CheckpointError, match=rf"x: model\.safetensors: tensor {last} cannot be read: the file ends 1 b"
    ):
        checkpoint.tensor(last)
    file.unlink()
    with pytest.raises(CheckpointError, match=rf"tensor {last} cannot be read: No such file"):
        checkpoint.tensor(last)


def test_the_tokenizers_config_is_empty_where_there_is_none(model):
    assert model("x").tokenizer_config == {}
    assert model("y", tokenizer_config={"a": 1}).tokenizer_config == {"a": 1}


def test_loaded_tensors_are_what_safetensors_reads(family):
    checkpoint = open_folder(family["a"], "a")
    stored = load_file(family["a"] / "model.safetensors")
    assert stored.keys() == checkpoint.tensors.keys()
    assert all(torch.equal(checkpoint.tensor(name).to_torch(), tensor) for name, tensor in stored.items())

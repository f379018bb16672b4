"""Checkpoints in torch's own files: the same as in safetensors, without running what their pickles want."""

import argparse
import json
import os

import pytest
import torch
from safetensors.torch import load_file

from della_bench.checkpoint import open_folder
from della_bench.errors import CheckpointError
from tests.checkpoint.conftest import tensors

FILE, INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"


@pytest.fixture
def bin_folder(write):
    """Write a folder whose weights are what torch.save makes of `content`."""

    def make(content, **options):
        folder = write("x")
        (folder / "model.safetensors").unlink()
        torch.save(content, folder / FILE, **options)
        return folder

    return make


@pytest.fixture
def sharded(write):
    folder = write("sharded")
    (folder / "model.safetensors").unlink()
    weight_map = {}
    for i, name in enumerate(tensors()):
        weight_map[name] = f"pytorch_model-{i % 2 + 1:05}-of-00002.bin"
    for file in set(weight_map.values()):
        torch.save({name: tensors()[name] for name, of in weight_map.items() if of == file}, folder / file)
    (folder / INDEX).write_text(json.dumps({"weight_map": weight_map}))
    return folder


def refused(folder):
    with pytest.raises(CheckpointError) as caught:
        open_folder(folder, "org/name")
    text = str(caught.value)
    assert text.startswith("org/name: ")
    assert "\n" not in text
    assert caught.value.exit_code == 2
    return text


def assert_is(checkpoint, content):
    assert set(checkpoint.tensors) == set(content)
    for name, tensor in content.items():
        loaded = checkpoint.tensor(name).to_torch()
        assert loaded.dtype == tensor.dtype
        assert torch.equal(loaded, tensor)
        assert checkpoint.tensors[name].shape == tuple(tensor.shape)


@pytest.mark.parametrize("options", [{}, {"_use_new_zipfile_serialization": False}], ids=["zip", "legacy"])
def test_a_torch_file_is_the_same_as_its_safetensors(bin_folder, options):
    content = {**tensors(dtype=torch.bfloat16), "n": torch.tensor([1, 2])}
    checkpoint = open_folder(bin_folder(content, **options), "x")
    assert_is(checkpoint, content)
    assert {str(info) for info in checkpoint.tensors.values()} == {"BF16 [8, 4]", "BF16 [6, 4]", "BF16 [4]", "I64 [2]"}
    assert FILE in {path.name for path in checkpoint.files}


def test_shards_are_read_by_their_index(sharded):
    checkpoint = open_folder(sharded, "x")
    assert_is(checkpoint, tensors())
    assert len(checkpoint.files) == 3


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.bool, torch.int8, torch.uint8]
)
def test_dtypes_have_their_safetensors_names(bin_folder, model, dtype):
    content = {"w": torch.ones(2, 3).to(dtype)}
    (info,) = open_folder(bin_folder(content), "x").tensors.values()
    (wanted,) = model("y", content).tensors.values()
    assert str(info) == str(wanted)


def test_opening_maps_a_file_and_reads_no_tensor(bin_folder, monkeypatch):
    load, asked = torch.load, []

    def spied(path, **options):
        asked.append(options)
        return load(path, **options)

    monkeypatch.setattr(torch, "load", spied)
    open_folder(bin_folder(tensors()), "x")
    assert asked == [{"map_location": "cpu", "weights_only": True, "mmap": True}]


def test_safetensors_win_over_torch_files(bin_folder, write):
    folder = write("both")
    torch.save({"other": torch.ones(1)}, folder / FILE)
    assert_is(open_folder(folder, "x"), load_file(folder / "model.safetensors"))


def test_what_a_trainer_leaves_beside_the_weights_does_not_matter(bin_folder):
    folder = bin_folder(tensors())
    torch.save({"lr": argparse.Namespace()}, folder / "training_args.bin")
    torch.save({}, folder / "optimizer.bin")
    assert_is(open_folder(folder, "x"), tensors())


def test_parameters_views_and_shared_storages_are_plain_tensors(bin_folder):
    wide = torch.arange(12.0).reshape(3, 4)
    content = {"p": torch.nn.Parameter(wide), "t": wide.T, "row": wide[1], "tied": wide}
    checkpoint = open_folder(bin_folder(content), "x")
    assert_is(checkpoint, {"p": wide, "t": wide.T, "row": wide[1], "tied": wide})
    assert all(checkpoint.tensor(name).to_torch().is_contiguous() for name in content)
    assert not checkpoint.tensor("p").to_torch().requires_grad


def test_weights_under_state_dict_are_found_and_what_is_no_tensor_is_left_out(bin_folder):
    assert_is(open_folder(bin_folder({"state_dict": {**tensors(), "version": 3}, "epoch": 5}), "x"), tensors())


class Command:
    def __reduce__(self):
        return (os.system, ("touch ran",))


@pytest.mark.parametrize("options", [{}, {"_use_new_zipfile_serialization": False}], ids=["zip", "legacy"])
@pytest.mark.parametrize(
    ("thing", "wanted"), [(Command(), "posix.system"), (argparse.Namespace(a=1), "argparse.Namespace")]
)
def test_a_pickle_that_wants_more_than_tensors_is_refused_and_not_run(
    bin_folder, tmp_path, monkeypatch, thing, wanted, options
):
    monkeypatch.chdir(tmp_path)
    text = refused(bin_folder({**tensors(), "thing": thing}, **options))
    assert text == f"org/name: {FILE} is refused: its pickle wants {wanted}, and only tensors are taken from one"
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("options", [{}, {"_use_new_zipfile_serialization": False}], ids=["zip", "legacy"])
@pytest.mark.parametrize("left", [0, 1, 30, 200, -200, -1])
def test_a_truncated_file_is_named(bin_folder, left, options):
    file = bin_folder(tensors(), **options) / FILE
    file.write_bytes(file.read_bytes()[:left])
    assert f"{FILE} is " in refused(file.parent)  # no readable file, or one that wants half a name


@pytest.mark.parametrize("content", [b"garbage" * 100, b"PK\x03\x04" + b"\0" * 99, b"version"])
def test_a_file_that_is_no_torch_file_is_named(bin_folder, content):
    folder = bin_folder(tensors())
    (folder / FILE).write_bytes(content)
    assert f"{FILE} is no readable torch file" in refused(folder)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ([torch.ones(2)], "holds a list, not tensors by name"),
        (torch.ones(2), "holds a Tensor, not tensors by name"),
        ({}, "holds no tensors"),
        ({"epoch": 3}, "holds no tensors"),
        ({"w": torch.eye(2).to_sparse()}, "tensor w is torch.sparse_coo"),
        ({"w": torch.ones(2, device="meta")}, "tensor w is without data"),
        ({"w": torch.ones(2, dtype=torch.complex64)}, "tensor w has dtype complex64"),
        ({"w": torch.ones(2).to(torch.float8_e4m3fn)}, "tensor w has dtype float8_e4m3fn"),
    ],
    ids=["list", "tensor", "empty", "numbers", "sparse", "meta", "complex", "fp8"],
)
def test_what_cannot_be_merged_is_named_with_file_and_tensor(bin_folder, content, told):
    text = refused(bin_folder(content))
    assert text.startswith(f"org/name: {FILE}")
    assert told in text


def test_all_missing_shards_are_named(sharded):
    for file in sharded.glob("*.bin"):
        if "00002-of" in file.name:
            file.unlink()
    assert f"{INDEX} names shards that are not there: pytorch_model-00002-of-00002.bin" in refused(sharded)


def test_tensors_that_only_the_index_knows_are_the_checkpoints_absent_ones(sharded):
    data = json.loads((sharded / INDEX).read_text())
    data["weight_map"]["ghost"] = "pytorch_model-00001-of-00002.bin"
    (sharded / INDEX).write_text(json.dumps(data))
    assert open_folder(sharded, "x").absent == ["ghost"]


def test_a_truncated_shard_is_named(sharded):
    file = sharded / "pytorch_model-00002-of-00002.bin"
    file.write_bytes(file.read_bytes()[:-40])
    assert "pytorch_model-00002-of-00002.bin is no readable torch file" in refused(sharded)


def test_shards_without_an_index_are_no_model(sharded):
    (sharded / INDEX).unlink()
    assert f"2 files of weights in {sharded} but no {INDEX}" in refused(sharded)

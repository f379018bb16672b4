"""The stream on a device: in groups, with the errors of the stream on the CPU. Here the device is the CPU, too."""

from __future__ import annotations

import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from della_bench import zoo
from della_bench.errors import MergeError
from della_bench.merge import on_device, stream
from della_bench.merge.stream import Merge
from della_bench.spec import MergeSpec


@pytest.fixture(autouse=True)
def as_on_a_device(monkeypatch):
    monkeypatch.setattr(stream, "is_cpu", lambda device: False)


def merge_of(*experts, **more):
    numbers = {"merge_method": "della", "density": 0.6, "epsilon": 0.1, **more}
    return Merge(MergeSpec.parse({"base": "zoo:base", "experts": list(experts), **numbers}))


@pytest.mark.parametrize("size", [1, 200_000, 2**33])
@pytest.mark.parametrize("dtype", [None, "bfloat16"])
def test_a_merge_in_groups_of_any_size_is_the_merge(monkeypatch, size, dtype):
    merge = merge_of("zoo:math", "zoo:code", **({"dtype": dtype} if dtype else {}))
    on_cpu = {name: tensor.to_torch() for name, tensor in merge.stream_host(owned=True)}
    monkeypatch.setattr(on_device, "_GROUP", size)
    found = dict(merge.stream("cpu"))
    assert list(found) == list(on_cpu)
    assert all(torch.equal(found[name], tensor) for name, tensor in on_cpu.items())
    some = list(on_cpu)[3:5]
    assert list(dict(merge.stream("cpu", some))) == some


@pytest.mark.parametrize("size", [1, 2**33])
def test_a_source_that_is_not_finite_is_named_before_its_tensor_is_handed_out(monkeypatch, tmp_path, size):
    monkeypatch.setattr(on_device, "_GROUP", size)
    name = "model.layers.1.mlp.up_proj.weight"
    folder = shutil.copytree(zoo.folder("math"), tmp_path / "broken")
    tensors = load_file(folder / "model.safetensors")
    tensors[name][3, 5] = torch.nan
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    handed_out: list[str] = []
    with pytest.raises(MergeError, match=rf"broken.*{name} holds NaN or infinity"):
        handed_out.extend(each for each, _ in merge_of("zoo:code", str(folder)).stream("cpu"))
    assert name not in handed_out


def test_a_result_that_its_dtype_does_not_hold_is_told():
    with pytest.raises(MergeError, match="overflows float16 when it is merged"):
        dict(merge_of("zoo:math", "zoo:code", dtype="float16", **{"lambda": 1e8}).stream("cpu"))

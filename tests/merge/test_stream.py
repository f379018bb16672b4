from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import weakref
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from della_bench.checkpoint import Checkpoint
from della_bench.errors import MergeError
from della_bench.merge.stream import Merge
from della_bench.merge.tensor import merge_tensor
from della_bench.spec import MergeSpec
from della_bench.spec.methods import METHODS
from tests.every_method import expert_count, needed_keys

SHAPES = {
    "norm.weight": (12,),
    "mlp.weight": (8, 20),
    "experts.weight": (3, 4, 6),
    "gate.weight": (9, 1),
    "one_row.weight": (1, 9),
    "scale": (),
}


def spec_of(family, **keys):
    experts = [str(family[name]) for name in "abc"]
    defaults = {"merge_method": "della", "density": [0.5, 0.6, 0.7], "epsilon": 0.14, "weights": [1.0, 0.5, 1.5]}
    return MergeSpec.parse(base=str(family["base"]), experts=experts, **{**defaults, **keys})


def digest(named):
    """SHA-256 over all tensors, by name, whatever the order in which they came."""
    parts = {name: tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() for name, tensor in named}
    whole = hashlib.sha256()
    for name in sorted(parts):
        whole.update(name.encode() + b"\0" + parts[name])
    return whole.hexdigest()


def write(folder, tensors, **config):
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "handmade", **config}))
    save_file(tensors, folder / "model.safetensors")
    return folder


@pytest.fixture
def handmade(tmp_path):
    """A base and three experts of tensors of every rank, with an integer and a bool one that differ."""
    generator = torch.Generator().manual_seed(0)
    folders = {}
    for k, label in enumerate(["base", "a", "b", "c"]):
        tensors = {name: torch.randn(shape, generator=generator).bfloat16() for name, shape in SHAPES.items()}
        tensors["steps"] = torch.tensor([k, 7])
        tensors["mask"] = torch.tensor([k == 0, True])
        folders[label] = write(tmp_path / label, tensors)
    return folders


def test_another_process_in_reverse_order_gives_the_same_bits(family):
    spec = spec_of(family)
    program = (
        "import sys\n"
        "from della_bench.merge.stream import Merge\n"
        "from della_bench.spec import MergeSpec\n"
        "from tests.merge.test_stream import digest\n"
        "merge = Merge(MergeSpec.parse(sys.argv[1]))\n"
        "print(digest(merge.stream(names=reversed(merge.names))))\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(spec)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == digest(Merge(spec).stream())


@pytest.mark.parametrize("method", ["della", "dare_ties", "ties"])
def test_a_tensor_alone_is_as_in_the_whole_stream(family, method):
    spec = spec_of(family, merge_method=method, epsilon=0.1 if method == "della" else None)
    whole = dict(Merge(spec).stream())
    other = Merge(spec)
    for name in ("model.layers.1.mlp.down_proj.weight", "model.norm.weight", "model.embed_tokens.weight"):
        assert torch.equal(other.tensor(name), whole[name])


def test_what_happens_to_other_tensors_does_not_matter(family, tmp_path):
    before = dict(Merge(spec_of(family)).stream())
    changed = {}
    for label, folder in family.items():
        tensors = load_file(folder / "model.safetensors")
        tensors["model.norm.weight"] += 1
        changed[label] = write(tmp_path / label, dict(reversed(tensors.items())), model_type="llama")
    after = dict(Merge(spec_of(changed)).stream())
    assert [name for name in before if not torch.equal(before[name], after[name])] == ["model.norm.weight"]


def test_a_sharded_copy_gives_the_same_bits(family, tmp_path):
    sharded = {}
    for label, folder in family.items():
        tensors = load_file(folder / "model.safetensors")
        names = sorted(tensors)
        sharded[label] = tmp_path / label
        sharded[label].mkdir()
        (sharded[label] / "config.json").write_text((folder / "config.json").read_text())
        weight_map = {name: f"model-{i % 3}.safetensors" for i, name in enumerate(names)}
        for file in set(weight_map.values()):
            save_file({name: tensors[name] for name in names if weight_map[name] == file}, sharded[label] / file)
        (sharded[label] / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert digest(Merge(spec_of(sharded)).stream()) == digest(Merge(spec_of(family)).stream())


def test_the_stream_yields_the_bases_names_shapes_and_dtypes_as_told_before(family):
    merge = Merge(spec_of(family, dtype="float32"))
    base = load_file(family["base"] / "model.safetensors")
    found = dict(merge.stream())
    assert list(found) == merge.names
    assert found.keys() == base.keys()
    assert all(tuple(found[name].shape) == merge.info(name).shape == tuple(base[name].shape) for name in base)
    assert {tensor.dtype for tensor in found.values()} == {torch.float32}
    assert {merge.info(name).dtype for name in base} == {"F32"}


def test_lambda_0_is_the_base_to_the_bit(family):
    base = load_file(family["base"] / "model.safetensors")
    assert digest(Merge(spec_of(family, **{"lambda": 0})).stream()) == digest(base.items())


def test_only_two_tensors_sources_are_held_and_each_is_read_once(family, monkeypatch):
    loads = []
    alive: dict[str, tuple[str, Any]] = {}
    load = Checkpoint.tensor

    def counted(self, name):
        others = {held for held, ref in list(alive.values()) if held != name and ref() is not None}
        assert len(others) <= 1, f"{name} is read while sources of {others} are held"
        tensor = load(self, name)
        loads.append((self.label, name))
        alive[self.label] = (name, weakref.ref(tensor.data))
        return tensor

    monkeypatch.setattr(Checkpoint, "tensor", counted)
    merge = Merge(spec_of(family))
    assert loads == []
    for name, tensor in merge.stream():
        assert tensor.shape == merge.info(name).shape
    assert len(loads) == len(set(loads)) == 4 * len(merge.names)


def test_one_source_given_twice_is_two_experts(family):
    experts = [str(family["a"]), str(family["a"])]
    keys = {"merge_method": "dare_linear", "density": 0.5}
    merge = Merge(MergeSpec.parse(base=str(family["base"]), experts=experts, **keys))
    name = "model.layers.0.mlp.up_proj.weight"
    base, expert = (load_file(family[label] / "model.safetensors")[name] for label in ("base", "a"))
    assert torch.equal(merge.tensor(name), merge_tensor(merge.spec, name, base, [expert, expert]))
    one_mask = merge_tensor(MergeSpec.parse(base="base", experts="a:2", **keys), name, base, [expert])
    assert not torch.equal(merge.tensor(name), one_mask)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("label", ["base", "b"])
def test_what_is_not_finite_is_named(handmade, label, value):
    file = handmade[label] / "model.safetensors"
    tensors = load_file(file)
    tensors["experts.weight"][2, 1, 3] = value
    save_file(tensors, file)
    merge = Merge(spec_of(handmade))
    with pytest.raises(MergeError, match=r"experts\.weight") as caught:
        dict(merge.stream())
    assert str(handmade[label]) in str(caught.value)
    assert merge.tensor("mlp.weight").isfinite().all()


@pytest.mark.parametrize("method", METHODS)
def test_tensors_of_every_rank_and_integers_go_through_every_method(handmade, method):
    row = METHODS[method]
    keys = needed_keys(row)
    labels = "abc"[: expert_count(row, 3)]
    if method == "slerp":
        keys["weights"] = 0.4
    experts = [str(handmade[label]) for label in labels]
    merge = Merge(MergeSpec.parse(base=str(handmade["base"]), experts=experts, merge_method=method, **keys))
    sources = {label: load_file(handmade[label] / "model.safetensors") for label in ("base", *labels)}
    found = dict(merge.stream())
    assert found.keys() == sources["base"].keys()
    for name in SHAPES:
        expected = merge_tensor(merge.spec, name, sources["base"][name], [sources[label][name] for label in labels])
        assert found[name].dtype == torch.bfloat16
        assert torch.equal(found[name], expected)
        # arcee_fusion moves outliers alone, of which a tensor of few elements has none.
        assert not torch.equal(found[name], sources["base"][name]) or name == "scale" or method == "arcee_fusion"
    assert found["steps"].tolist() == [0, 7]
    assert found["mask"].tolist() == [True, True]


def test_what_is_the_bases_alone_is_told_too_where_its_dtype_does_not_hold_it(family, tmp_path):
    base = shutil.copytree(family["base"], tmp_path / "base")
    tensors = load_file(base / "model.safetensors")
    tensors["model.layers.1.mlp.down_proj.weight"][0, 0] = 1e5
    save_file(tensors, base / "model.safetensors", metadata={"format": "pt"})
    spec = {"base": str(base), "experts": str(family["a"]), "merge_method": "ties", "density": 0.5}
    merge = Merge(MergeSpec.parse(spec, slices="0:0-1+1:0-1/0:1-2", dtype="float16"))
    with pytest.raises(MergeError, match=r"down_proj.weight overflows float16"):
        dict(merge.stream())


def test_integers_need_not_be_in_an_expert(handmade):
    file = handmade["b"] / "model.safetensors"
    save_file({name: tensor for name, tensor in load_file(file).items() if name in SHAPES}, file)
    assert Merge(spec_of(handmade)).tensor("steps").tolist() == [0, 7]


@pytest.mark.parametrize("method", ["task_arithmetic", "linear"], ids=["by compiled loops", "by the reference"])
def test_a_result_that_its_dtype_does_not_hold_names_the_tensor_and_a_dtype_that_does(tmp_path, method):
    """bfloat16 holds 1e5 and float16 ends at 65504; infinities would first show as NaN in the answers."""
    base, expert = (torch.full((4, 8), 1e5, dtype=torch.bfloat16) * (1 + k / 64) for k in (0, 1))
    folders = [write(tmp_path / str(k), {"fits": base / 1e5, "w": each}) for k, each in enumerate((base, expert))]
    spec = {"base": str(folders[0]), "experts": str(folders[1]), "merge_method": method}
    assert dict(Merge(MergeSpec.parse(spec)).stream())["w"].isfinite().all()
    told = r"tensor w overflows float16.*dtype=bfloat16 or float32 holds it"
    with pytest.raises(MergeError, match=told) as caught:
        dict(Merge(MergeSpec.parse(spec, dtype="float16")).stream())
    assert caught.value.exit_code == 2

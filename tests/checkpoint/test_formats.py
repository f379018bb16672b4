"""Checkpoint formats of other packages: found by their entry point, held to the contract, named where they fail."""

import json
import re
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from della_bench.checkpoint import formats, open_folder
from della_bench.errors import CheckpointError
from della_bench.merge.stream import Merge
from della_bench.spec import MergeSpec
from tests.checkpoint.conftest import LLAMA

NPZ = textwrap.dedent(re.search(r"# npz_weights.py\n((?: {4}.*\n|\n)*)", formats.__doc__ or "")[1])  # type: ignore[index]


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Install a package of one module, as pip leaves it: the module and a dist-info folder with its entry points."""

    def installed(code: str, name: str = "npz", version: str = "1.2"):
        site = tmp_path / f"site_{name}"
        info = site / f"{name}_weights-{version}.dist-info"
        info.mkdir(parents=True)
        (site / f"{name}_weights.py").write_text(code)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}-weights\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[{formats.GROUP}]\n{name} = {name}_weights:open_{name}\n")
        monkeypatch.syspath_prepend(str(site))
        monkeypatch.delitem(sys.modules, f"{name}_weights", raising=False)
        return site

    return installed


@pytest.fixture
def npz_folder(tmp_path):
    def write(name, **arrays):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(LLAMA))
        np.savez(folder / "weights.npz", **arrays)
        return folder

    return write


def refused(folder, **options):
    with pytest.raises(CheckpointError) as caught:
        open_folder(folder, "org/name", **options)
    assert caught.value.exit_code == 2
    text = str(caught.value)
    assert text.startswith("org/name: ")
    return text


def test_the_documented_format_reads_its_folder(install, npz_folder):
    install(NPZ)
    arrays = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "n": np.array([1, 2])}
    checkpoint = open_folder(npz_folder("model", **arrays), "x")
    assert {name: str(info) for name, info in checkpoint.tensors.items()} == {"w": "F32 [2, 3]", "n": "I64 [2]"}
    assert all(np.array_equal(checkpoint.tensor(name).to_torch().numpy(), array) for name, array in arrays.items())
    assert [file.name for file in checkpoint.files] == ["config.json", "weights.npz"]


def test_the_documented_format_names_a_file_that_it_cannot_read(install, npz_folder):
    install(NPZ)
    folder = npz_folder("model", w=np.zeros(3, dtype=np.float32))
    (folder / "weights.npz").write_bytes((folder / "weights.npz").read_bytes()[:50])
    assert "weights.npz: not readable: " in refused(folder)


def test_what_a_format_does_not_catch_names_its_package(install, npz_folder):
    install("def open_npz(folder, label, base):\n    raise ValueError('a bug')\n")
    text = refused(npz_folder("model", w=np.zeros(3, dtype=np.float32)))
    assert "the format 'npz' of npz-weights 1.2" in text
    assert "failed: ValueError: a bug" in text


def test_a_merge_of_a_strangers_format_has_the_bits_of_the_same_weights_in_safetensors(install, family, tmp_path):
    """In a process of its own: the format is known by nothing but its package's being installed."""
    site = install(NPZ)

    def spec(kind, save):
        sources = []
        for label in ("base", "a"):
            tensors = {name: tensor.float() for name, tensor in load_file(family[label] / "model.safetensors").items()}
            sources.append(tmp_path / f"{label}_{kind}")
            sources[-1].mkdir()
            (sources[-1] / "config.json").write_bytes((family[label] / "config.json").read_bytes())
            save(sources[-1] / f"model.{kind}", tensors)
        base, expert = map(str, sources)
        return MergeSpec.parse(base=base, experts=expert, merge_method="della", density=0.5, epsilon=0.2)

    arrays = spec("npz", lambda file, tensors: np.savez(file, **{name: t.numpy() for name, t in tensors.items()}))
    plain = spec("safetensors", lambda file, tensors: save_file(tensors, file))
    out = tmp_path / "out"
    program = f"import sys; sys.path.insert(0, {str(site)!r}); from della_bench.cli import main; main()"
    command = [sys.executable, "-c", program, "merge", str(arrays), "-o", str(out)]
    subprocess.run(command, capture_output=True, text=True, check=True)
    merged, wanted = load_file(out / "model.safetensors"), dict(Merge(plain).stream())
    assert merged.keys() == wanted.keys()
    assert all(torch.equal(merged[name], tensor) for name, tensor in wanted.items())


def test_other_packages_are_asked_only_where_no_built_in_format_knows_the_folder(model, install, monkeypatch):
    def refuse(**_):
        raise AssertionError("the entry points were read")

    install("raise AssertionError('imported')")
    monkeypatch.setattr(formats, "offered", refuse)
    assert model("x").tensors


def test_a_format_that_does_not_load_is_named_with_its_package(install, npz_folder):
    install("import there_is_no_such_module")
    text = refused(npz_folder("model", w=np.ones(2)))
    assert "no weights in" in text
    assert "the format 'npz' of npz-weights 1.2 (npz_weights:open_npz) cannot be loaded: ModuleNotFoundError" in text
    assert "there_is_no_such_module" in text


def test_a_format_that_does_not_load_keeps_no_other_from_its_folder(install, npz_folder):
    install("1 / 0", name="broken")
    install(NPZ)
    assert set(open_folder(npz_folder("model", w=np.ones(2)), "x").tensors) == {"w"}


def test_a_folder_of_no_format_is_told_with_the_formats_that_were_asked(install, npz_folder):
    install(NPZ)
    folder = npz_folder("model", w=np.ones(2))
    (folder / "weights.npz").unlink()
    assert refused(folder).endswith("neither *.safetensors nor pytorch_model*.bin, and no files of npz")


def test_a_format_gets_the_base_where_the_folder_is_an_expert(install, model, npz_folder):
    install("def open_npz(folder, label, base):\n    return base")
    base = model("base")
    assert open_folder(npz_folder("model", w=np.ones(2)), "x", base) is base


def test_what_a_format_returns_must_be_a_model_folder(install, npz_folder):
    install("def open_npz(folder, label, base):\n    return {}")
    text = refused(npz_folder("model", w=np.ones(2)))
    assert "the format 'npz' of npz-weights 1.2 (npz_weights:open_npz) returned a dict, not a ModelFolder" in text


def test_a_dtype_that_cannot_be_merged_is_named_with_file_and_tensor(install, npz_folder):
    install(NPZ)
    text = refused(npz_folder("model", w=np.ones(2, np.complex64)))
    assert "weights.npz: tensor w has dtype complex64; weights in F64, F32, F16, BF16 can be merged" in text


def test_a_tensor_that_is_not_what_its_header_says_is_refused(install, npz_folder):
    install(NPZ.replace("TensorInfo(a.shape,", "TensorInfo(a.shape + (2,),"))
    checkpoint = open_folder(npz_folder("model", w=np.ones(2, np.float32)), "x")
    with pytest.raises(CheckpointError, match=r"x: weights\.npz: tensor w is F32 \[2\] and not, .* F32 \[2, 2\]"):
        checkpoint.tensor("w")

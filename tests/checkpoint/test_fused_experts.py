"""The experts of a mixture in one tensor, as transformers 5 may write them, beside experts in one matrix each."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from della_bench import load_merged
from della_bench.errors import CheckpointError
from della_bench.merge.fingerprint import Inputs
from della_bench.merge.folder import write_folder
from della_bench.merge.stream import Merge
from della_bench.spec import MergeSpec, Source
from tests import families, tiny

FORMS = ("parts", "fused")
DELLA = {"merge_method": "della", "density": 0.5, "epsilon": 0.2}
PROMPT = torch.tensor([[0, 5, 17, 40, 200, 258, 3, 9, 9, 120]])
# family: names of the experts in parts, and fused
MIXTURES = {
    "qwen3_moe": ("mlp.experts.0.gate_proj.weight", "mlp.experts.gate_up_proj"),
    "qwen3_next": ("mlp.experts.0.gate_proj.weight", "mlp.experts.gate_up_proj"),
    "mixtral": ("block_sparse_moe.experts.0.w1.weight", "mlp.experts.gate_up_proj"),
}


@pytest.fixture(scope="module", params=MIXTURES)
def mixture(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A family, and a folder with a base and a fine-tune of it in both forms."""
    folder = tmp_path_factory.mktemp(request.param)
    base = families.model(request.param)
    for name, model in (("base", base), ("expert", tiny.perturbed(families.model(request.param), 1))):
        tiny.save(model, folder / f"{name}-parts")
        tiny.save(model, folder / f"{name}-fused", save_original_format=False)
    return request.param, folder


def merge_of(folder: Path, base: str, expert: str, **others: Any) -> Merge:
    keys = {"base": str(folder / f"base-{base}"), "experts": str(folder / f"expert-{expert}"), **DELLA, **others}
    return Merge(MergeSpec.parse(keys))


def test_transformers_writes_these_two_forms(mixture):
    family, folder = mixture
    for form, name in zip(FORMS, MIXTURES[family], strict=True):
        assert f"model.layers.1.{name}" in load_file(folder / f"base-{form}" / "model.safetensors")


@pytest.mark.parametrize("form", FORMS)
def test_an_expert_in_the_other_form_gives_the_same_merge_to_the_bit(mixture, form, caplog):
    _, folder = mixture
    wanted = dict(merge_of(folder, form, form).stream())
    (other,) = set(FORMS) - {form}
    caplog.clear()
    merge = merge_of(folder, form, other)
    assert not caplog.records
    merged = dict(merge.stream())
    assert merged.keys() == wanted.keys()
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in merged.items())
    assert len({Inputs(merge).fingerprint, Inputs(merge_of(folder, form, form)).fingerprint}) == 2  # of other files


@pytest.mark.parametrize("form", FORMS)
@torch.no_grad()
def test_a_merge_of_both_forms_is_the_same_model_live_and_written(mixture, form, tmp_path):
    _, folder = mixture
    (other,) = set(FORMS) - {form}
    merge = merge_of(folder, form, other, merge_method="task_arithmetic")
    live, _ = load_merged(merge.spec, progress=False)
    written, told = AutoModelForCausalLM.from_pretrained(
        write_folder(merge, tmp_path / "out", progress=False), output_loading_info=True
    )
    assert not told["missing_keys"]
    expert = AutoModelForCausalLM.from_pretrained(folder / "expert-parts")
    assert torch.equal(live(PROMPT).logits, written(PROMPT).logits)
    torch.testing.assert_close(live(PROMPT).logits, expert(PROMPT).logits, rtol=1e-3, atol=1e-4)


def test_a_merge_of_merges_takes_both_forms(mixture):
    _, folder = mixture
    inner = f"base={folder / 'base-fused'},experts={folder / 'expert-fused'},merge_method=task_arithmetic"
    staged = str(Source(inner, scheme="merge"))
    merged = dict(
        Merge(MergeSpec.parse(base=str(folder / "base-parts"), experts=staged, merge_method="linear")).stream()
    )
    expert = load_file(folder / "expert-parts" / "model.safetensors")
    assert merged.keys() == expert.keys()
    for name, tensor in merged.items():
        torch.testing.assert_close(tensor, expert[name])


def test_slices_take_layers_of_both_forms(mixture):
    family, folder = mixture
    if family == "mixtral":
        pytest.skip("its two forms name the router of a layer in two ways, and slices go by names")
    layers = [{"sources": [{"model": str(folder / f"{name}"), "layer_range": [layer, layer + 1]}]}
              for layer, name in enumerate(("base-parts", "expert-fused"))]  # fmt: skip
    merged = dict(
        Merge(MergeSpec.parse({"slices": layers, "merge_method": "passthrough", "dtype": "float32"})).stream()
    )
    stored = [load_file(folder / f"{name}-parts" / "model.safetensors") for name in ("base", "expert")]
    assert merged.keys() == stored[0].keys()
    for name, tensor in merged.items():
        if ".layers." in name:
            assert torch.equal(tensor, stored[int(".layers.1." in name)][name])


def test_an_expert_that_is_missing_is_an_error_that_names_the_tensors(mixture, tmp_path):
    family, folder = mixture
    for name in ("base-fused", "expert-parts"):
        shutil.copytree(folder / name, tmp_path / name)
    lost = f"model.layers.1.{MIXTURES[family][0]}"
    families.edit_tensors(tmp_path / "expert-parts", lambda tensors: {n: t for n, t in tensors.items() if n != lost})
    with pytest.raises(CheckpointError, match=r"model.layers.1.mlp.experts.gate_up_proj is missing"):
        merge_of(tmp_path, "fused", "parts")

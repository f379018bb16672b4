"""Adapters on a mixture's experts: `target_parameters`, and modules of experts that are fused by now."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from della_bench.checkpoint import check_fit, open_source
from della_bench.errors import CheckpointError
from della_bench.merge.stream import Merge
from della_bench.spec import MergeSpec, Source
from tests import families, tiny

peft = pytest.importorskip("peft")

EXPERTS = ["experts.gate_up_proj", "experts.down_proj"]
SQUARE = {"moe_intermediate_size": 32, "intermediate_size": 32}
# family, options of its config, settings of the adapter, how many of the model's parameters change in two layers
CASES = [
    ("qwen3_moe", {}, {"target_modules": ["q_proj"], "target_parameters": EXPERTS}, 6),
    ("qwen3_moe", {}, {"target_modules": [], "target_parameters": ["mlp.experts.down_proj"]}, 2),
    ("qwen3_moe", {}, {"target_modules": [], "target_parameters": ["gate_up_proj"], "use_rslora": True}, 2),
    ("qwen3_moe", SQUARE, {"target_modules": ["k_proj"], "target_parameters": EXPERTS, "lora_alpha": 3}, 6),
    (
        "qwen3_moe", {},
        {"target_modules": [], "target_parameters": ["model.layers.1.mlp.experts.gate_up_proj", "experts.down_proj"],
         "rank_pattern": {"layers.1.mlp.experts.gate_up_proj": 2, ".*down_proj": 5}, "alpha_pattern": {"down_proj": 7}},
        3,
    ),
    ("qwen3_moe", {}, {"target_modules": [], "target_parameters": ["mlp.gate.weight", "q_proj.weight"]}, 4),
    ("mixtral", {}, {"target_modules": ["v_proj"], "target_parameters": EXPERTS}, 6),
    ("gpt_oss", {}, {"target_modules": ["q_proj"], "target_parameters": EXPERTS}, 6),
    ("gpt_oss", SQUARE, {"target_modules": [], "target_parameters": EXPERTS}, 4),
    ("gpt_oss", {}, {"target_modules": [], "target_parameters": [*EXPERTS, "experts.gate_up_proj_bias"]}, 6),
]  # fmt: skip


def trained(folder: Path, family: str, options: dict[str, Any], **config: Any) -> dict[str, Path]:
    """Write a model in both forms, an adapter with random factors, and peft's merge of the two in both forms."""
    made = families.model(family, **options)
    save(made, folder, "base")
    with torch.random.fork_rng():
        torch.manual_seed(1)
        adapted = peft.get_peft_model(made, peft.LoraConfig(r=4, **config))
        with torch.no_grad():
            for parameter in adapted.parameters():
                if parameter.requires_grad:
                    parameter.copy_(torch.randn_like(parameter) * 0.1)
    adapted.save_pretrained(folder / "adapter")
    again = type(made).from_pretrained(folder / "base-parts", dtype=torch.float32)
    save(peft.PeftModel.from_pretrained(again, folder / "adapter").merge_and_unload(), folder, "merged")
    return {path.name: path for path in folder.iterdir()}


def save(model: Any, folder: Path, name: str) -> None:
    tiny.save(model, folder / f"{name}-parts")
    tiny.save(model, folder / f"{name}-fused", save_original_format=False)


def fit_of(base: Path, expert: Path) -> Any:
    opened = open_source(Source(str(base)))
    return check_fit(opened, [open_source(Source(str(expert)), opened)])[0]


@pytest.mark.parametrize(("family", "options", "config", "changed"), CASES, ids=str)
def test_an_adapter_on_parameters_is_pefts_merge_over_a_base_of_either_form(tmp_path, family, options, config, changed):
    made = trained(tmp_path, family, options, **config)
    for form in ("fused", "parts"):
        fit, wanted = (
            fit_of(made[f"base-{form}"], made["adapter"]),
            load_file(made[f"merged-{form}"] / "model.safetensors"),
        )
        assert fit.parameters.keys() == wanted.keys()
        different = 0
        for name, tensor in wanted.items():
            own = fit.tensor(name)
            assert own.info.shape == fit.parameters[name].shape
            torch.testing.assert_close(own.to_torch(), tensor, rtol=1e-6, atol=1e-6, msg=f"{form}: {name}")
            different += not torch.equal(own.to_torch(), fit.base.tensor(name).to_torch())
        if form == "fused":
            assert different == changed


def on_modules(folder: Path, family: str, leaves: dict[str, tuple[int, int]], module: str) -> Path:
    """Write an adapter as it was trained when each expert had modules of its own. leaves: (out, in) by the module."""
    generator = torch.Generator().manual_seed(3)
    tensors = {}
    for layer in range(2):
        for expert in range(4):
            for leaf, (out, into) in leaves.items():
                name = f"base_model.model.model.layers.{layer}.{module}.experts.{expert}.{leaf}"
                tensors[f"{name}.lora_A.weight"] = torch.randn(2, into, generator=generator) * 0.1
                tensors[f"{name}.lora_B.weight"] = torch.randn(out, 2, generator=generator) * 0.1
    folder.mkdir()
    settings = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": list(leaves)}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    save_file(tensors, folder / "adapter_model.safetensors")
    return folder


@pytest.mark.parametrize(
    ("family", "module", "leaves"),
    [
        ("qwen3_moe", "mlp", {"gate_proj": (24, 32), "up_proj": (24, 32), "down_proj": (32, 24)}),
        ("qwen3_moe", "mlp", {"up_proj": (24, 32)}),
        ("mixtral", "block_sparse_moe", {"w1": (48, 32), "w2": (32, 48), "w3": (48, 32)}),
    ],
)
def test_an_adapter_on_the_modules_of_single_experts_fits_a_base_that_has_them_fused(tmp_path, family, module, leaves):
    save(families.model(family), tmp_path, "base")
    adapter = on_modules(tmp_path / "adapter", family, leaves, module)
    parts, fused = (
        dict(Merge(MergeSpec.parse(base=str(tmp_path / f"base-{form}"), experts=str(adapter),
                                   merge_method="task_arithmetic")).stream())
        for form in ("parts", "fused")
    )  # fmt: skip
    changed = 0
    for name, tensor in fused.items():
        if ".experts." not in name:
            continue
        stem, down = name.rpartition(".experts.")[0].replace(".mlp", f".{module}"), name.endswith("down_proj")
        wide = {"mlp": ("gate_proj", "up_proj", "down_proj"), "block_sparse_moe": ("w1", "w3", "w2")}[module]
        own = [
            [parts[f"{stem}.experts.{e}.{leaf}.weight"] for leaf in (wide[2:] if down else wide[:2])] for e in range(4)
        ]
        assert torch.equal(tensor, torch.stack([torch.cat(each) for each in own]))
        stored = load_file(tmp_path / "base-fused" / "model.safetensors")[name]
        changed += not torch.equal(tensor, stored)
    assert changed == (4 if wide[2] in leaves else 2)


def test_an_adapter_on_parameters_is_one_model_with_its_base(tmp_path):
    made = trained(tmp_path, "qwen3_moe", {}, target_modules=[], target_parameters=EXPERTS)
    keys = {"base": str(made["base-parts"]), "merge_method": "linear"}
    merge = Merge(MergeSpec.parse(experts=f"{made['base-fused']}::{made['adapter']}", **keys))
    wanted = load_file(made["merged-parts"] / "model.safetensors")
    for name, tensor in merge.stream():
        torch.testing.assert_close(tensor, wanted[name], rtol=1e-6, atol=1e-6)


def test_ranks_that_are_not_those_of_each_expert_are_told(tmp_path):
    made = trained(tmp_path, "qwen3_moe", {}, target_modules=[], target_parameters=["experts.down_proj"])
    path = made["adapter"] / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"r": 3}))
    with pytest.raises(CheckpointError, match=r"\[16, 16\], the config's is 3 for each of 4 experts"):
        fit_of(made["base-parts"], made["adapter"])


def test_parameters_that_are_no_list_of_names_are_told(tmp_path):
    made = trained(tmp_path, "qwen3_moe", {}, target_modules=[], target_parameters=["experts.down_proj"])
    path = made["adapter"] / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"target_parameters": "experts"}))
    with pytest.raises(CheckpointError, match="target_parameters is 'experts', not a list of names"):
        fit_of(made["base-parts"], made["adapter"])

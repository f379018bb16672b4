"""A merge as the source of another one, and an adapter on an expert, are what two steps by disk would give."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from della_bench.checkpoint import open_source
from della_bench.errors import CheckpointError, UsageError
from della_bench.merge.card import make_card
from della_bench.merge.fingerprint import fingerprint, input_files
from della_bench.merge.folder import write_folder
from della_bench.merge.stream import Merge
from della_bench.models.residency import Residency
from della_bench.spec import MergeSpec, Source
from tests import tiny

Folders = dict[str, Path]


def first(family: Folders, **changed: Any) -> dict[str, Any]:
    experts = [str(family["a"]), str(family["b"])]
    return {"base": str(family["base"]), "experts": experts, "merge_method": "ties", "density": 0.5, **changed}


def second(base: Any, *experts: Any) -> MergeSpec:
    return MergeSpec.parse(base=base, experts=list(experts), merge_method="della", density=0.5, epsilon=0.1)


def assert_same(one: Merge, other: Merge) -> None:
    found, wanted = dict(one.stream()), dict(other.stream())
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) and found[name].dtype == wanted[name].dtype for name in wanted)


@pytest.mark.parametrize("place", ["base", "expert", "both"])
def test_a_merge_of_a_merge_has_the_bits_that_two_steps_by_disk_give(family, tmp_path, place):
    written = str(write_folder(Merge(MergeSpec.parse(first(family))), tmp_path / "first", progress=False))

    def made(stage: Any) -> Merge:
        if place == "expert":
            return Merge(second(str(family["base"]), stage, str(family["c"])))
        return Merge(second(stage, *([stage] if place == "both" else []), str(family["c"])))

    assert_same(made(first(family)), made(written))


def test_a_stage_is_rounded_to_its_own_dtype(family, tmp_path):
    stage = first(family, dtype="float16")
    written = str(write_folder(Merge(MergeSpec.parse(stage)), tmp_path / "first", progress=False))
    assert_same(Merge(second(stage, str(family["c"]))), Merge(second(written, str(family["c"]))))


def test_stages_nest(family, tmp_path):
    middle = second(first(family), str(family["c"]))
    written = str(write_folder(Merge(middle), tmp_path / "middle", progress=False))
    assert_same(Merge(second(middle.as_keys(), str(family["a"]))), Merge(second(written, str(family["a"]))))


def test_a_merge_over_a_stage_is_a_model_with_config_and_tokenizer(family, tmp_path):
    spec = second(first(family), str(family["c"]))
    folder = write_folder(Merge(spec), tmp_path / "out", progress=False)
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder)
    assert torch.equal(model.state_dict()["lm_head.weight"], Merge(spec).tensor("lm_head.weight"))
    assert len(AutoTokenizer.from_pretrained(folder)) == 259


def test_the_fingerprint_tells_which_source_of_a_stage_is_which_but_not_where_it_lies(family, tmp_path):
    def named(stage: dict[str, Any]) -> str:
        spec = second(str(family["base"]), stage, str(family["c"]))
        merge = Merge(spec)
        digests = [
            {"role": role, "name": path.name, "sha256": path.read_bytes().hex()} for role, path in input_files(merge)
        ]
        return fingerprint(spec, digests)

    stage = first(family)
    copy = shutil.copytree(family["a"], tmp_path / "copy")
    assert named(first(family, experts=[str(copy), str(family["b"])])) == named(stage)
    assert named(first(family, name="other")) == named(stage)
    assert named(first(family, experts=[str(family["b"]), str(family["a"])])) != named(stage)
    assert named(first(family, density=0.6)) != named(stage)


def test_two_stages_over_the_same_files_are_kept_apart_in_memory(family):
    residency = Residency("cpu", "cpu")
    merges = [Merge(second(first(family, density=density), str(family["c"]))) for density in (0.2, 0.9)]
    for merge in merges:
        kept = dict(residency.attach(merge).stream())
        assert_same(merge, Merge(merge.spec))
        assert all(torch.equal(kept[name], tensor) for name, tensor in Merge(merge.spec).stream())


def test_a_folder_that_a_stage_reads_is_never_written_over(family):
    with pytest.raises(UsageError):
        write_folder(Merge(second(str(family["base"]), first(family))), family["a"], overwrite=True)


@pytest.fixture(scope="module")
def adapted(family, tmp_path_factory):
    """A LoRA adapter trained on the expert `a`, and `a` with it merged in by PEFT, in float32."""
    peft = pytest.importorskip("peft")
    from transformers import AutoModelForCausalLM

    root = tmp_path_factory.mktemp("adapted")
    with torch.random.fork_rng():
        torch.manual_seed(5)
        model = AutoModelForCausalLM.from_pretrained(family["a"], dtype=torch.float32)
        model = peft.get_peft_model(model, peft.LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "up_proj"]))
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data.normal_(std=0.05)
    model.save_pretrained(root / "lora")
    tiny.save(model.merge_and_unload(), root / "whole")
    return {"lora": root / "lora", "whole": root / "whole"}


def test_an_adapter_on_an_expert_is_what_peft_merges(family, adapted):
    model = open_source(Source.parse(f"{family['a']}::{adapted['lora']}"))
    whole = open_source(Source(str(adapted["whole"])))
    assert (model.folder, model.config["model_type"]) == (family["a"], "llama")
    for name in whole.tensors:
        torch.testing.assert_close(
            model.tensor(name).to_torch().float(), whole.tensor(name).to_torch(), rtol=0, atol=1e-6
        )
    spec = MergeSpec.parse(
        base=str(family["base"]), experts=[f"{family['a']}::{adapted['lora']}"], merge_method="linear"
    )
    changed = dict(Merge(spec).stream())
    assert not torch.equal(
        changed["model.layers.0.mlp.up_proj.weight"],
        open_source(spec.base).tensor("model.layers.0.mlp.up_proj.weight").to_torch(),
    )


def test_the_card_names_what_a_stage_and_an_adapted_model_are_made_of(family, adapted):
    card = make_card(Merge(second(str(family["base"]), first(family), f"{family['c']}::{adapted['lora']}")))
    rows = [line for line in card.splitlines() if line.startswith(f"| `{family['base'].parent}")]
    rows += [line for line in card.splitlines() if line.startswith(f"| `{adapted['lora']}")]
    assert [row.split("|")[2].strip() for row in rows] == [
        "base", "part of a source that is a merge", "part of a source that is a merge", "expert", "adapter",
    ]  # fmt: skip


def test_the_base_and_a_stage_may_have_an_adapter_too(family, adapted, tmp_path):
    on_base = Merge(second(f"{family['a']}::{adapted['lora']}", str(family["c"])))
    folder = write_folder(on_base, tmp_path / "out", progress=False)
    assert json.loads((folder / "config.json").read_text())["model_type"] == "llama"
    stage = MergeSpec.parse(first(family))
    on_stage = Merge(second(str(family["base"]), f"{Source(str(stage), scheme='merge')}::{adapted['lora']}"))
    plain = Merge(second(str(family["base"]), str(Source(str(stage), scheme="merge"))))
    name = "model.layers.0.self_attn.q_proj.weight"
    assert not torch.equal(on_stage.tensor(name), plain.tensor(name))
    assert torch.equal(on_stage.tensor("lm_head.weight"), plain.tensor("lm_head.weight"))


def test_the_files_of_model_and_adapter_are_both_inputs_of_the_merge(family, adapted):
    merge = Merge(second(str(family["base"]), f"{family['a']}::{adapted['lora']}"))
    found = {(role, path.name) for role, path in input_files(merge)}
    assert {
        ("expert 0", "model.safetensors"),
        ("expert 0, adapter", "adapter_model.safetensors"),
        ("expert 0, adapter", "adapter_config.json"),
    } <= found


@pytest.mark.parametrize("behind", ["b", "base"])
def test_a_whole_model_behind_the_colons_is_no_adapter(family, behind):
    with pytest.raises(CheckpointError, match="is no LoRA adapter"):
        Merge(second(str(family["base"]), f"{family['a']}::{family[behind]}"))


def test_an_adapter_of_another_model_is_refused_by_what_it_changes(adapted, tmp_path):
    other = tiny.save(tiny.llama(0, layers=1), tmp_path / "shallow")
    with pytest.raises(CheckpointError, match=r"layers\.1\..* the base has no such parameter"):
        open_source(Source.parse(f"{other}::{adapted['lora']}"))


def test_slices_of_a_stage_have_the_bits_that_two_steps_by_disk_give(family, tmp_path):
    written = str(write_folder(Merge(MergeSpec.parse(first(family))), tmp_path / "first", progress=False))

    def stacked(stage: Any) -> Merge:
        experts = [stage, str(family["c"])]
        keys = {"experts": experts, "merge_method": "passthrough", "slices": "1:0-2/2:0-1"}
        return Merge(MergeSpec.parse(keys, base=stage))

    assert_same(stacked(first(family)), stacked(written))
    sliced = {
        "base": str(family["base"]),
        "experts": [str(family["a"])],
        "merge_method": "ties",
        "slices": ["0-1", "0-2"],
    }
    written = str(write_folder(Merge(MergeSpec.parse(sliced, density=0.5)), tmp_path / "sliced", progress=False))
    assert_same(Merge(second({**sliced, "density": 0.5}, written)), Merge(second(written, written)))
    roles = [line.split("|")[2].strip() for line in make_card(stacked(first(family))).splitlines() if line[:3] == "| `"]
    assert roles == ["part of a source that is a merge"] * 3 + ["expert"]


def test_a_stage_with_a_vocabulary_of_its_own_hands_it_on(family, tmp_path):
    from transformers import AutoTokenizer

    grown = {}
    for seed, token in enumerate(("<a>", "<b>"), start=1):
        model = tiny.perturbed(tiny.llama(0, vocab=260, dtype=torch.bfloat16), seed)
        grown[token] = str(tiny.save(model, tmp_path / token[1], tiny.tokenizer(extra=(token,))))
    stage = first(family, experts=list(grown.values()), tokenizer="union")
    written = str(write_folder(Merge(MergeSpec.parse(stage)), tmp_path / "first", progress=False))
    assert_same(Merge(second(stage, str(family["c"]))), Merge(second(written, str(family["c"]))))
    folder = write_folder(Merge(second(stage, str(family["c"]))), tmp_path / "out", progress=False)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert [tokenizer.decode(tokenizer.convert_tokens_to_ids(token)) for token in grown] == list(grown)
    assert json.loads((folder / "config.json").read_text())["vocab_size"] == 261


def test_an_engines_default_dtype_changes_no_bit_of_an_adapter(family, adapted):
    spec = MergeSpec.parse(
        base=str(family["base"]), experts=[f"{family['a']}::{adapted['lora']}"], merge_method="linear"
    )
    wanted = dict(Merge(spec).stream())
    torch.set_default_dtype(torch.bfloat16)  # as in a worker of vLLM while weights are loaded
    try:
        found = dict(Merge(spec).stream())
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(torch.equal(found[name], tensor) for name, tensor in wanted.items())


def test_a_stages_tokenizer_of_a_model_that_is_none_of_its_own_counts_in_the_fingerprint(family, tmp_path):
    def files(tokenizer: Path) -> set[tuple[str, Path]]:
        merge = Merge(second(str(family["base"]), first(family, tokenizer=str(tokenizer))))
        return {(role, path) for role, path in input_files(merge) if path.parent == tokenizer}

    other = shutil.copytree(family["c"], tmp_path / "other")
    assert ("expert 0, tokenizer", other / "tokenizer.json") in files(other)
    merge = Merge(second(str(family["base"]), first(family, chat_template=str(other))))
    assert ("expert 0, chat template", other / "tokenizer_config.json") in input_files(merge)

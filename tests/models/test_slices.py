"""A model of stacked layers: as in the folder that is written, as its layers by hand, and no other model's engine."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from lm_eval.models.huggingface import HFLM
from transformers import AutoModelForCausalLM, Gemma2Config, Gemma2ForCausalLM, PreTrainedModel

from della_bench.errors import SpecError
from della_bench.merge.folder import write_folder
from della_bench.merge.stream import Merge
from della_bench.models.hf import DellaMergedLM
from della_bench.run.engine import Engine
from della_bench.spec import MergeSpec
from tests import tiny
from tests.models.lm import ask

PROMPTS = ["One two three", "A", "def f(x):", "0123456789" * 3]
SLICES = {"merge_method": "passthrough", "slices": "1:0-3/2:1-4", "scale": "1@mlp:0.5/1"}


def gemma2(seed: int, *, layers: int) -> PreTrainedModel:
    """A small Gemma 2, whose layers look at a window of 8 tokens and at all tokens by turns."""
    options = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 2, "num_key_value_heads": 1}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = Gemma2Config(
            vocab_size=259, head_dim=16, num_hidden_layers=layers, sliding_window=8, bos_token_id=0, eos_token_id=1,
            pad_token_id=1, **options,
        )  # fmt: skip
        return Gemma2ForCausalLM(config).eval()


KINDS: dict[str, Callable[..., PreTrainedModel]] = {"llama": tiny.llama, "gpt2": tiny.gpt2, "gemma2": gemma2}


@pytest.fixture(scope="module", params=KINDS)
def sources(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    root = tmp_path_factory.mktemp(request.param)
    make = KINDS[request.param]
    return {
        name: str(tiny.save(tiny.perturbed(make(0, layers=4), seed, scale=0.05), root / name))
        for seed, name in enumerate(("base", "a", "b"))
    }


@pytest.fixture(scope="module")
def llamas(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("llamas")
    return {
        name: str(tiny.save(tiny.llama(seed, layers=4), root / name)) for seed, name in enumerate(("base", "a", "b"))
    }


def keys(sources: dict[str, str], **others: Any) -> dict[str, Any]:
    return {"base": sources["base"], "experts": [sources["a"], sources["b"]], **others}


def test_a_stacked_model_answers_as_in_the_folder_that_is_written(sources, tmp_path):
    spec = MergeSpec.parse(keys(sources, **SLICES))
    folder = write_folder(Merge(spec), tmp_path / "merged", progress=False)
    ours, theirs = DellaMergedLM(**spec.as_keys()), HFLM(pretrained=str(folder), device="cpu")
    assert ask(ours, *PROMPTS, tokens=16) == ask(theirs, *PROMPTS, tokens=16)
    assert ours.model.config.num_hidden_layers == theirs.model.config.num_hidden_layers == 6
    own, written = ours.model.state_dict(), theirs.model.state_dict()
    assert own.keys() == written.keys()
    assert all(torch.equal(own[name], written[name]) for name in own)
    assert getattr(ours.model.config, "layer_types", None) == getattr(theirs.model.config, "layer_types", None)


def test_layers_that_are_taken_apart_and_stacked_again_are_the_model_they_were(sources):
    stacked = DellaMergedLM(**keys(sources, merge_method="linear", slices="0-1/1-3/3-4"))
    whole = DellaMergedLM(**keys(sources, merge_method="linear"))
    ids = torch.arange(20)[None] * 7 % 259
    with torch.no_grad():
        assert torch.equal(stacked.model(ids).logits, whole.model(ids).logits)
    assert stacked.fingerprint != whole.fingerprint


def output_of(model: PreTrainedModel, layer: int, ids: torch.Tensor, given: torch.Tensor | None = None) -> torch.Tensor:
    """What a layer makes of `given` in its own model, with its own mask; without it, of what comes there anyway."""
    name = "transformer.h" if model.config.model_type == "gpt2" else "model.layers"
    module, seen = model.get_submodule(name)[layer], []
    hooks = [module.register_forward_hook(lambda _, args, out: seen.append(out[0] if isinstance(out, tuple) else out))]
    if given is not None:
        hooks.append(module.register_forward_pre_hook(lambda _, args: (given, *args[1:])))
    with torch.no_grad():
        model(ids, use_cache=False)
    for hook in hooks:
        hook.remove()
    return seen[0]


def test_a_stacked_model_computes_what_its_layers_compute_one_after_the_other(sources):
    lm = DellaMergedLM(**keys(sources, merge_method="passthrough", slices="1:0-2/2:1-4"))
    a, b = (AutoModelForCausalLM.from_pretrained(sources[name]).eval() for name in "ab")
    ids = torch.arange(20)[None] * 7 % 259
    hidden = output_of(a, 1, ids)  # its layers 0 and 1 are the first two
    for layer in (1, 2, 3):
        hidden = output_of(b, layer, ids, hidden)
    torch.testing.assert_close(output_of(lm.model, 4, ids), hidden, rtol=0, atol=1e-5)


def test_an_engine_refuses_layers_of_another_number_and_keeps_its_merge(llamas):
    lm = DellaMergedLM(**keys(llamas, merge_method="linear"))
    before, told = ask(lm, *PROMPTS), lm.fingerprint
    with pytest.raises(SpecError) as caught:
        lm.remerge(keys(llamas, **SLICES))
    assert str(caught.value) == (
        "slices=1:0-3/2:1-4: the engine runs a model of another shape (num_hidden_layers 6 for 4); another shape needs "
        "a new engine"
    )
    assert (ask(lm, *PROMPTS), lm.fingerprint) == (before, told)


def test_another_vocabulary_is_told_as_that_and_not_as_another_shape(llamas):
    lm = DellaMergedLM(**keys(llamas, merge_method="linear"))
    with pytest.raises(SpecError) as caught:
        lm.remerge(keys(llamas, merge_method="linear", tokenizer="base", pad_to_multiple_of=64))
    (fault,) = caught.value.faults
    assert fault.startswith("tokenizer=")
    with pytest.raises(SpecError) as caught:
        lm.remerge(keys(llamas, **SLICES, tokenizer="base", pad_to_multiple_of=64))
    assert [fault.partition("=")[0] for fault in caught.value.faults] == ["slices", "tokenizer"]


@pytest.mark.parametrize("resident", ["disk", "cpu"])
def test_an_engine_takes_other_layers_of_the_same_number(llamas, resident):
    lm = DellaMergedLM(**keys(llamas, **SLICES), resident=resident)
    for slices in ("1:1-4/2:0-3", "2:0-2/1:0-4", "1:0-3/2:1-4"):
        spec = keys(llamas, merge_method="passthrough", slices=slices)
        lm.remerge(spec)
        fresh = DellaMergedLM(**spec)
        assert all(torch.equal(own, fresh.model.state_dict()[name]) for name, own in lm.model.state_dict().items())
        assert lm.fingerprint == fresh.fingerprint


def test_one_source_given_twice_keeps_its_layers_apart_in_memory(llamas):
    keys_ = {"base": llamas["base"], "experts": [llamas["a"], llamas["a"]], "merge_method": "linear"}
    ours, on_disk = (
        DellaMergedLM(**keys_, weights=[0.25, 0.75], slices="1:0-2+2:2-4", resident=place) for place in ("cpu", "disk")
    )
    own = ours.model.state_dict()
    assert all(torch.equal(own[name], tensor) for name, tensor in on_disk.model.state_dict().items())
    a = Merge(MergeSpec.parse(base=llamas["base"], experts=llamas["a"], merge_method="linear"))
    for layer in range(2):
        parts = [a.tensor(f"model.layers.{each}.mlp.up_proj.weight") for each in (layer, layer + 2)]
        torch.testing.assert_close(own[f"model.layers.{layer}.mlp.up_proj.weight"], parts[0] / 4 + parts[1] * 3 / 4)


def test_the_only_slice_of_all_layers_is_the_model_without_it_to_the_engine_and_in_its_fingerprint(llamas):
    lm = DellaMergedLM(**keys(llamas, merge_method="linear"))
    told = lm.fingerprint
    lm.remerge(keys(llamas, merge_method="linear", slices="0-4"))
    assert lm.fingerprint == told


def test_a_run_starts_a_new_engine_for_a_model_of_another_shape(llamas):
    engine = Engine("hf", {"device": "cpu", "batch_size": 4})
    first = engine.load(MergeSpec.parse(keys(llamas, merge_method="linear")))
    second = engine.load(MergeSpec.parse(keys(llamas, **SLICES)))
    assert second is not first
    assert second.model.config.num_hidden_layers == 6
    engine.close()


def test_the_written_folder_says_what_it_is_made_of(llamas, tmp_path):
    spec = MergeSpec.parse(keys(llamas, **SLICES))
    folder = write_folder(Merge(spec), tmp_path / "merged", progress=False)
    assert json.loads((folder / "config.json").read_text())["num_hidden_layers"] == 6
    card = (folder / "README.md").read_text()
    assert 'slices: ["1:0-3", "2:1-4"]' in card
    assert MergeSpec.parse(json.loads((folder / "della_bench.json").read_text())["spec"]) == spec


@pytest.mark.vllm
@pytest.mark.slow
def test_vllm_answers_as_transformers_does_on_a_stacked_model(tmp_path, monkeypatch):
    monkeypatch.setenv("VLLM_CACHE_ROOT", str(tmp_path))
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    spec = {"base": "zoo:base", "experts": "zoo:math+zoo:code", "dtype": "float32"}
    stacked = {**spec, "merge_method": "passthrough", "slices": "1:0-3/2:1-4"}
    options = {"enforce_eager": True, "max_model_len": 512, "gpu_memory_utilization": 0.2}
    lm: Any = DellaMergedLM(engine="vllm", **stacked, **options)
    try:
        assert lm.model.llm_engine.vllm_config.model_config.hf_config.num_hidden_layers == 6
        assert ask(lm, *PROMPTS, tokens=24) == ask(DellaMergedLM(**stacked), *PROMPTS, tokens=24)
        with pytest.raises(SpecError, match="another shape needs a new engine"):
            lm.remerge({**spec, "merge_method": "linear"})
    finally:
        lm.model.llm_engine.engine_core.shutdown()

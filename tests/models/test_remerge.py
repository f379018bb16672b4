"""One transformers model takes one merge after another."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from lm_eval.api.model import CachingLM
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSeq2SeqLM, MarianConfig, MarianMTModel

from della_bench.errors import CheckpointError, MergeError, SpecError
from della_bench.merge.stream import Merge
from della_bench.models.build import build_model
from della_bench.models.hf import DellaMergedLM
from della_bench.models.overwrite import overwrite
from della_bench.spec import MergeSpec
from tests import tiny
from tests.architectures.test_architectures import ARCHITECTURES, Family, live, spec
from tests.models.lm import ask, keys

PROMPTS = ["One two three", "A", "def f(x):"]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_model_overwritten_by_a_merge_is_the_model_built_from_it(tmp_path, architecture):
    family = Family(tmp_path, architecture, "della", torch.float32)
    model, other = family.live, Merge(spec(family.folders, "ties"))
    places = {name: parameter.data_ptr() for name, parameter in model.named_parameters(remove_duplicate=False)}
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    overwrite(model, other, "cpu")
    wanted = live(other).state_dict()
    assert places == {name: p.data_ptr() for name, p in model.named_parameters(remove_duplicate=False)}
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, wanted[name]), name
        assert not torch.equal(tensor, before[name]), name


def test_a_parameter_that_the_new_merge_does_not_reach_is_an_error(family, monkeypatch):
    lm = DellaMergedLM(**keys(family, "a"))
    names = [name for name in lm.merge.names if "norm" not in name]
    monkeypatch.setattr(Merge, "names", property(lambda _: names))
    with pytest.raises(MergeError, match=r"no tensor of the merge went into model\.layers\.0\.input_layernorm\.weight"):
        overwrite(lm.model, lm.merge, "cpu")


def test_after_a_remerge_the_model_is_the_new_merge_in_answers_and_in_name(family, tmp_path):
    lm, fresh = (DellaMergedLM(**keys(family, *names)) for names in (("a", "b"), ("b", "c")))
    lm.remerge(keys(family, "b", "c"))
    assert ask(lm, *PROMPTS) == ask(fresh, *PROMPTS)
    assert lm.fingerprint == fresh.fingerprint
    assert lm.get_model_info() == fresh.get_model_info()
    lm.remerge(str(MergeSpec.parse(keys(family, "a", name="short"))))
    assert lm.get_model_info()["della_bench"]["name"] == "short"


def test_the_response_cache_keeps_merges_of_one_model_apart(family, tmp_path):
    lm = DellaMergedLM(**keys(family, "a", dtype="float32", **{"lambda_factor": 3.0}))
    cached = CachingLM(lm, str(tmp_path / "cache.db"))
    first = ask(cached, *PROMPTS)
    lm.remerge(keys(family, "b", dtype="float32", **{"lambda_factor": 3.0}))
    second = ask(cached, *PROMPTS)
    assert second == ask(lm, *PROMPTS)
    assert first != second


def test_a_chat_template_comes_and_goes_with_its_spec(family, tmp_path):
    other = tiny.save(tiny.llama(), tmp_path / "other", tiny.tokenizer(chat_template="{{ messages[0].content }}!"))
    lm = DellaMergedLM(**keys(family, "a"))
    lm.remerge(keys(family, "a", chat_template=str(other)))
    assert lm.apply_chat_template([{"role": "user", "content": "hi"}]) == "hi!"
    lm.remerge(keys(family, "a"))
    assert lm.tokenizer.chat_template is None


def test_a_base_that_is_a_merge_with_a_tokenizer_of_its_own_needs_another_engine(family, tmp_path):
    """The base's folder is the same, and the ids of its tokens are others."""
    other = shutil.copytree(family["base"], tmp_path / "other")
    text = (other / "tokenizer.json").read_text()
    tokens = json.loads(text)["model"]["vocab"]
    (one, id_one), (two, id_two) = list(tokens.items())[20:22]
    told = json.loads(text)
    told["model"]["vocab"] |= {one: id_two, two: id_one}
    (other / "tokenizer.json").write_text(json.dumps(told))

    def based(**more: str) -> dict[str, Any]:
        stage = {"base": str(family["base"]), "experts": [str(family["b"])], "merge_method": "task_arithmetic", **more}
        return {**keys(family, "a"), "base": stage}

    lm = DellaMergedLM(**keys(family, "a"))
    with pytest.raises(SpecError, match="another tokenizer than the engine runs"):
        lm.remerge(based(tokenizer=str(other)))
    lm.remerge(based())
    lm.remerge(based(tokenizer="union"))  # the same tokens with the same ids, in files of its own
    lm.remerge(based(tokenizer="base"))
    lm.remerge(keys(family, "a"))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"drop_rat": 0.3}, "drop_rat"),
        ({"dtype": "float32"}, "dtype=float32: the engine runs in bfloat16"),
        ({"base": "a"}, "another base needs a new engine"),
        ({"tokenizer": "other"}, "another one needs a new engine"),
        ({"experts": "other"}, "other: model.embed_tokens.weight is"),
    ],
)
def test_a_spec_that_does_not_fit_leaves_the_old_merge_usable(family, tmp_path, change, reason):
    places = {**family, "other": tiny.save(tiny.llama(hidden_act="relu", vocab=300), tmp_path / "other")}
    shutil.rmtree(tmp_path / "wide", ignore_errors=True)
    lm = DellaMergedLM(**keys(family, "a"))
    before, told = ask(lm, *PROMPTS), lm.fingerprint
    if change.get("experts"):
        tensors = load_file(places["other"] / "model.safetensors")
        tensors["model.embed_tokens.weight"] = tensors["model.embed_tokens.weight"][:, :16].contiguous()
        save_file(tensors, places["other"] / "model.safetensors", metadata={"format": "pt"})
    given = {key: str(places[value]) if value in places else value for key, value in change.items()}
    with pytest.raises((SpecError, CheckpointError), match=reason):
        lm.remerge({**keys(family, "a"), **given})
    assert (ask(lm, *PROMPTS), lm.fingerprint) == (before, told)


def broken(folder: Path, out: Path) -> Path:
    """Copy an expert and put a NaN into one of its last tensors."""
    shutil.copytree(folder, out)
    tensors = load_file(out / "model.safetensors")
    tensors["model.layers.1.mlp.up_proj.weight"][0, 0] = torch.nan
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    return out


def test_a_failure_while_loading_leaves_the_model_unusable_until_the_next_good_remerge(family, tmp_path):
    lm = DellaMergedLM(**keys(family, "a"))
    before, told = ask(lm, *PROMPTS), lm.fingerprint
    cached = CachingLM(lm, str(tmp_path / "cache.db"))
    ask(cached, *PROMPTS)
    bad = {**family, "bad": broken(family["b"], tmp_path / "bad")}
    with pytest.raises(MergeError, match="NaN"):
        lm.remerge(keys(bad, "bad"))
    for call in (lambda: ask(lm, "A"), lambda: ask(cached, *PROMPTS), lambda: lm.fingerprint, lm.get_model_info):
        with pytest.raises(MergeError, match=r"no merge is loaded.*NaN"):
            call()
    lm.remerge(keys(family, "a"))
    assert (ask(lm, *PROMPTS), lm.fingerprint) == (before, told)


def test_parameters_that_a_model_computes_itself_are_nobodys(tmp_path):
    """Marian's positions are parameters that transformers does not save."""
    config = MarianConfig(
        vocab_size=64, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, pad_token_id=1,
        decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, decoder_start_token_id=1, eos_token_id=0,
    )  # fmt: skip
    model = MarianMTModel(config)
    names = [str(tiny.save(tiny.perturbed(model, seed), tmp_path / str(seed))) for seed in range(3)]

    def merge(expert: str) -> Merge:
        return Merge(MergeSpec.parse(base=names[0], experts=expert, merge_method="task_arithmetic", weights=0.5))

    live, wanted = (
        build_model(merge(name), config, AutoModelForSeq2SeqLM, "cpu", progress=False) for name in names[1:]
    )
    overwrite(live, merge(names[2]), "cpu", progress=False)
    assert all(torch.equal(live.state_dict()[name], tensor) for name, tensor in wanted.state_dict().items())


def test_an_offloaded_model_is_refused(family, monkeypatch):
    lm: Any = DellaMergedLM(**keys(family, "a"))
    lm.model.model.norm.weight = torch.nn.Parameter(torch.empty(32, device="meta"))
    with pytest.raises(SpecError, match=r"model\.norm\.weight is offloaded"):
        lm.remerge(keys(family, "b"))

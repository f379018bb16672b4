"""What only one side has: taken from the base or left out where the model does not need it, an error where it does."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from della_bench import load_merged
from della_bench.checkpoint import check_fit, open_folder
from della_bench.errors import CheckpointError
from della_bench.merge.folder import write_folder
from della_bench.merge.stream import Merge
from della_bench.spec import MergeSpec
from tests import families

PROMPT = torch.tensor([[0, 5, 17, 40, 200, 258, 3, 9, 9, 120]])
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"

# family, names of tensors that its causal language model does not need
UNNEEDED = [
    ("llama", ["v_head.summary.weight", "v_head.summary.bias"]),
    ("llama", ["score.weight"]),
    ("llama", ["model.layers.0.self_attn.k_scale", "model.layers.0.self_attn.v_scale"]),
    ("qwen3_next", ["mtp.fc.weight", "mtp.layers.0.mlp.experts.0.up_proj.weight", "mtp.norm.weight"]),
    ("qwen3_moe", ["model.layers.2.eh_proj.weight", "model.layers.2.embed_tokens.weight"]),  # MTP, as DeepSeek numbers
    ("gpt2", ["transformer.h.0.attn.rotary.inv"]),
    ("qwen3_5", ["mtp.fc.weight"]),
]


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name.startswith("della_bench")]


def add(folder: Path, names: list[str], value: float = 0.5) -> None:
    families.edit_tensors(folder, lambda tensors: tensors | {name: torch.full((4, 4), value) for name in names})


def merge_of(keys: dict[str, Any], **others: Any) -> Merge:
    return Merge(MergeSpec.parse({**keys, **others}))


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    return model(PROMPT).logits


@pytest.mark.parametrize(("family", "names"), UNNEEDED, ids=str)
def test_what_only_an_expert_has_and_the_model_does_not_need_is_left_out_with_one_warning(
    tmp_path, caplog, family, names
):
    keys = families.make(family, tmp_path)
    before = dict(merge_of(keys).stream())
    add(tmp_path / "expert", names)
    merge = merge_of(keys)
    assert warnings(caplog) == [
        f"{keys['experts']}: has {len(names)} tensor{'s' if names[1:] else ''} ({', '.join(sorted(names))}) that the "
        "base's model has no place for: left out"
    ]
    after = dict(merge.stream())
    assert after.keys() == before.keys()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


@pytest.mark.parametrize("method", [{"merge_method": "linear"}, {"merge_method": "slerp", "weights": 0.3}, {}], ids=str)
@pytest.mark.parametrize(("family", "names"), UNNEEDED, ids=str)
def test_what_only_the_base_has_and_the_model_does_not_need_is_the_bases_to_the_bit(
    tmp_path, caplog, family, names, method
):
    keys = families.make(family, tmp_path)
    add(tmp_path / "base", names, value=1 / 3)
    merge = merge_of(keys, **method)
    (told,) = warnings(caplog)
    assert told.startswith(f"{keys['experts']}: lacks {len(names)} tensor")
    assert names[0] in told
    assert told.endswith("the base's are taken")
    merged = dict(merge.stream())
    for name in names:
        assert torch.equal(merged[name], torch.full((4, 4), 1 / 3))
    assert (
        load_file(write_folder(merge, tmp_path / "out", progress=False) / "model.safetensors").keys() == merged.keys()
    )


def test_an_expert_without_it_counts_as_the_base_beside_one_that_has_it(tmp_path):
    keys = families.make("llama", tmp_path)
    for place, value in (("base", 1.0), ("expert", 3.0)):
        add(tmp_path / place, ["score.weight"], value)
    other = families.make("llama", tmp_path / "more")["experts"]
    merge = merge_of(keys, experts=[keys["experts"], other], merge_method="linear", weights=[0.5, 0.5])
    assert torch.equal(merge.tensor("score.weight"), torch.full((4, 4), 2.0))


@pytest.mark.parametrize(
    ("family", "name"),
    [
        ("llama", "model.norm.weight"), ("llama", HEAD), ("llama", EMBEDDING),
        ("qwen3_moe", "model.layers.1.mlp.experts.3.up_proj.weight"), ("qwen3_moe", "model.layers.0.mlp.gate.weight"),
        ("qwen3_next", "model.layers.0.linear_attn.A_log"), ("gpt2", "transformer.h.1.attn.c_attn.bias"),
        ("qwen3_5", "model.language_model.layers.1.self_attn.q_norm.weight"),
        ("gemma3", "language_model.model.layers.1.self_attn.q_norm.weight"),
    ],
)  # fmt: skip
def test_a_weight_of_the_model_itself_that_an_expert_lacks_is_an_error_that_names_it(tmp_path, family, name):
    keys = families.make(family, tmp_path)
    families.edit_tensors(tmp_path / "expert", lambda tensors: {n: t for n, t in tensors.items() if n != name})
    with pytest.raises(CheckpointError, match=f"{name} is missing; the base has F32"):
        merge_of(keys)


@pytest.mark.parametrize(
    ("family", "options", "name"),
    [
        ("llama", {"attention_bias": True}, "model.layers.0.self_attn.q_proj.bias"),
        ("llama", {"num_hidden_layers": 3}, "model.layers.2.mlp.up_proj.weight"),
        ("qwen3_moe", {"num_experts": 6, "num_local_experts": 6}, "model.layers.0.mlp.experts.5.up_proj.weight"),
    ],
)
def test_what_an_experts_own_model_needs_and_the_base_lacks_is_an_error(tmp_path, family, options, name):
    keys = families.make(family, tmp_path)
    larger = families.make(family, tmp_path / "larger", **options)
    with pytest.raises(CheckpointError, match=f"{name} is F32 .*; the base has no such parameter"):
        merge_of(keys, experts=larger["experts"])


def test_where_transformers_does_not_know_the_model_every_tensor_is_needed(tmp_path):
    keys = families.make("llama", tmp_path)
    for place in ("base", "expert"):
        families.edit_config(tmp_path / place, model_type="never-heard-of")
    add(tmp_path / "expert", ["score.weight"])
    with pytest.raises(CheckpointError, match=r"score\.weight is F32 \[4, 4\]; the base has no such parameter"):
        merge_of(keys)


@pytest.mark.parametrize("buffer", ["cos_cached", "sin_cached"])
def test_a_table_of_rotations_is_no_parameter_on_either_side(tmp_path, caplog, buffer):
    keys = families.make("llama", tmp_path)
    names = set(merge_of(keys).names)
    for place in ("base", "expert"):
        add(tmp_path / place, [f"model.layers.0.self_attn.rotary_emb.{buffer}"])
        assert set(merge_of(keys).names) == names
        assert warnings(caplog) == []


# Heads: tied on one side only.


def untied(model: Any) -> Any:
    """Give a tied model a head of its own."""
    model.config.tie_word_embeddings = False
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().flip(0).clone())
    model.all_tied_weights_keys = {}
    return model


@pytest.fixture
def tied_base(tmp_path: Path) -> dict[str, Any]:
    return families.make("qwen2", tmp_path, untied)


def test_an_experts_own_head_makes_one_for_a_tied_base_out_of_its_embedding(tied_base, tmp_path, caplog):
    base, expert = (load_file(tmp_path / place / "model.safetensors") for place in ("base", "expert"))
    assert (HEAD in base, HEAD in expert) == (False, True)
    merge = merge_of(tied_base, weights=0.5)
    assert merge.names == [*base, HEAD]
    wanted = base[EMBEDDING] + (expert[HEAD] - base[EMBEDDING]) * 0.5
    assert torch.equal(merge.tensor(HEAD), wanted)
    assert [text for text in warnings(caplog) if HEAD in text] == [
        f"{tied_base['experts']}: has a {HEAD} of its own, which {tied_base['base']} ties to its embedding: the merge "
        "gets one, from the embedding where there is no other"
    ]


def test_a_merge_with_a_head_of_its_own_is_untied_live_and_written(tied_base, tmp_path):
    live, _ = load_merged({**tied_base, "weights": 0.5}, progress=False)
    folder = write_folder(merge_of(tied_base, weights=0.5), tmp_path / "out", progress=False)
    written = AutoModelForCausalLM.from_pretrained(folder)
    assert torch.equal(logits(live), logits(written))
    head, embedding = live.get_output_embeddings().weight, live.get_input_embeddings().weight
    assert not torch.equal(head, embedding)
    assert (live.config.tie_word_embeddings, written.config.tie_word_embeddings) == (False, False)


def test_a_tied_expert_gives_its_embedding_for_the_head_of_an_untied_base(tmp_path, caplog):
    keys = families.make("qwen2", tmp_path / "tied")
    keys["base"] = families.make("qwen2", tmp_path / "untied", tie_word_embeddings=False)["base"]
    base, expert = (load_file(Path(keys[key]) / "model.safetensors") for key in ("base", "experts"))
    assert (HEAD in base, HEAD in expert) == (True, False)
    merge = merge_of(keys)
    torch.testing.assert_close(merge.tensor(HEAD), expert[EMBEDDING])
    assert warnings(caplog) == [
        f"{keys['experts']}: ties {HEAD} to its embedding, and {keys['base']} does not: taken from its embedding"
    ]


def test_experts_of_both_kinds_meet_over_a_tied_base(tied_base, tmp_path):
    tied = families.make("qwen2", tmp_path / "tied")["experts"]
    merge = merge_of(tied_base, experts=[tied, tied_base["experts"]], merge_method="linear", weights=0.5)
    own, embedding = (
        load_file(Path(folder) / "model.safetensors")[name]
        for folder, name in ((tied_base["experts"], HEAD), (tied, EMBEDDING))
    )
    torch.testing.assert_close(merge.tensor(HEAD), (own * 0.5 + embedding * 0.5))


def test_a_head_with_weights_of_its_own_counts_whatever_the_config_says(tmp_path):
    keys = families.make("qwen2", tmp_path)
    families.edit_tensors(tmp_path / "base", lambda tensors: tensors | {HEAD: tensors[EMBEDDING].flip(0).clone()})
    live, _ = load_merged({**keys, "lambda": 0}, progress=False)
    assert torch.equal(logits(live), logits(AutoModelForCausalLM.from_pretrained(tmp_path / "base")))


def test_the_head_of_a_tied_base_is_mergekits(tied_base, tmp_path):
    runner = pytest.importorskip("mergekit.merge")
    from mergekit.config import MergeConfiguration
    from mergekit.options import MergeOptions

    config = {
        "merge_method": "task_arithmetic",
        "base_model": tied_base["base"],
        "models": [{"model": tied_base["experts"], "parameters": {"weight": 0.5}}],
        "dtype": "float32",
    }
    made = MergeConfiguration.model_validate(config)
    runner.run_merge(made, str(tmp_path / "theirs"), MergeOptions(allow_crimes=True, quiet=True, copy_tokenizer=False))
    (file,) = (tmp_path / "theirs").glob("*.safetensors")
    theirs = load_file(file)
    ours = dict(merge_of(tied_base, weights=0.5).stream())
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        torch.testing.assert_close(ours[name], tensor, msg=name)


# What a config says and the tensors do not.


@pytest.mark.parametrize("place", ["base", "expert"])
def test_a_quantisation_that_only_the_config_names_is_told_once_and_not_the_merges(tmp_path, caplog, place):
    keys = families.make("llama", tmp_path)
    plain, _ = load_merged(keys, progress=False)
    families.edit_config(tmp_path / place, quantization_config={"quant_method": "gptq", "bits": 4})
    live, _ = load_merged(keys, progress=False)
    label = str(tmp_path / place)
    assert warnings(caplog) == [
        f"{label}: config.json speaks of quantised weights (gptq), but they are floats: taken as floats, and the merge "
        "is not quantised"
    ]
    assert torch.equal(logits(live), logits(plain))
    folder = write_folder(merge_of(keys), tmp_path / "out", progress=False)
    assert torch.equal(logits(AutoModelForCausalLM.from_pretrained(folder)), logits(plain))


def test_a_base_whose_config_names_another_number_of_rows_is_an_error_that_says_which(tmp_path):
    keys = families.make("llama", tmp_path)
    families.edit_config(tmp_path / "base", vocab_size=250)
    with pytest.raises(CheckpointError, match=r"embed_tokens.weight is F32 \[259, 32\], but config.json says .* 250"):
        merge_of(keys)


def test_an_untied_base_without_a_head_is_an_error_where_its_config_promises_one(tmp_path):
    keys = families.make("llama", tmp_path)
    for place in ("base", "expert"):
        families.edit_tensors(tmp_path / place, lambda tensors: {n: t for n, t in tensors.items() if n != HEAD})
    with pytest.raises(CheckpointError, match=rf"base: {HEAD} is missing: config.json names a LlamaForCausalLM"):
        merge_of(keys)
    families.edit_config(tmp_path / "base", architectures=["LlamaModel"])
    assert HEAD not in merge_of(keys).names


def test_warnings_of_one_expert_come_once_each_however_often_it_is_given(tmp_path, caplog):
    families.make("llama", tmp_path)
    add(tmp_path / "expert", ["score.weight"])
    base, expert = (open_folder(tmp_path / place, place) for place in ("base", "expert"))
    with caplog.at_level(logging.WARNING):
        check_fit(base, [expert, expert])
    assert len(warnings(caplog)) == len(set(warnings(caplog))) == 1


# What ends or steers the answers of an expert and not of the base.


@pytest.mark.parametrize(
    ("file", "changes", "told"),
    [
        ("config.json", {"eos_token_id": 7}, "eos_token_id: 7 for 1"),
        ("tokenizer_config.json", {"eos_token": "<unk>"}, "eos_token: <unk> for </s>"),
        ("generation_config.json", {"repetition_penalty": 1.3}, "generation config's repetition_penalty: 1.3 for None"),
        ("generation_config.json", {"eos_token_id": [1, 7]}, "generation config's eos_token_id: [1, 7] for 1"),
    ],
)
def test_an_expert_that_generates_in_another_way_is_told_once(tmp_path, caplog, file, changes, told):
    keys = families.make("llama", tmp_path)
    path = tmp_path / "expert" / file
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")
    merge_of(keys)
    assert [text for text in warnings(caplog) if "generates" in text] == [
        f"{keys['experts']}: generates in another way than the base ({told}); the base's end tokens and generation "
        "config are used"
    ]

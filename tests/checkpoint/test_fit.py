"""Which differences between base and expert a merge survives, and how the others are told."""

import json
import logging

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    MambaConfig,
    MambaForCausalLM,
    MllamaForCausalLM,
    MllamaTextConfig,
    RwkvConfig,
    RwkvForCausalLM,
)

from della_bench.checkpoint import check_fit, open_folder
from della_bench.checkpoint.canonical import align, parameters
from della_bench.errors import CheckpointError
from della_bench.merge.vocabulary import row_count_of
from tests import tiny
from tests.checkpoint.conftest import LLAMA, tensors

UP = "model.layers.0.mlp.up_proj.weight"
EMBED = "model.embed_tokens.weight"
HEAD = "lm_head.weight"
Q, K = (f"model.layers.0.self_attn.{name}_proj.weight" for name in "qk")
PACKED = {**tensors(), UP: torch.zeros(6, 2, dtype=torch.int32)}


def refused(base, *experts):
    with pytest.raises(CheckpointError) as caught:
        check_fit(base, experts)
    assert caught.value.exit_code == 2
    head, *faults = str(caught.value).splitlines()
    assert head == "base and experts do not fit together:"
    return faults


def loaded(fit):
    """All float parameters of an expert, in the base's names and shapes."""
    return {name: fit.tensor(name).to_torch() for name, info in fit.parameters.items() if info.is_float}


@pytest.fixture
def warned(caplog):
    """Fit and return (fits, warnings)."""

    def fit(base, *experts):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            fits = check_fit(base, experts)
        return fits, [record.getMessage() for record in caplog.records]

    return fit


def test_experts_of_one_family_fit_without_a_word(family, warned):
    base, *experts = (open_folder(folder, name) for name, folder in family.items())
    fits, warnings = warned(base, *experts)
    assert warnings == []
    assert [fit.expert for fit in fits] == experts
    for fit, expert in zip(fits, experts, strict=True):
        assert fit.names == {name: name for name in base.tensors}
        assert all(torch.equal(tensor, expert.tensor(name).to_torch()) for name, tensor in loaded(fit).items())


def test_an_expert_given_twice_has_two_fits_and_warns_once(model, warned):
    base, expert = model("base"), model("e", tensors(dtype=torch.float16))
    fits, warnings = warned(base, expert, expert)
    assert [fit.expert for fit in fits] == [expert, expert]
    assert len(warnings) == 1


def test_the_base_is_an_expert_that_fits(model, warned):
    base = model("base")
    assert warned(base, base)[1] == []


def test_every_mismatch_of_every_expert_is_told_in_one_error(model):
    base = model("base")
    missing = tensors()
    del missing[UP], missing["model.norm.weight"]
    found = refused(
        base,
        model("a", missing),
        model("b", {**tensors(), Q: torch.zeros(3, 4), K: torch.zeros(2, 4)}),
        model("c", {**tensors(), UP: torch.zeros(5, 4)}),
        model("d", config={**LLAMA, "model_type": "mistral"}),
        model("e", PACKED, {**LLAMA, "quantization_config": {"bits": 4}}),
        model("f", {**tensors(), UP: torch.zeros(6, 4, dtype=torch.int8)}),
    )
    assert sorted(found) == sorted(
        [
            f"a: {UP} is missing; the base has F32 [6, 4]",
            "a: model.norm.weight is missing; the base has F32 [4]",
            f"b: {Q} is F32 [3, 4]; the base has no such parameter",
            f"b: {K} is F32 [2, 4]; the base has no such parameter",
            f"c: {UP} is F32 [5, 4]; the base has F32 [6, 4]",
            "d: is a mistral, but base is a llama",
            f"e: quantised weights cannot be merged; give the model in float ({UP})",
            f"f: {UP} is I8 [6, 4], which cannot be merged; the base has F32 [6, 4]",
        ]
    )


def test_the_mismatches_of_an_expert_given_twice_are_told_once(model):
    short = tensors()
    del short[UP]
    expert = model("a", short)
    assert refused(model("base"), expert, expert) == [f"a: {UP} is missing; the base has F32 [6, 4]"]


def test_a_quantised_base_is_refused(model):
    base = model("base", PACKED, {**LLAMA, "quantization_config": {"quant_method": "awq"}})
    assert refused(base, model("a")) == [f"base: quantised weights cannot be merged; give the model in float ({UP})"]


def test_a_transposed_or_flattened_tensor_is_a_mismatch(model):
    base = model("base")
    for name, shape in (("a", (4, 6)), ("b", (24,)), ("c", ())):
        assert refused(base, model(name, {**tensors(), UP: torch.zeros(shape)})) == [
            f"{name}: {UP} is F32 {list(shape)}; the base has F32 [6, 4]"
        ]


def test_nothing_is_warned_of_where_the_fit_fails(model, caplog):
    refused(model("base"), model("a", tensors(dtype=torch.float16)), model("b", config={"model_type": "gpt2"}))
    assert not caplog.records


# Buffers, heads, prefixes: the same model written in another way.

BUFFERS = {
    "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(2),
    "model.rotary_emb.inv_freq": torch.ones(2),
    "gpt_neox.layers.0.attention.rotary_emb.inv_freq": torch.ones(2),
    "transformer.h.0.attn.bias": torch.ones(1, 1, 4, 4),
    "h.0.attn.bias": torch.ones(1, 1, 4, 4, dtype=torch.uint8),
    "gpt_neox.layers.0.attention.bias": torch.ones(1, 1, 4, 4, dtype=torch.bool),
    "transformer.h.0.attn.masked_bias": torch.tensor(-1e4),
    "gpt_neox.layers.0.attention.masked_bias": torch.tensor(-1e9),
}


@pytest.mark.parametrize("buffer", BUFFERS)
def test_a_buffer_that_the_model_computes_is_no_parameter_on_either_side(model, warned, buffer):
    plain, with_buffer = model("plain"), model("buffer", {**tensors(), buffer: BUFFERS[buffer]})
    for base, expert in ((plain, with_buffer), (with_buffer, plain)):
        ((fit,), warnings) = warned(base, expert)
        assert warnings == []
        assert set(fit.names) == set(tensors())


@pytest.mark.parametrize("name", ["transformer.h.0.attn.bias", "gpt_neox.layers.0.attention.bias", "x.inv_freq"])
def test_a_bias_of_an_attention_that_is_no_mask_is_a_parameter(model, name):
    assert name in parameters(model("a", {**tensors(), name: torch.ones(4)}))


@pytest.mark.parametrize("head", [HEAD, "embed_out.weight"])
def test_a_head_that_repeats_the_embedding_is_no_parameter_on_either_side(model, warned, head):
    tied = {**LLAMA, "tie_word_embeddings": True}
    bare = tensors()
    del bare[HEAD]
    without, redundant = model("without", bare, tied), model("with", {**bare, head: bare[EMBED].clone()}, tied)
    for base, expert in ((without, redundant), (redundant, without)):
        ((fit,), warnings) = warned(base, expert)
        assert warnings == []
        assert set(fit.names) == set(bare)


def test_the_head_of_an_untied_model_is_a_parameter(model):
    bare = tensors()
    del bare[HEAD]
    for name, config in (("a", LLAMA), ("b", {"model_type": "llama", "vocab_size": 8})):
        assert refused(model(f"base-{name}", config=config), model(name, bare, config)) == [
            f"{name}: {HEAD} is missing; the base has F32 [8, 4]"
        ]


def test_a_config_that_does_not_say_whether_it_is_tied_is_what_its_architecture_is(model):
    content = {"transformer.wte.weight": torch.ones(8, 4), "lm_head.weight": torch.ones(8, 4)}
    assert set(parameters(model("gpt2", content, {"model_type": "gpt2"}))) == {"transformer.wte.weight"}
    assert set(parameters(model("llama", content, {"model_type": "llama"}))) == set(content)
    assert set(parameters(model("unknown", content, {"model_type": "never-heard-of"}))) == set(content)


@pytest.fixture
def gpt2s(tmp_path):
    """A GPT-2 as transformers saves it, and the same as checkpoints of 2019 to 2023 are."""
    made = tiny.save(tiny.gpt2(0), tmp_path / "new")
    stored = load_file(made / "model.safetensors")
    config = json.loads((made / "config.json").read_text())

    def old(name, *, prefix, masks=False, head=False, tie=False):
        content = {(k if prefix else k.removeprefix("transformer.")): v + 1 for k, v in stored.items()}
        start = "transformer." if prefix else ""
        if masks:
            for layer in range(2):
                content[f"{start}h.{layer}.attn.bias"] = torch.ones(1, 1, 8, 8).tril()
                content[f"{start}h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
        if head:
            content["lm_head.weight"] = content[f"{start}wte.weight"].clone()
        (tmp_path / name).mkdir()
        save_file(content, tmp_path / name / "model.safetensors")
        kept = {k: v for k, v in config.items() if tie or k != "tie_word_embeddings"}
        (tmp_path / name / "config.json").write_text(json.dumps(kept))
        return open_folder(tmp_path / name, name)

    return open_folder(made, "new"), old


@pytest.mark.parametrize("prefix", [True, False])
@pytest.mark.parametrize("options", [{}, {"masks": True}, {"head": True}, {"masks": True, "head": True, "tie": True}])
def test_a_gpt2_of_any_year_fits_one_of_today_both_ways(gpt2s, warned, prefix, options):
    new, old = gpt2s
    other = old("old", prefix=prefix, **options)
    for base, expert in ((new, other), (other, new)):
        ((fit,), warnings) = warned(base, expert)
        assert warnings == []
        assert len(fit.names) == len(new.tensors)
        shift = 1 if expert is other else -1
        for name, tensor in loaded(fit).items():
            assert torch.allclose(tensor, base.tensor(name).to_torch() + shift, atol=1e-6), name


@pytest.mark.parametrize(
    ("names", "others", "found"),
    [
        (["a.b"], ["a.b"], {"a.b": "a.b"}),
        (["transformer.h.0.w", "head.w"], ["h.0.w", "head.w"], {"transformer.h.0.w": "h.0.w", "head.w": "head.w"}),
        (["h.0.w"], ["transformer.h.0.w"], {"h.0.w": "transformer.h.0.w"}),
        (["model.norm.w", "norm.w"], ["model.norm.w"], {"model.norm.w": "model.norm.w"}),
        (["model.a.w", "model.b.w"], ["a.w"], {"model.a.w": "a.w"}),
        (["a"], ["b"], {}),
    ],
)  # fmt: skip
def test_names_meet_with_and_without_a_prefix_and_no_name_is_taken_twice(names, others, found):
    assert align(names, others) == found


# Vocabulary rows.


def test_extra_rows_of_an_expert_are_left_out_and_told_with_both_shapes(model, warned):
    base, expert = model("base"), model("e", tensors(vocab=10, fill=2), {**LLAMA, "vocab_size": 10})
    ((fit,), warnings) = warned(base, expert)
    assert sorted(warnings) == [
        f"e: {name} has shape (10, 4), the base's has (8, 4): its extra rows are left out" for name in (HEAD, EMBED)
    ]
    for name, tensor in loaded(fit).items():
        assert torch.equal(tensor, torch.full_like(base.tensor(name).to_torch(), 2))


def test_missing_rows_of_an_expert_are_the_bases_and_told_with_both_shapes(model, warned):
    base, expert = model("base"), model("e", tensors(vocab=5, fill=2), {**LLAMA, "vocab_size": 5})
    ((fit,), warnings) = warned(base, expert)
    assert sorted(warnings) == [
        f"e: {name} has shape (5, 4), the base's has (8, 4): the missing rows are the base's" for name in (HEAD, EMBED)
    ]
    merged = loaded(fit)
    for name in (HEAD, EMBED):
        assert torch.equal(merged[name], torch.tensor([2.0] * 5 + [1.0] * 3)[:, None].expand(8, 4))


@pytest.mark.parametrize("own", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("bases", [torch.float32, torch.float16, torch.bfloat16])
def test_missing_rows_are_the_bases_bits_whatever_the_expert_is_stored_in(model, warned, own, bases):
    third = torch.tensor(1 / 3).to(bases)
    base = model("base", tensors(fill=third.item(), dtype=bases))
    expert = model("e", tensors(vocab=5, fill=2 / 3, dtype=own), {**LLAMA, "vocab_size": 5})
    ((fit,), _) = warned(base, expert)
    tensor = fit.tensor(EMBED).to_torch().float()
    assert torch.equal(tensor[5:], base.tensor(EMBED).to_torch()[5:].float())
    assert torch.equal(tensor[:5], expert.tensor(EMBED).to_torch().float())


@pytest.mark.parametrize("vocab", [5, 10])
def test_rows_count_as_they_are_where_an_experts_config_still_has_the_old_number(model, warned, vocab):
    ((fit,), warnings) = warned(model("base"), model("a", tensors(vocab=vocab, fill=2)))
    assert len([text for text in warnings if f"has shape ({vocab}, 4), the base's has (8, 4)" in text]) == 2
    assert torch.equal(loaded(fit)[EMBED], torch.tensor([2.0] * vocab + [1.0] * 8)[:8, None].expand(8, 4))


def test_more_rows_of_what_is_no_vocabulary_are_a_mismatch(model):
    base = model("base")
    grown = {**LLAMA, "vocab_size": 10}
    assert refused(base, model("b", {**tensors(vocab=10), UP: torch.zeros(10, 4)}, grown)) == [
        f"b: {UP} is F32 [10, 4]; the base has F32 [6, 4]"
    ]


def test_a_wider_embedding_is_a_mismatch(model):
    grown = {**tensors(vocab=10), EMBED: torch.zeros(10, 5)}
    assert refused(model("base"), model("a", grown, {**LLAMA, "vocab_size": 10})) == [
        f"a: {EMBED} is F32 [10, 5]; the base has F32 [8, 4]"
    ]


@pytest.mark.parametrize("text_config", [{"vocab_size": 8}, None])
def test_the_vocabulary_of_a_model_of_several_parts_is_its_texts(model, text_config):
    config = {"model_type": "x", "text_config": text_config, "tie_word_embeddings": False}
    base = model("base", config=config)
    grown = model("e", tensors(vocab=10), {**config, "text_config": {"vocab_size": 10}})
    if text_config:
        assert check_fit(base, [grown])
    else:  # nobody knows then that it is 8, but names of embeddings and heads are known
        assert check_fit(base, [grown])


# What is told once and then done as the base does.


def test_other_dtypes_and_configs_are_told_in_one_warning(model, warned):
    base = model("base", tensors(dtype=torch.bfloat16), {**LLAMA, "rope_theta": 1e4, "rms_norm_eps": 1e-5})
    expert = model("e", tensors(dtype=torch.float16), {**LLAMA, "rope_theta": 1e6, "rms_norm_eps": 1e-5})
    fits, warnings = warned(base, expert)
    assert warnings == [
        "e differs from the base in dtypes (F16 for BF16) and config (rope_theta: 1000000.0 for 10000.0); "
        "the merge is the base's there"
    ]
    assert fits[0].tensor(UP).to_torch().dtype == torch.float16


def test_bookkeeping_in_a_config_is_no_difference(model, warned):
    other = {"_name_or_path": "x", "torch_dtype": "float16", "transformers_version": "4.31.0", "use_cache": False,
             "architectures": ["LlamaForCausalLM"], "pad_token_id": 0, "eos_token_id": 2}  # fmt: skip
    assert warned(model("base"), model("e", config={**LLAMA, **other}))[1] == []


OLD_ROPE = {"rope_theta": 1e4, "rope_scaling": {"type": "linear", "factor": 8.0}}
NEW_ROPE = {"rope_parameters": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e4}}


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (OLD_ROPE, NEW_ROPE),
        ({}, {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4}}),
        ({}, {"attention_bias": False, "mlp_bias": False, "hidden_act": "silu", "pretraining_tp": 1}),
        ({}, {"unsloth_version": "2025.1", "unsloth_fixed": True, "_attn_implementation_autoset": True}),
    ],
)
def test_one_setting_in_the_words_of_two_releases_is_no_difference(model, warned, ours, theirs):
    assert warned(model("base", config={**LLAMA, **ours}), model("e", config={**LLAMA, **theirs}))[1] == []


def test_what_differs_in_the_words_of_two_releases_is_told(model, warned):
    longer = {"rope_parameters": {**NEW_ROPE["rope_parameters"], "factor": 4.0}}
    _, warnings = warned(model("base", config={**LLAMA, **OLD_ROPE}), model("e", config={**LLAMA, **longer}))
    assert warnings == ["e differs from the base in config (factor: 4.0 for 8.0); the merge is the base's there"]


def test_each_expert_is_told_for_itself(model, warned):
    half = tensors(dtype=torch.float16)
    _, warnings = warned(model("base"), model("a", half), model("b"), model("c", half))
    assert [text.split(" ")[0] for text in warnings] == ["a", "c"]


def test_integer_tensors_come_from_the_base_whatever_the_expert_has(model, warned):
    base = model("base", {**tensors(), "position_ids": torch.arange(4)})
    experts = [
        model("same", {**tensors(), "position_ids": torch.arange(4) + 1}),
        model("longer", {**tensors(), "position_ids": torch.arange(9)}),
        model("none"),
        model("more", {**tensors(), "position_ids": torch.arange(4), "counter": torch.tensor(1)}),
    ]
    fits, warnings = warned(base, *experts)
    assert warnings == []
    for fit in fits:
        assert not fit.parameters["position_ids"].is_float
        assert set(loaded(fit)) == set(tensors())


def test_another_tokenizer_is_told_with_how_it_differs(tmp_path, warned):
    base = open_folder(tiny.save(tiny.llama(0), tmp_path / "base"), "base")
    more = tiny.tokenizer(extra=("[PAD]",), chat_template="{{ messages }}")
    expert = open_folder(tiny.save(tiny.llama(0, vocab=260), tmp_path / "e", more), "e")
    _, warnings = warned(base, expert)
    assert [text for text in warnings if "tokenizer" in text] == [
        "e: its tokenizer differs from the base's (vocabulary: 1 more tokens ('[PAD]'=259), another chat template); "
        "the base's is used unless tokenizer= or chat_template= names another source"
    ]


def test_a_head_and_an_embedding_of_other_names_and_sizes_are_what_the_architecture_has(tmp_path):
    """RWKV's head is head.weight, Mllama's embedding has eight rows more than vocab_size says."""
    rwkv = RwkvForCausalLM(RwkvConfig(vocab_size=259, hidden_size=32, num_hidden_layers=2, context_length=64))
    text = MllamaTextConfig(
        vocab_size=259, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, cross_attention_layers=[1], pad_token_id=1,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
    )  # fmt: skip
    for name, model, tensor, rows in (
        ("rwkv", rwkv, "head.weight", 259),
        ("mllama", MllamaForCausalLM(text), "model.embed_tokens.weight", 267),
    ):
        base = open_folder(tiny.save(model, tmp_path / name), name)
        expert = open_folder(tiny.save(tiny.perturbed(model, 1), tmp_path / f"{name}-expert"), "expert")
        (fit,) = check_fit(base, [expert])
        assert fit.parameters[tensor].shape[0] == rows
        assert row_count_of(base, None) == rows


def test_a_head_of_its_own_counts_whatever_the_embedding_is_called(tmp_path):
    """The config ties them, and transformers takes the head that is in the file."""
    model = MambaForCausalLM(MambaConfig(vocab_size=259, hidden_size=32, num_hidden_layers=2, state_size=8))
    folders = [tiny.save(model, tmp_path / "base"), tiny.save(tiny.perturbed(model, 1), tmp_path / "expert")]
    for seed, folder in enumerate(folders):
        file = folder / "model.safetensors"
        head = torch.randn(259, 32, generator=torch.Generator().manual_seed(seed))
        save_file({**load_file(file), HEAD: head}, file, metadata={"format": "pt"})
    base, expert = (open_folder(folder, folder.name) for folder in folders)
    (fit,) = check_fit(base, [expert])
    assert torch.equal(fit.tensor(HEAD).to_torch(), load_file(folders[1] / "model.safetensors")[HEAD])


def test_asking_transformers_changes_no_config(tmp_path):
    """Its classes change what they are given: here an old rope_scaling, which then differed from the file's."""
    from della_bench.checkpoint.architecture import Architectures
    from della_bench.checkpoint.layer_config import LayerConfig

    folder = tiny.save(tiny.llama(), tmp_path / "base")
    config = json.loads((folder / "config.json").read_text())
    config.pop("rope_parameters", None)
    config |= {"rope_theta": 10000.0, "rope_scaling": {"type": "linear", "factor": 2.0}}
    (folder / "config.json").write_text(json.dumps(config))
    base = open_folder(folder, "base")
    assert Architectures(base).of(base) is not None
    assert LayerConfig(base).values
    assert base.config == config

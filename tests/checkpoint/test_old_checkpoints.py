"""The checkpoints of 2023 that the paper merges, with their oddities, at a small width; and GPT-2's of any year."""

import json
import logging

import pytest
import torch
from safetensors.torch import save_file

from della_bench.checkpoint import check_fit, open_folder
from della_bench.errors import CheckpointError
from della_bench.merge.stream import Merge
from della_bench.spec import MergeSpec

WIDTH, VOCABULARY = 16, 32000
SHAPES = {
    "model.layers.0.self_attn.q_proj.weight": (WIDTH, WIDTH),
    "model.layers.0.mlp.down_proj.weight": (WIDTH, 24),
    "model.layers.0.input_layernorm.weight": (WIDTH,),
    "model.norm.weight": (WIDTH,),
}
LLAMA = {
    "architectures": ["LlamaForCausalLM"], "hidden_size": WIDTH, "intermediate_size": 24, "model_type": "llama",
    "num_attention_heads": 2, "num_hidden_layers": 1, "rms_norm_eps": 1e-5, "tie_word_embeddings": False,
    "torch_dtype": "float16", "transformers_version": "4.31.0", "vocab_size": VOCABULARY,
}  # fmt: skip
INV_FREQ = "model.layers.0.self_attn.rotary_emb.inv_freq"
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"


def weights(seed, dtype, vocabulary=VOCABULARY, *, buffer=True):
    """The base's weights, for seeds above 0 with a little noise, as a fine-tune stores them."""
    shapes = {EMBEDDING: (VOCABULARY, WIDTH), **SHAPES, HEAD: (VOCABULARY, WIDTH)}
    first, noise = torch.Generator().manual_seed(0), torch.Generator().manual_seed(seed)
    made = {name: torch.randn(shape, generator=first) * 0.1 for name, shape in shapes.items()}
    if seed:
        made = {name: tensor + torch.randn(tensor.shape, generator=noise) * 0.01 for name, tensor in made.items()}
    for name in (EMBEDDING, HEAD):
        made[name] = torch.cat([made[name], torch.zeros(vocabulary - VOCABULARY, WIDTH)])
    if buffer:
        made[INV_FREQ] = torch.arange(4.0)
    return {name: tensor.to(dtype) for name, tensor in made.items()}


def shard(folder, tensors, config, *, ending, write):
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    stem = "model" if ending == "safetensors" else "pytorch_model"
    names = list(tensors)
    weight_map = {name: f"{stem}-{2 * i // len(names) + 1:05}-of-00002.{ending}" for i, name in enumerate(names)}
    for file in set(weight_map.values()):
        write({name: tensors[name] for name in names if weight_map[name] == file}, folder / file)
    index = {"metadata": {"total_size": 1}, "weight_map": weight_map}
    (folder / f"{stem}.{ending}.index.json").write_text(json.dumps(index))
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Folders like those of Llama-2-13b, WizardLM-13B-V1.2, WizardMath-13B-V1.0 and llama-2-13b-code-alpaca."""
    root = tmp_path_factory.mktemp("2023")
    half = torch.float16
    shard(root / "llama", weights(0, half), LLAMA, ending="safetensors", write=save_file)
    lm = {**LLAMA, "_name_or_path": "/home/someone/13B", "pad_token_id": 0, "use_cache": False}
    shard(root / "wizardlm", weights(1, half), lm, ending="bin", write=torch.save)
    math = {**LLAMA, "vocab_size": 32001, "transformers_version": "4.29.2"}
    shard(root / "wizardmath", weights(2, half, 32001, buffer=False), math, ending="bin", write=torch.save)
    (root / "wizardmath" / "added_tokens.json").write_text('{"[PAD]": 32000}')
    code = {**LLAMA, "architectures": ["LLaMAForCausalLM"], "torch_dtype": "float32"}
    shard(root / "code", weights(3, torch.float32), code, ending="bin", write=torch.save)
    return {folder.name: folder for folder in root.iterdir()}


EXPERTS = ("wizardlm", "wizardmath", "code")


def test_the_papers_models_fit_with_the_warnings_that_matter(models, caplog):
    with caplog.at_level(logging.WARNING):
        check_fit(open_folder(models["llama"], "llama"), [open_folder(models[name], name) for name in EXPERTS])
    assert [record.getMessage() for record in caplog.records] == [
        f"wizardmath: {EMBEDDING} has shape (32001, 16), the base's has (32000, 16): its extra rows are left out",
        f"wizardmath: {HEAD} has shape (32001, 16), the base's has (32000, 16): its extra rows are left out",
        "code differs from the base in dtypes (F32 for F16); the merge is the base's there",
    ]


def test_the_papers_models_merge_by_della_into_the_bases_shape(models):
    spec = MergeSpec.parse(
        base=str(models["llama"]), experts=[str(models[name]) for name in EXPERTS],
        drop_rate=0.3, window_size=0.14, lambda_factor=1.1,
    )  # fmt: skip
    merged = dict(Merge(spec).stream())
    base = weights(0, torch.float16, buffer=False)
    assert merged.keys() == base.keys()
    for name, tensor in merged.items():
        assert (tensor.shape, tensor.dtype) == (base[name].shape, torch.float16)
        assert not torch.equal(tensor, base[name])
        assert (tensor.float() - base[name].float()).abs().max() < 0.5


def test_an_expert_is_the_same_to_a_merge_in_either_format(models, tmp_path):
    tensors = weights(1, torch.float16)
    safe = shard(tmp_path / "safe", tensors, LLAMA, ending="safetensors", write=save_file)
    keys = {"base": str(models["llama"]), "drop_rate": 0.3, "window_size": 0.14}
    one, other = (dict(Merge(MergeSpec.parse(experts=str(f), **keys)).stream()) for f in (safe, models["wizardlm"]))
    assert all(torch.equal(one[name], other[name]) for name in one)


# GPT-2, saved by different versions of transformers.

GPT2 = {"model_type": "gpt2", "vocab_size": 20, "n_embd": 8, "bos_token_id": 19, "eos_token_id": 19}


@pytest.fixture
def gpt2(tmp_path):
    """Write a GPT-2 in torch's format, with or without prefix, masks and a head that repeats the embedding."""

    def write(name, *, prefix, masks, head, noise=0.0):
        start = "transformer." if prefix else ""
        generator = torch.Generator().manual_seed(0)
        shapes = {"wte.weight": (20, 8), "h.0.attn.c_attn.weight": (8, 24), "h.0.attn.c_attn.bias": (24,)}
        tensors = {start + key: torch.randn(shape, generator=generator) + noise for key, shape in shapes.items()}
        if masks:
            tensors[f"{start}h.0.attn.bias"] = torch.ones(1, 1, 4, 4).tril().byte()
            tensors[f"{start}h.0.attn.masked_bias"] = torch.tensor(-1e4)
        if head:
            tensors["lm_head.weight"] = tensors[f"{start}wte.weight"]
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps(GPT2))
        torch.save(tensors, tmp_path / name / "pytorch_model.bin", _use_new_zipfile_serialization=prefix)
        return tmp_path / name

    return write


@pytest.mark.parametrize("prefix", [True, False])
@pytest.mark.parametrize(("masks", "head"), [(True, True), (True, False), (False, True)])
def test_a_gpt2_of_any_year_merges_with_any_other(gpt2, prefix, masks, head, caplog):
    base = gpt2("base", prefix=True, masks=False, head=False)
    old = gpt2("old", prefix=prefix, masks=masks, head=head, noise=0.5)
    for one, other, change in ((base, old, 0.5), (old, base, -0.5)):
        merge = Merge(MergeSpec.parse(base=str(one), experts=str(other), merge_method="task_arithmetic"))
        merged = dict(merge.stream())
        floats = {name: tensor for name, tensor in merged.items() if tensor.is_floating_point()}
        assert {name.removeprefix("transformer.") for name in floats} == {
            "wte.weight", "h.0.attn.c_attn.weight", "h.0.attn.c_attn.bias",
        }  # fmt: skip
        for name, tensor in floats.items():
            torch.testing.assert_close(tensor, merge.base.tensor(name).to_torch() + change)
    assert not caplog.records


# Quantised experts.


@pytest.mark.parametrize("stated", [True, False])
def test_a_gptq_expert_is_told_in_one_line(models, tmp_path, stated):
    plain = {"lm_head.weight": torch.zeros(1, dtype=torch.float16)}
    for layer in range(3):
        start = f"model.layers.{layer}.q_proj"
        plain |= {f"{start}.{part}": torch.zeros(2, 2, dtype=torch.int32) for part in ("qweight", "qzeros", "g_idx")}
    config = {**LLAMA, **({"quantization_config": {"quant_method": "gptq"}} if stated else {})}
    folder = shard(tmp_path / "gptq", plain, config, ending="safetensors", write=save_file)
    with pytest.raises(CheckpointError) as caught:
        check_fit(
            open_folder(models["llama"], "llama"), [open_folder(folder, "gptq"), open_folder(models["code"], "c")]
        )
    assert str(caught.value).splitlines()[1:] == [
        "gptq: quantised weights cannot be merged; give the model in float "
        "(model.layers.0.q_proj.qweight and 5 more of its kind)"
    ]


@pytest.mark.parametrize("scale", ["SCB", "weight_scale", "weight_scale_inv", "weight.absmax"])
def test_an_expert_in_eight_or_four_bits_is_told_in_one_line(models, tmp_path, scale):
    name = "model.layers.0.self_attn.q_proj"
    tensors = weights(1, torch.float16) | {f"{name}.weight": torch.zeros(16, 16, dtype=torch.int8)}
    tensors[f"{name}.{scale}"] = torch.ones(16)
    folder = shard(tmp_path / "int8", tensors, LLAMA, ending="bin", write=torch.save)
    with pytest.raises(CheckpointError) as caught:
        check_fit(open_folder(models["llama"], "llama"), [open_folder(folder, "int8")])
    assert str(caught.value).splitlines()[1:] == [
        f"int8: quantised weights cannot be merged; give the model in float ({name}.{scale})"
    ]

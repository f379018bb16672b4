"""An adapter over its base is the model that PEFT's own merge makes."""

import json
import logging

import pytest
import torch
from safetensors.torch import load_file, save_file

from della_bench.checkpoint import Adapter, Checkpoint, check_fit, open_source
from della_bench.checkpoint.lora import Rules, updates
from della_bench.checkpoint.product import product
from della_bench.errors import CheckpointError, MergeError
from della_bench.merge.fingerprint import Inputs
from della_bench.merge.stream import Merge
from della_bench.models.loading import load_merged
from della_bench.spec import MergeSpec, Source
from tests import families, tiny

peft = pytest.importorskip("peft")
pytestmark = pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`")

SIMPLE = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "base_model_name_or_path": "org/their-base"}
Q = "model.layers.0.self_attn.q_proj"
HEAD, EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"
LLAMA_PATTERNS = {"layers.1.self_attn.q_proj": 3, "down_proj": 5, r".*\.0\.mlp\.up_proj": 2}


@pytest.fixture(autouse=True)
def _quiet():
    with torch.random.fork_rng():
        torch.manual_seed(1)
        yield


def trained(made, folder, **config):
    """Give a model an adapter with random factors and save it beside the model itself, as `adapter` and `base`.

    Returns (base folder, adapter folder, the state dict of PEFT's merge of both, read from the folders).
    """
    base, adapter, vocabulary = folder / "base", folder / "adapter", made.config.vocab_size
    if not base.exists():
        tiny.save(made, base)
    adapted = peft.get_peft_model(made, peft.LoraConfig(**config))
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.copy_(torch.randn_like(parameter) * 0.1)
    adapted.save_pretrained(adapter)
    again = type(made).from_pretrained(base, dtype=torch.float32)
    again.resize_token_embeddings(vocabulary, mean_resizing=False)
    merged = peft.PeftModel.from_pretrained(again, adapter).merge_and_unload()
    return base, adapter, {name: tensor.detach() for name, tensor in merged.state_dict().items()}


def opened(base, expert):
    base = open_source(Source(str(base)))
    expert = open_source(Source(str(expert)), base)
    return base, check_fit(base, [expert])[0]


def assert_is_pefts_merge(base_folder, adapter_folder, wanted):
    base, fit = opened(base_folder, adapter_folder)
    assert isinstance(fit.expert, Adapter)
    changed = 0
    for name, info in fit.parameters.items():
        stored = base.tensor(name).to_torch()
        made = fit.tensor(name).to_torch()
        assert made.shape == info.shape
        torch.testing.assert_close(made, wanted[name], rtol=1e-6, atol=1e-6, msg=name)
        changed += not torch.equal(made, stored)
    return changed


@pytest.mark.parametrize(
    ("config", "changed"),
    [
        ({"r": 4, "lora_alpha": 16, "target_modules": ["q_proj", "v_proj"]}, 4),
        ({"r": 4, "lora_alpha": 3, "use_rslora": True, "target_modules": ["q_proj", "o_proj"]}, 4),
        ({"r": 4, "lora_alpha": 8, "target_modules": "all-linear", "rank_pattern": LLAMA_PATTERNS}, 14),
        ({"r": 4, "target_modules": "all-linear", "alpha_pattern": LLAMA_PATTERNS, "use_rslora": True}, 14),
        (
            {"r": 4, "target_modules": ["q_proj"], "rank_pattern": {r"^model\.layers\.1\.self_attn\.q_proj": 3},
             "alpha_pattern": {"q_proj": 9, "layers.1.self_attn.q_proj": 99}},
            2,
        ),
        ({"r": 4, "target_modules": ["q_proj"], "modules_to_save": ["lm_head", "embed_tokens"]}, 4),
        ({"r": 4, "target_modules": ["q_proj", "embed_tokens", "lm_head"]}, 4),
        ({"r": 4, "target_modules": ["k_proj"], "layers_to_transform": [1]}, 1),
        ({"r": 4, "target_modules": ["o_proj"], "modules_to_save": ["input_layernorm"]}, 4),
        ({"r": 4, "target_modules": ["k_proj"], "init_lora_weights": "gaussian", "lora_dropout": 0.1}, 2),
    ],
)  # fmt: skip
def test_a_llama_with_an_adapter_is_pefts_merge(tmp_path, config, changed):
    assert assert_is_pefts_merge(*trained(tiny.llama(0), tmp_path, **config)) == changed


@pytest.mark.parametrize("bias", ["none", "all", "lora_only"])
def test_a_gpt2_with_an_adapter_is_pefts_merge(tmp_path, bias):
    config = {"r": 4, "lora_alpha": 8, "bias": bias, "target_modules": ["c_attn", "c_proj", "c_fc"]}
    changed = {"none": 8, "lora_only": 16, "all": 21}[bias]  # 2 layers of 4 matrices, of 4 + 2 biases, and ln_f
    folders = trained(tiny.gpt2(0), tmp_path, **config, fan_in_fan_out=True)
    assert assert_is_pefts_merge(*folders) == changed


def test_a_square_conv1d_is_transposed_whatever_the_config_says(tmp_path):
    base, folder, wanted = trained(tiny.gpt2(0), tmp_path, r=2, target_modules=["attn.c_proj"], fan_in_fan_out=True)
    for said in (True, False):
        edit(folder, fan_in_fan_out=said)
        assert assert_is_pefts_merge(base, folder, wanted) == 2


def test_a_base_without_its_prefix_takes_the_same_adapter(tmp_path):
    base, folder, wanted = trained(tiny.gpt2(0), tmp_path, r=2, target_modules=["c_fc"], fan_in_fan_out=True)
    bare = {name.removeprefix("transformer."): t for name, t in load_file(base / "model.safetensors").items()}
    save_file(bare, base / "model.safetensors")
    wanted |= {name.removeprefix("transformer."): tensor for name, tensor in wanted.items()}
    assert assert_is_pefts_merge(base, folder, wanted) == 2


@pytest.mark.parametrize("vocab", [300, 200])
def test_an_adapter_with_another_vocabulary_fits_by_rows(tmp_path, vocab, caplog):
    made = tiny.llama(0)
    tiny.save(made, tmp_path / "base")
    made.resize_token_embeddings(vocab, mean_resizing=False)
    modules = ["embed_tokens", "lm_head"]
    folders = trained(made, tmp_path, r=2, target_modules=["q_proj"], modules_to_save=modules)
    (opened_base, fit), wanted = opened(*folders[:2]), folders[2]
    assert len([record for record in caplog.records if f"({vocab}, 32)" in record.getMessage()]) == 2
    name, rows = "model.embed_tokens.weight", min(vocab, 259)
    embedding = fit.tensor(name).to_torch()
    assert torch.equal(embedding[:rows], wanted[name][:rows])
    assert torch.equal(embedding[rows:], opened_base.tensor(name).to_torch()[rows:])


def test_an_embedding_with_factors_and_new_tokens_is_pefts_merge_cut_to_the_bases_rows(tmp_path):
    made = tiny.llama(0)
    tiny.save(made, tmp_path / "base")
    made.resize_token_embeddings(263, mean_resizing=False)
    base, folder, wanted = trained(made, tmp_path, r=2, target_modules=["embed_tokens", "lm_head"])
    _, fit = opened(base, folder)
    for name in (EMBEDDING, HEAD):
        torch.testing.assert_close(fit.tensor(name).to_torch(), wanted[name][:259], rtol=1e-6, atol=1e-6)


def test_a_torch_bin_adapter_is_the_same(tmp_path):
    base, folder, wanted = trained(tiny.llama(0), tmp_path, r=4, target_modules=["q_proj"])
    file = folder / "adapter_model.safetensors"
    torch.save(load_file(file), file.with_suffix(".bin"))
    file.unlink()
    torch.save({"an": "optimizer"}, folder / "training_args.bin")
    assert assert_is_pefts_merge(base, folder, wanted) == 2


# Without PEFT: what the bits are, and what is refused.


def edit(folder, **settings):
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))


@pytest.fixture
def adapter(tmp_path):
    """Write an adapter folder of given factors; names without PEFT's prefix."""

    def write(tensors=None, **settings):
        if tensors is None:
            tensors = {f"{Q}.lora_A.weight": torch.randn(2, 32), f"{Q}.lora_B.weight": torch.randn(32, 2)}
        folder = tmp_path / f"adapter{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        (folder / "adapter_config.json").write_text(json.dumps({**SIMPLE, **settings}))
        save_file({f"base_model.model.{k}": t.contiguous() for k, t in tensors.items()},
                  folder / "adapter_model.safetensors")  # fmt: skip
        return folder

    return write


def refused(base, folder):
    with pytest.raises(CheckpointError) as caught:
        opened(base, folder)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_an_updated_tensor_is_float32_summed_in_one_order(family, adapter):
    a, b = torch.randn(2, 32), torch.randn(32, 2).bfloat16()
    base, fit = opened(family["base"], adapter({f"{Q}.lora_A.weight": a, f"{Q}.lora_B.weight": b}))
    stored = base.tensor(f"{Q}.weight").to_torch()
    made = fit.tensor(f"{Q}.weight").to_torch()
    delta = torch.outer(b.float()[:, 0], a[0]) + torch.outer(b.float()[:, 1], a[1])
    assert torch.equal(made, stored.float() + delta * 2)


@pytest.mark.parametrize("threads", [1, 3, 7])
def test_a_product_is_the_same_sum_on_any_number_of_threads(threads, monkeypatch):
    left, right = torch.randn(13, 9), torch.randn(9, 21)
    wanted = torch.zeros(13, 21)
    for j in range(9):
        wanted += torch.outer(left[:, j], right[j])
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert torch.equal(product(left, right), wanted)
    assert torch.equal(product(right.T, left.T), wanted.T)


def test_a_tensor_without_an_update_is_the_bases_own(family, adapter):
    base, fit = opened(family["base"], adapter())
    for name in set(fit.parameters) - {f"{Q}.weight"}:
        tensor = base.tensor(name)
        assert fit.tensor(name) is tensor


def test_an_adapter_over_its_base_warns_of_nothing(family, adapter, caplog):
    with caplog.at_level(logging.WARNING):
        opened(family["base"], adapter(base_model_name_or_path="org/base"))
    assert not caplog.records


def test_a_merge_takes_adapters_beside_whole_models(family, adapter):
    folder = adapter()
    experts = [str(folder), str(family["a"])]
    keys = {"base": str(family["base"]), "merge_method": "della", "density": 0.5, "epsilon": 0.2}
    merge = Merge(MergeSpec.parse(experts=experts, **keys))
    assert all(merge.info(name).shape == tensor.shape for name, tensor in merge.stream())
    before = Inputs(merge).fingerprint
    file = folder / "adapter_model.safetensors"
    save_file({name: tensor + 1 for name, tensor in load_file(file).items()}, file)
    assert Inputs(Merge(MergeSpec.parse(experts=experts, **keys))).fingerprint != before


def test_an_adapter_alone_changes_what_it_names_and_nothing_else(family, adapter):
    merge = Merge(MergeSpec.parse(base=str(family["base"]), experts=str(adapter()), merge_method="task_arithmetic"))
    changed = [name for name, tensor in merge.stream() if not torch.equal(tensor, merge.base.tensor(name).to_torch())]
    assert changed == [f"{Q}.weight"]


def test_an_adapter_is_no_base(adapter):
    with pytest.raises(CheckpointError, match="the base is a whole model"):
        open_source(Source(str(adapter())))


def test_an_adapter_may_lie_beside_other_files_of_its_training(family, adapter):
    folder = adapter()
    save_file({"exp_avg": torch.zeros(2)}, folder / "optimizer.safetensors")
    (folder / "tokenizer_config.json").write_text("{}")
    assert type(opened(family["base"], folder)[1].expert) is Adapter


def test_a_whole_model_with_an_adapters_config_is_a_whole_model(family, adapter):
    folder = adapter()
    for name in ("model.safetensors", "config.json"):
        (folder / name).symlink_to(family["a"] / name)
    assert type(opened(family["base"], folder)[1].expert) is Checkpoint


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ({"peft_type": "IA3"}, "peft_type IA3"),
        ({"peft_type": None}, "peft_type None"),
        ({"use_dora": True}, "use_dora"),
        ({"layer_replication": [[0, 1]]}, "layer_replication"),
        ({"trainable_token_indices": [3]}, "trainable_token_indices"),
        ({"lora_bias": True}, "lora_bias"),
        ({"megatron_config": {"a": 1}}, "megatron_config"),
        ({"alora_invocation_tokens": [1]}, "alora_invocation_tokens"),
        ({"init_lora_weights": "pissa_niter_16"}, "init_lora_weights is 'pissa_niter_16'"),
        ({"init_lora_weights": "olora"}, "changed base"),
        ({"r": 0}, "r is 0"),
        ({"r": "8"}, "r is '8'"),
        ({"lora_alpha": None}, "lora_alpha is None"),
        ({"rank_pattern": {"[": 3}}, "rank_pattern is {'[': 3}, not regular expressions"),
        ({"rank_pattern": {"q_proj": 0}}, "rank_pattern is"),
        ({"alpha_pattern": ["q_proj"]}, "alpha_pattern is"),
    ],
    ids=str,
)
def test_what_is_no_plain_lora_is_refused_by_its_name(family, adapter, setting, told):
    text = refused(family["base"], adapter(**setting))
    assert told in text
    assert "adapter_config.json" in text


def test_updates_of_what_the_base_does_not_have_are_told_with_all_other_mismatches(family, adapter):
    up = "model.layers.0.mlp.up_proj"
    folder = adapter({
        f"{Q}9.lora_A.weight": torch.zeros(2, 32), f"{Q}9.lora_B.weight": torch.zeros(32, 2),
        f"{up}.lora_A.weight": torch.zeros(2, 64), f"{up}.lora_B.weight": torch.zeros(96, 2),
        f"{Q}.lora_magnitude_vector": torch.zeros(32), "score.weight": torch.zeros(2, 32),
    })  # fmt: skip
    label = str(Source(str(folder)))
    assert sorted(refused(family["base"], folder).splitlines()[1:]) == sorted([
        f"{label}: {Q}9.weight is F32 [32, 32]; the base has no such parameter",
        f"{label}: {up}.weight is BF16 [96, 64]; the base has BF16 [48, 32]",
        f"{label}: {Q}.lora_magnitude_vector is F32 [32]; the base has no such parameter",
        f"{label}: the adapter was trained on org/their-base",
    ])  # fmt: skip


def test_an_update_that_would_only_fit_transposed_is_a_mismatch(family, adapter):
    up = "model.layers.0.mlp.up_proj"
    turned = {f"{up}.lora_A.weight": torch.zeros(2, 48), f"{up}.lora_B.weight": torch.zeros(32, 2)}
    assert f"{up}.weight is BF16 [32, 48]; the base has BF16 [48, 32]" in refused(family["base"], adapter(turned))
    _, fit = opened(family["base"], adapter(turned, fan_in_fan_out=True))
    assert fit.tensor(f"{up}.weight").shape == (48, 32)


def test_a_truncated_adapter_is_named(family, adapter):
    file = adapter() / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-8])
    assert "adapter_model.safetensors is no readable safetensors file" in refused(family["base"], file.parent)


def test_a_factor_that_is_not_finite_is_told_when_it_is_merged(family, adapter):
    tensors = {f"{Q}.lora_A.weight": torch.full((2, 32), torch.inf), f"{Q}.lora_B.weight": torch.ones(32, 2)}
    folder = adapter(tensors)
    merge = Merge(MergeSpec.parse(base=str(family["base"]), experts=str(folder), merge_method="task_arithmetic"))
    with pytest.raises(MergeError, match=f"{Q}.weight holds NaN or infinity"):
        merge.tensor(f"{Q}.weight")


A, B = torch.zeros(2, 32), torch.zeros(32, 2)


@pytest.mark.parametrize(
    ("tensors", "told"),
    [
        ({"A.weight": A}, "lora_A.weight has no partner"),
        ({"B.weight": B}, "lora_B.weight has no partner"),
        ({"A.weight": A, "B.weight": torch.zeros(32, 4)}, f"{Q}: the ranks of lora_A and lora_B are [2, 4]"),
        ({"A.weight": torch.zeros(4, 32), "B.weight": torch.zeros(32, 4)}, "are [4, 4], the config's is 2"),
        ({"A.weight": A.int(), "B.weight": B}, "lora_A.weight is I32 [2, 32], not a matrix of floats"),
        ({"A.weight": torch.zeros(2, 32, 1, 1), "B.weight": B}, "not a matrix of floats"),
    ],
    ids=["no B", "no A", "two ranks", "another rank", "integers", "convolution"],
)
def test_factors_that_make_no_product_are_refused_by_name(family, adapter, tensors, told):
    text = refused(family["base"], adapter({f"{Q}.lora_{key}": tensor for key, tensor in tensors.items()}))
    assert told in text
    assert "adapter_model.safetensors" in text


def test_an_adapter_without_weights_is_refused(family, adapter):
    folder = adapter()
    (folder / "adapter_model.safetensors").unlink()
    assert "no adapter_model.safetensors or adapter_model.bin" in refused(family["base"], folder)


def test_updates_for_new_tokens_without_their_embedding_are_refused(family, adapter):
    folder = adapter({"lm_head.lora_A.weight": torch.zeros(2, 32), "lm_head.lora_B.weight": torch.zeros(300, 2)})
    assert "lm_head.weight is BF16 [300, 32]" in refused(family["base"], folder)


@pytest.mark.parametrize("name", ["default", "sft", "adapter_2"])
def test_factors_named_after_their_adapter_are_read(name):
    found = updates([f"base_model.model.{Q}.lora_A.{name}.weight", f"base_model.model.{Q}.lora_B.{name}.weight"])
    assert list(found) == [f"{Q}.weight"]
    assert set(found[f"{Q}.weight"].factors) == {"A", "B"}


FACTORS = {f"{Q}.lora_A.weight": torch.ones(2, 32), f"{Q}.lora_B.weight": torch.ones(32, 2)}


@pytest.mark.parametrize("wrapper", ["module.", "_orig_mod.", "module._orig_mod."])
def test_an_adapter_saved_from_within_a_wrapper_is_the_same(family, adapter, wrapper):
    folders = [adapter(FACTORS), adapter(FACTORS)]
    file = folders[1] / "adapter_model.safetensors"
    save_file({wrapper + name: tensor for name, tensor in load_file(file).items()}, file)
    plain, wrapped = (opened(family["base"], folder)[1].tensor(f"{Q}.weight").to_torch() for folder in folders)
    assert torch.equal(wrapped, plain)


def test_an_adapter_of_which_nothing_was_saved_is_refused(family, adapter):
    assert "adapter_model.safetensors holds no tensors" in refused(family["base"], adapter({}))


def test_a_file_of_several_adapters_is_refused(family, adapter):
    both = {name.replace(".weight", f".{each}.weight"): t + 1 for name, t in FACTORS.items() for each in ("a", "b")}
    assert "holds several adapters (a, b), and one is merged" in refused(family["base"], adapter(both))


def test_what_lora_calls_its_own_and_is_no_factor_is_never_left_out(family, adapter):
    odd = f"{Q}.lora_magnitude_vector.weight"
    text = refused(family["base"], adapter(FACTORS | {odd: torch.ones(32)}))
    assert f"{odd} is F32 [32]; the base has no such parameter" in text


@pytest.mark.parametrize("family_name", ["gemma3", "qwen2_vl", "llava"])
def test_an_adapter_finds_the_layers_of_a_model_of_several_parts_by_either_name(tmp_path, family_name):
    """As today's peft names them and as the releases of the checkpoint's layout did."""
    made = families.model(family_name)
    tiny.save(made, tmp_path / "base")
    adapted = peft.get_peft_model(made, peft.LoraConfig(r=2, target_modules=r".*language_model.*q_proj"))
    for name, parameter in adapted.named_parameters():
        parameter.data += "lora_B" in name
    adapted.save_pretrained(tmp_path / "adapter")
    file = tmp_path / "adapter" / "adapter_model.safetensors"
    base, fit = opened(tmp_path / "base", tmp_path / "adapter")
    names = [name for name in fit.parameters if name.endswith("q_proj.weight") and "vision" not in name]
    now = {name: fit.tensor(name).to_torch() for name in names}
    assert len(now) == 2
    assert not any(torch.equal(tensor, base.tensor(name).to_torch()) for name, tensor in now.items())
    stored = names[0].partition("layers.")[0]
    save_file({name.replace("model.language_model.", stored): t for name, t in load_file(file).items()}, file)
    again = opened(tmp_path / "base", tmp_path / "adapter")[1]
    assert all(torch.equal(again.tensor(name).to_torch(), tensor) for name, tensor in now.items())


def test_the_first_pattern_that_matches_a_modules_end_counts():
    rules = Rules({**SIMPLE, "rank_pattern": {"q_proj": 8, "layers.1.q_proj": 16}, "alpha_pattern": {"1.q_proj": 1}})
    assert rules.rank("model.layers.1.q_proj") == 8
    assert rules.rank("model.layers.1.other_q_proj") == 2
    assert rules.scaling("model.layers.1.q_proj") == 1 / 8
    assert rules.scaling("model.layers.0.k_proj") == 2


# A head that the base ties to its embedding.


@pytest.fixture
def tied(tmp_path):
    return tiny.save(tiny.llama(0, tie_word_embeddings=True), tmp_path / "tied")


def test_a_head_of_its_own_is_refused_where_the_base_ties_it(tied, adapter):
    own = {HEAD: torch.randn(259, 32), EMBEDDING: torch.randn(259, 32)}
    low = {"lm_head.lora_A.weight": torch.zeros(2, 32), "lm_head.lora_B.weight": torch.zeros(259, 2)}
    for tensors in (own, low, {HEAD: own[HEAD]}):
        assert f"changes {HEAD}, which {Source(str(tied))} ties" in refused(tied, adapter(tensors))


def test_a_head_that_repeats_the_embedding_is_no_update(tied, adapter, caplog):
    tensor = torch.randn(259, 32)
    _, fit = opened(tied, adapter({HEAD: tensor.clone(), EMBEDDING: tensor}))
    assert HEAD not in fit.names
    assert torch.equal(fit.tensor(EMBEDDING).to_torch(), tensor)
    assert "and with it the head that is tied to it" in caplog.text


def test_the_factors_of_a_tied_head_that_are_the_embeddings_are_no_update(tied, tmp_path):
    """As peft saves them by ensure_weight_tying; its own merge adds the product to the tied weight twice."""
    from transformers import AutoModelForCausalLM

    targets = ["embed_tokens", "q_proj"]
    trained(AutoModelForCausalLM.from_pretrained(tied), tmp_path, target_modules=targets, ensure_weight_tying=True)
    below = AutoModelForCausalLM.from_pretrained(tmp_path / "base").eval()
    adapted = peft.PeftModel.from_pretrained(below, tmp_path / "adapter").eval()
    spec = {"base": str(tmp_path / "base"), "experts": str(tmp_path / "adapter"), "merge_method": "task_arithmetic"}
    ours, _ = load_merged(spec, progress=False)
    ids = torch.arange(3, 19)[None]
    assert torch.allclose(ours(ids).logits, adapted(ids).logits, atol=1e-4)


@pytest.mark.parametrize("origin", ["x" * 5000, "/root/\0", 7, ["a"]], ids=["long", "no path", "number", "list"])
def test_whatever_an_adapter_calls_its_base_is_no_error(tied, adapter, origin):
    opened(tied, adapter(base_model_name_or_path=origin))


def test_the_chatml_recipe_with_new_tokens_and_a_head_to_save_is_pefts_merge(tmp_path):
    tiny.save(tiny.llama(0), tmp_path / "base")
    made = type(tiny.llama(0)).from_pretrained(tmp_path / "base")
    made.resize_token_embeddings(261, mean_resizing=False)
    modules = ["embed_tokens", "lm_head"]
    base, folder, wanted = trained(made, tmp_path, r=2, target_modules=["q_proj"], modules_to_save=modules)
    file = folder / "adapter_model.safetensors"
    untrained = {f"base_model.model.{name}.original_module.weight": torch.zeros(261, 32) for name in ("lm_head",)}
    save_file(load_file(file) | untrained, file)
    _, fit = opened(base, folder)
    for name in (HEAD, EMBEDDING):
        assert torch.equal(fit.tensor(name).to_torch(), wanted[name][:259])


@pytest.fixture(scope="module")
def with_tokens(tmp_path_factory):
    """Folders `base` and `adapter`, which has two tokens more, and `embeds`, whose head has no rows for them."""
    folder = tmp_path_factory.mktemp("with_tokens")
    with torch.random.fork_rng():
        torch.manual_seed(1)
        for name, config in (
            ("adapter", {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens", "lm_head"]}),
            ("embeds", {"target_modules": ["q_proj", "embed_tokens"]}),
        ):
            made = tiny.llama(0)
            if not (folder / "base").exists():
                tiny.save(made, folder / "base")
            made.resize_token_embeddings(261, mean_resizing=False)
            trained(made, folder, r=2, **config)
            if name != "adapter":
                continue
            tiny.tokenizer(("<n1>", "<n2>")).save_pretrained(folder / "adapter")
            (folder / "adapter").rename(folder / "kept")
    (folder / "adapter").rename(folder / "embeds")
    (folder / "kept").rename(folder / "adapter")
    tiny.tokenizer(("<n1>", "<n2>")).save_pretrained(folder / "embeds")
    return folder


@pytest.mark.parametrize("form", ["{0}/adapter", "{0}/base::{0}/adapter"])
@pytest.mark.parametrize("tokenizer", ["union", "{0}/adapter"])
def test_tokens_that_an_adapter_brings_keep_their_rows_alone_and_on_a_model(with_tokens, form, tokenizer):
    expert, tokenizer = form.format(with_tokens), tokenizer.format(with_tokens)
    merge = Merge(
        MergeSpec.parse(base=str(with_tokens / "base"), experts=[expert], merge_method="linear", tokenizer=tokenizer)
    )
    assert merge.vocabulary is not None
    ids = merge.vocabulary.tokenizer.get_vocab()
    saved = load_file(with_tokens / "adapter" / "adapter_model.safetensors")
    embedding = next(tensor for name, tensor in saved.items() if "embed_tokens" in name)
    for row, token in ((259, "<n1>"), (260, "<n2>")):
        assert torch.equal(merge.tensor(EMBEDDING)[ids[token]], embedding[row])


def test_a_base_with_an_adapter_that_brings_tokens_has_the_adapters_tokenizer(with_tokens):
    base = f"{with_tokens}/base::{with_tokens}/adapter"
    merge = Merge(MergeSpec.parse(base=base, experts=[str(with_tokens / "base")], merge_method="task_arithmetic"))
    assert merge.tokenizer_folder == with_tokens / "adapter"
    assert merge.tensor(EMBEDDING).shape[0] == merge.base.config["vocab_size"] == 261


def test_a_head_without_rows_for_the_tokens_of_its_embedding_is_told_before_weights_are_read(with_tokens):
    keys = {"base": str(with_tokens / "base"), "experts": [str(with_tokens / "embeds")], "merge_method": "linear"}
    with pytest.raises(CheckpointError, match=r"lm_head\.weight has 259 rows, and the tokens of its model need 261"):
        Merge(MergeSpec.parse(**keys, tokenizer="union"))


def test_an_adapters_number_of_tokens_is_that_of_the_text_in_a_model_of_several_parts(tmp_path):
    made = families.model("llava")
    tiny.save(made, tmp_path / "base")
    made.resize_token_embeddings(261, mean_resizing=False)
    modules = ["embed_tokens", "lm_head"]
    peft.get_peft_model(made, peft.LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=modules)).save_pretrained(
        tmp_path / "adapter"
    )
    base = open_source(Source(str(tmp_path / "base")))
    config = open_source(Source(str(tmp_path / "adapter")), base).config
    assert ("vocab_size" in config, config["text_config"]["vocab_size"]) == ("vocab_size" in base.config, 261)


@pytest.mark.parametrize(("origin", "is_told"), [("org/their-base", True), ("org/base", False), ("", False)])
def test_an_adapter_that_names_another_base_is_told_once(family, adapter, caplog, origin, is_told):
    folder = adapter(base_model_name_or_path=origin)
    opened(family["base"], folder)
    told = [record.getMessage() for record in caplog.records if "trained on" in record.getMessage()]
    label, base = Source(str(folder)), Source(str(family["base"]))
    text = f"{label}: says that it was trained on {origin}; it is taken as trained on {base}"
    assert told == ([text] if is_told else [])

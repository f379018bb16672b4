"""A merge knows no architecture: whatever transformers loads is merged, held live and written alike."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

from della_bench.errors import CheckpointError
from della_bench.merge.folder import write_folder
from della_bench.merge.stream import Merge
from della_bench.merge.tensor import merge_tensor
from della_bench.models.build import build_model
from della_bench.spec import MergeSpec
from tests import tiny

VOCABULARY: dict[str, Any] = {"vocab_size": 259, "bos_token_id": 0, "eos_token_id": 1}
SMALL = VOCABULARY | {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
}
GROUPED = SMALL | {"num_key_value_heads": 1}
GPT2 = VOCABULARY | {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64}

# architecture: (configuration's class, its options, whether the head is the embedding)
ARCHITECTURES: dict[str, tuple[str, dict[str, Any], bool]] = {
    "llama": ("LlamaConfig", GROUPED, False),
    "llama_tied": ("LlamaConfig", GROUPED | {"tie_word_embeddings": True}, True),
    "mistral": ("MistralConfig", GROUPED | {"sliding_window": 4}, False),
    "qwen2": ("Qwen2Config", GROUPED | {"tie_word_embeddings": True}, True),
    "gemma": ("GemmaConfig", GROUPED | {"head_dim": 16}, True),
    "gemma2": ("Gemma2Config", GROUPED | {"head_dim": 16}, True),
    "gpt2": ("GPT2Config", GPT2, True),
    "gpt2_untied": ("GPT2Config", GPT2 | {"tie_word_embeddings": False}, False),
    "gpt_neox": ("GPTNeoXConfig", SMALL, False),
    "gpt_neox_tied": ("GPTNeoXConfig", SMALL | {"tie_word_embeddings": True}, True),
    "phi": ("PhiConfig", SMALL, False),
    "mixtral": ("MixtralConfig", GROUPED | {"num_local_experts": 4, "num_experts_per_tok": 2}, False),
}
METHODS: dict[str, dict[str, Any]] = {
    "della": {"merge_method": "della", "density": 0.7, "epsilon": 0.1, "weights": [1.0, 0.5], "lambda": 1.1},
    "ties": {"merge_method": "ties", "density": 0.4},
}
CASES = [(name, "della", torch.float32) for name in ARCHITECTURES]
CASES += [("qwen2", "ties", torch.float32), ("gpt2", "della", torch.bfloat16), ("mixtral", "ties", torch.bfloat16)]
PROMPT = torch.tensor([[0, 5, 17, 40, 200, 258, 3, 9, 9, 120]])


class Family:
    """A random base of one architecture and two fine-tunes of it, merged, as a live model and as a folder's."""

    def __init__(self, root: Path, architecture: str, method: str, dtype: torch.dtype) -> None:
        name, options, self.tied = ARCHITECTURES[architecture]
        config = getattr(transformers, name)(**options)
        self.root = root
        self.folders = {"base": root / "base", "a": root / "a", "b": root / "b"}
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = AutoModelForCausalLM.from_config(config).to(dtype)
        # The first step gives the biases and norms of the base values of their own; each next one starts from there.
        for seed, folder in enumerate(self.folders.values()):
            tiny.perturbed(model, seed).save_pretrained(folder)
            model = AutoModelForCausalLM.from_pretrained(self.folders["base"], dtype="auto")
        self.spec = spec(self.folders, method)
        self.merge = Merge(self.spec)

    @cached_property
    def live(self) -> Any:
        return live(self.merge)

    @cached_property
    def written(self) -> Any:
        return written(self.merge, self.root / "merged")

    @cached_property
    def streamed(self) -> dict[str, torch.Tensor]:
        return dict(self.merge.stream())


def spec(folders: dict[str, Path], method: str) -> MergeSpec:
    experts = [str(folders["a"]), str(folders["b"])]
    return MergeSpec.parse({"base": str(folders["base"]), "experts": experts, **METHODS[method]})


def live(merge: Merge) -> Any:
    config = AutoConfig.from_pretrained(merge.base.folder)
    return build_model(merge, config, AutoModelForCausalLM, "cpu", progress=False)


def written(merge: Merge, folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(write_folder(merge, folder, progress=False), dtype="auto").eval()


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    return model(PROMPT).logits


def assert_same_model(model: Any, other: Any) -> None:
    mine, theirs = dict(model.named_parameters()), dict(other.named_parameters())
    assert mine.keys() == theirs.keys()
    assert {name: tensor.dtype for name, tensor in mine.items()} == {name: t.dtype for name, t in theirs.items()}
    assert [name for name, tensor in mine.items() if not torch.equal(tensor, theirs[name])] == []
    assert torch.equal(logits(model), logits(other))


def is_tied(model: Any) -> bool:
    head, embedding = model.get_output_embeddings().weight, model.get_input_embeddings().weight
    return bool(head.data_ptr() == embedding.data_ptr())


@pytest.fixture(scope="module", params=CASES, ids=lambda case: f"{case[0]}-{case[1]}-{str(case[2])[6:]}")
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Family:
    return Family(tmp_path_factory.mktemp("family"), *request.param)


def test_the_live_merge_is_the_written_one_to_the_bit(family):
    assert_same_model(family.live, family.written)
    assert torch.isfinite(logits(family.live)).all()
    base = AutoModelForCausalLM.from_pretrained(family.folders["base"], dtype="auto")
    assert not torch.equal(logits(family.live), logits(base))


def test_heads_are_tied_where_the_config_says_so(family):
    assert (is_tied(family.live), is_tied(family.written)) == (family.tied, family.tied)


def test_every_tensor_of_the_checkpoint_is_merged_by_its_own_name(family):
    base, *experts = [load_file(folder / "model.safetensors") for folder in family.folders.values()]
    assert family.streamed.keys() == base.keys()
    for name, tensor in family.streamed.items():
        wanted = merge_tensor(family.spec, name, base[name], [expert[name] for expert in experts])
        assert torch.equal(tensor, wanted), name
        assert not torch.equal(tensor, base[name]), name


def test_the_live_model_holds_the_streamed_tensors(family):
    held = family.live.state_dict()
    shared = family.streamed.keys() & held.keys()
    assert [name for name in shared if not torch.equal(held[name], family.streamed[name])] == []
    # What transformers renames or stacks on loading is still the same number of elements, none of them lost.
    others = [held[name] for name in held.keys() - shared if not (family.tied and name == "lm_head.weight")]
    left = [family.streamed[name] for name in family.streamed.keys() - shared]
    assert sum(tensor.numel() for tensor in others) == sum(tensor.numel() for tensor in left)
    if left:
        ordered = [torch.cat([tensor.reshape(-1) for tensor in tensors]).sort().values for tensors in (others, left)]
        assert torch.equal(*ordered)


@pytest.fixture(scope="module")
def mixtral(tmp_path_factory: pytest.TempPathFactory) -> Family:
    return Family(tmp_path_factory.mktemp("mixtral"), "mixtral", "della", torch.float32)


@pytest.mark.parametrize("layer", [0, 1])
def test_the_experts_of_a_mixture_are_merged_before_they_are_stacked(mixtral, layer):
    held, streamed = mixtral.live.state_dict(), mixtral.streamed
    assert (len(streamed), len(held)) == (41, 21)
    experts = [f"model.layers.{layer}.block_sparse_moe.experts.{i}" for i in range(4)]
    up = [torch.cat([streamed[f"{expert}.w1.weight"], streamed[f"{expert}.w3.weight"]]) for expert in experts]
    down = [streamed[f"{expert}.w2.weight"] for expert in experts]
    assert torch.equal(held[f"model.layers.{layer}.mlp.experts.gate_up_proj"], torch.stack(up))
    assert torch.equal(held[f"model.layers.{layer}.mlp.experts.down_proj"], torch.stack(down))


def bare(folder: Path, out: Path) -> Path:
    """Save a checkpoint again as one of its bare base model: without a head, and names without its prefix."""
    model = AutoModel.from_pretrained(folder, dtype="auto")
    model.save_pretrained(out)
    named = load_file(folder / "model.safetensors").keys()
    assert not named & load_file(out / "model.safetensors").keys()
    return out


@pytest.mark.parametrize("stripped", ["base", "a", "both"])
@pytest.mark.parametrize("architecture", ["gpt2", "qwen2", "gemma", "gpt_neox_tied"])
def test_a_checkpoint_without_the_base_models_prefix_is_the_same_model(tmp_path, architecture, stripped):
    family = Family(tmp_path, architecture, "ties", torch.float32)
    places = ("base", "a", "b") if stripped == "both" else (stripped,)
    folders = family.folders | {place: bare(family.folders[place], tmp_path / f"bare_{place}") for place in places}
    merge = Merge(spec(folders, "ties"))
    assert_same_model(live(merge), family.live)
    assert_same_model(live(merge), written(merge, tmp_path / "out"))
    assert is_tied(live(merge))


def test_a_head_that_only_some_checkpoints_have_is_an_error_that_names_it(tmp_path):
    family = Family(tmp_path, "llama", "ties", torch.float32)
    headless = {place: bare(folder, tmp_path / f"bare_{place}") for place, folder in family.folders.items()}
    with pytest.raises(CheckpointError, match=r"bare_a: lm_head\.weight is missing"):
        Merge(spec(family.folders | {"a": headless["a"]}, "ties"))
    with pytest.raises(CheckpointError, match=r"lm_head\.weight is .* the base has no such parameter"):
        Merge(spec(family.folders | {"base": headless["base"]}, "ties"))
    with pytest.raises(CheckpointError, match=r"parameters that the checkpoint lacks: lm_head\.weight"):
        live(Merge(spec(headless, "ties")))


@pytest.mark.parametrize("place", ["base", "a"])
def test_a_merge_over_tied_and_untied_heads_is_the_same_live_and_written(tmp_path, place):
    tied = Family(tmp_path / "tied", "llama_tied", "ties", torch.float32)
    untied = Family(tmp_path / "untied", "llama", "ties", torch.float32)
    merge = Merge(spec(untied.folders | {place: tied.folders[place]}, "ties"))
    assert_same_model(live(merge), written(merge, tmp_path / "out"))
    assert not is_tied(live(merge))

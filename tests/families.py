"""Tiny checkpoints of known model families, each a base and an expert, made from transformers' configs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file, save_file

from tests import tiny

__all__ = ["TEXT", "config", "edit_config", "edit_tensors", "make", "model"]

VOCABULARY = 259
TEXT: dict[str, Any] = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16, "max_position_embeddings": 4096,
    "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1,
}  # fmt: skip
MIXTURE = {"num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24,
           "shared_expert_intermediate_size": 24, "decoder_sparse_step": 1}  # fmt: skip
LINEAR = {"layer_types": ["linear_attention", "full_attention"], "linear_num_value_heads": 2, "linear_num_key_heads": 2,
          "linear_key_head_dim": 16, "linear_value_head_dim": 16}  # fmt: skip
SEE = {"depth": 1, "hidden_size": 32, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": 32, "patch_size": 2,
       "num_position_embeddings": 16, "deepstack_visual_indexes": []}  # fmt: skip

# family: (class of the configuration, class of the model, options)
FAMILIES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "qwen3_5": ("Qwen3_5Config", "Qwen3_5ForConditionalGeneration",
                {"text_config": TEXT | LINEAR, "vision_config": SEE}),
    "llama4": ("Llama4Config", "Llama4ForConditionalGeneration",
               {"text_config": TEXT | {"intermediate_size_mlp": 48, "num_local_experts": 2, "no_rope_layers": [1, 0]},
                "vision_config": {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
                                  "intermediate_size": 64, "image_size": 28, "patch_size": 14,
                                  "vision_output_dim": 32, "projector_input_dim": 32, "projector_output_dim": 32,
                                  "pixel_shuffle_ratio": 0.5}}),
    "qwen2_vl": ("Qwen2VLConfig", "Qwen2VLForConditionalGeneration",
                 {"text_config": TEXT | {"rope_parameters": {"rope_type": "default", "mrope_section": [2, 3, 3],
                                                             "rope_theta": 1e4}},
                  "vision_config": {"depth": 1, "embed_dim": 32, "hidden_size": 32, "num_heads": 2, "mlp_ratio": 2,
                                    "patch_size": 2, "spatial_merge_size": 1}}),
    "gemma3": ("Gemma3Config", "Gemma3ForConditionalGeneration",
               {"text_config": TEXT, "mm_tokens_per_image": 4,
                "vision_config": {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
                                  "intermediate_size": 32, "image_size": 8, "patch_size": 2}}),
    "llava": ("LlavaConfig", "LlavaForConditionalGeneration",
              {"text_config": TEXT | {"model_type": "llama"},
               "vision_config": {"model_type": "clip_vision_model", "hidden_size": 32, "num_hidden_layers": 1,
                                 "num_attention_heads": 2, "intermediate_size": 32, "image_size": 8, "patch_size": 4}}),
    "qwen3_next": ("Qwen3NextConfig", "Qwen3NextForCausalLM", TEXT | LINEAR | MIXTURE),
    "qwen3_moe": ("Qwen3MoeConfig", "Qwen3MoeForCausalLM", TEXT | MIXTURE),
    "mixtral": ("MixtralConfig", "MixtralForCausalLM", TEXT | MIXTURE),
    "glm4_moe": ("Glm4MoeConfig", "Glm4MoeForCausalLM",
                 TEXT | MIXTURE | {"n_routed_experts": 4, "first_k_dense_replace": 1, "n_group": 1, "topk_group": 1,
                                   "num_nextn_predict_layers": 1}),
    "gpt_oss": ("GptOssConfig", "GptOssForCausalLM", TEXT | MIXTURE),
    "llama": ("LlamaConfig", "LlamaForCausalLM", TEXT),
    "qwen2": ("Qwen2Config", "Qwen2ForCausalLM", TEXT | {"tie_word_embeddings": True}),
    "gpt2": ("GPT2Config", "GPT2LMHeadModel", {"vocab_size": 259, "n_embd": 32, "n_layer": 2, "n_head": 2}),
}  # fmt: skip


def config(family: str, **options: Any) -> Any:
    """A family's configuration; options are further ones, those of the text in a model of several parts."""
    cls, _, own = FAMILIES[family]
    if "text_config" in own:
        return getattr(transformers, cls)(**own | {"text_config": own["text_config"] | options})
    return getattr(transformers, cls)(**own | options)


def model(family: str, seed: int = 0, **options: Any) -> Any:
    """A family's model with random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = getattr(transformers, FAMILIES[family][1])(config(family, **options)).eval()
    return tiny.perturbed(made, 0)


def make(family: str, folder: Path, change: Callable[[Any], Any] = lambda made: made, **options: Any) -> dict[str, str]:
    """Write a base and a fine-tune of it, with tokenizers, into `folder`; return the spec's keys of their merge.

    change: what is done to the fine-tune before it is written.
    """
    base = model(family, **options)
    tiny.save(base, folder / "base")
    tiny.save(change(tiny.perturbed(base, 1)), folder / "expert")
    return {"base": str(folder / "base"), "experts": str(folder / "expert"), "merge_method": "task_arithmetic"}


def edit_config(folder: Path, **changes: Any) -> None:
    """Change keys of a folder's config.json; None removes one."""
    path = folder / "config.json"
    content = json.loads(path.read_text(encoding="utf-8")) | changes
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}), encoding="utf-8")


def edit_tensors(folder: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    """Change the tensors of a folder's model.safetensors."""
    path = folder / "model.safetensors"
    save_file(change(load_file(path)), path, metadata={"format": "pt"})

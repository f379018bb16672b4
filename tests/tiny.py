"""Tiny random models and tokenizers, made on the spot as folders that transformers loads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

__all__ = ["gpt2", "llama", "perturbed", "save", "tokenizer"]


def tokenizer(extra: tuple[str, ...] = (), chat_template: str | None = None) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer without merges: 3 special tokens, 256 bytes, then `extra`."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: i for i, token in enumerate(["<s>", "</s>", "<unk>", *alphabet])}
    inner = Tokenizer(models.BPE(vocab, [], unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    made = PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="</s>"
    )
    if extra:
        made.add_tokens(list(extra))
    made.chat_template = chat_template
    return made


def llama(
    seed: int = 0, *, vocab: int = 259, layers: int = 2, dtype: torch.dtype = torch.float32, **options: Any
) -> LlamaForCausalLM:
    """A small Llama with random weights."""
    config = LlamaConfig(
        vocab_size=vocab,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=4096,
        bos_token_id=0,
        eos_token_id=1,
        **options,
    )
    return _random(LlamaForCausalLM, config, seed, dtype)


def gpt2(seed: int = 0, *, vocab: int = 259, layers: int = 2, dtype: torch.dtype = torch.float32) -> GPT2LMHeadModel:
    """A small GPT-2 (tied head, Conv1D, biases) with random weights."""
    config = GPT2Config(
        vocab_size=vocab, n_embd=32, n_layer=layers, n_head=2, n_positions=4096, bos_token_id=0, eos_token_id=1
    )
    return _random(GPT2LMHeadModel, config, seed, dtype)


def _random(cls: Callable[[Any], Any], config: Any, seed: int, dtype: torch.dtype) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return cls(config).to(dtype).eval()


def perturbed(model: PreTrainedModel, seed: int, scale: float = 0.02) -> PreTrainedModel:
    """Change every parameter of a model by a little noise, in place, as a fine-tune would."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator) * scale
            parameter.copy_((parameter.float() + noise).to(parameter.dtype))
    return model


def save(model: PreTrainedModel, folder: Path, tok: PreTrainedTokenizerFast | None = None, **options: Any) -> Path:
    """Write a model and a tokenizer into a folder; options go to save_pretrained (max_shard_size)."""
    model.save_pretrained(folder, **options)
    (tok or tokenizer()).save_pretrained(folder)
    return folder

"""Experts of the zoo that have learnt special tokens of their own."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from della_bench import zoo

__all__ = ["TOKENS", "grown", "own_rows"]

TOKENS = {"math": ("<|shared|>", "<|math|>"), "code": ("<|code|>", "<|shared|>")}


def grown(root: Path, name: str, tokens: tuple[str, ...]) -> Path:
    """Save the zoo's model `name` in float32 with special tokens added, each with a row of random numbers."""
    tokenizer = AutoTokenizer.from_pretrained(zoo.folder(name))
    tokenizer.add_special_tokens({"additional_special_tokens": list(tokens)})
    model = AutoModelForCausalLM.from_pretrained(zoo.folder(name), dtype=torch.float32)
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    with torch.no_grad():
        generator = torch.Generator().manual_seed(len(name) + len(tokens[0]))
        rows = torch.randn(len(tokens), model.config.hidden_size, generator=generator)
        model.get_input_embeddings().weight[-len(tokens) :] = rows * 0.06
    model.save_pretrained(root / name)
    tokenizer.save_pretrained(root / name)
    return root / name


def own_rows(folder: Path, token: str) -> torch.Tensor:
    """The row that a model has for a token."""
    i = AutoTokenizer.from_pretrained(folder).get_vocab()[token]
    weight: torch.Tensor = AutoModelForCausalLM.from_pretrained(folder).get_input_embeddings().weight
    return weight[i].detach()

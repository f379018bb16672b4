"""Model folders made of a handful of tensors, without any model behind them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from della_bench.checkpoint import ModelFolder, open_folder

LLAMA: dict[str, Any] = {"model_type": "llama", "vocab_size": 8, "tie_word_embeddings": False}


def tensors(vocab: int = 8, fill: float = 1.0, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    """A model of four tensors, two of which have a row a token."""
    shapes = {
        "model.embed_tokens.weight": (vocab, 4),
        "model.layers.0.mlp.up_proj.weight": (6, 4),
        "model.norm.weight": (4,),
        "lm_head.weight": (vocab, 4),
    }
    return {name: torch.full(shape, fill, dtype=dtype) for name, shape in shapes.items()}


Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a folder: tensors into one file, config and further JSON files beside it."""

    def folder(
        name: str,
        content: Mapping[str, torch.Tensor] | None = None,
        config: Mapping[str, Any] = LLAMA,
        **files: Any,
    ) -> Path:
        path = tmp_path / name
        path.mkdir(parents=True)
        (path / "config.json").write_text(json.dumps(config), encoding="utf-8")
        for file, data in files.items():
            (path / f"{file}.json").write_text(json.dumps(data), encoding="utf-8")
        save_file(dict(tensors() if content is None else content), path / "model.safetensors")
        return path

    return folder


@pytest.fixture
def model(write: Write) -> Callable[..., ModelFolder]:
    """The same, opened; the label is the folder's name."""

    def opened(name: str, *arguments: Any, **files: Any) -> ModelFolder:
        return open_folder(write(name, *arguments, **files), name)

    return opened

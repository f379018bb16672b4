"""Whether a model's weights have the shapes that its config says: a merge keeps both, and no engine would load them.

What a plain decoder has is told from the numbers in the config alone. Only where a tensor is another one, or of another
shape, is transformers asked, which takes torch and some tenths of a second.
"""

from __future__ import annotations

import re
from typing import Any

from della_bench.checkpoint.architecture import Architectures
from della_bench.checkpoint.layer_config import LayerConfig
from della_bench.checkpoint.model import ModelFolder
from della_bench.checkpoint.tensor import TensorInfo

__all__ = ["shape_faults"]

_NUMBERED = re.compile(r"((?:^|.*\.)(?:layers|h|blocks)\.)(\d+)\.")
_SIZE = re.compile(r"size|dim|heads|experts|width|n_embd|n_inner|n_head|rank")
_NO_SIZE = ("vocab_size", "sliding_window_size", "chunk_size", "patch_size", "image_size")
_VOCABULARY = ("embed_tokens.weight", "lm_head.weight")  # whose rows are told apart from here
# The ends of names in a plain decoder, and what their dimensions are; see `_plain`.
_PLAIN = {
    "q_proj.weight": ("heads", "hidden"), "k_proj.weight": ("groups", "hidden"), "v_proj.weight": ("groups", "hidden"),
    "o_proj.weight": ("hidden", "heads"), "q_proj.bias": ("heads",), "k_proj.bias": ("groups",),
    "v_proj.bias": ("groups",), "o_proj.bias": ("hidden",),
    "gate_proj.weight": ("wide", "hidden"), "up_proj.weight": ("wide", "hidden"),
    "down_proj.weight": ("hidden", "wide"), "input_layernorm.weight": ("hidden",),
    "post_attention_layernorm.weight": ("hidden",), "norm.weight": ("hidden",), "q_norm.weight": ("head",),
    "k_norm.weight": ("head",), "embed_tokens.weight": ("", "hidden"), "lm_head.weight": ("", "hidden"),
}  # fmt: skip


def shape_faults(base: ModelFolder, known: Architectures) -> list[str]:
    """Return a fault for each kind of tensor that has another shape than the config says, and one for layers it lacks.

    Of tensors in several layers the first is named. Nothing is said where the config leaves its numbers to defaults, or
    names code of its own, whose shapes only that code knows.
    """
    config = LayerConfig(base).own
    if not isinstance(config.get("hidden_size", config.get("n_embd")), int) or "auto_map" in base.config:
        return []
    faults = _lacking_layers(base)
    sizes = _plain(config)
    odd = {name: info for name, info in base.tensors.items() if info.is_float and not _is_plain(name, info, sizes)}
    architecture = known.of(base) if odd else None
    kinds = set()
    for name, info in odd.items() if architecture else ():
        shape = architecture.shape(name) if architecture else None
        kind = _NUMBERED.sub(r"\1N.", name)
        if shape is None or kind in kinds or shape[_rows(name) :] == info.shape[_rows(name) :]:
            continue
        kinds.add(kind)
        faults.append(f"{base.label}: {name} is {info}, but {_says(config, info.shape, shape)}")
    return faults


def _rows(name: str) -> int:
    """Return how many of a tensor's first dimensions count tokens, which may be more than the config says."""
    return int(name.endswith(_VOCABULARY))


def _plain(config: dict[str, Any]) -> dict[str, Any]:
    hidden, heads = config.get("hidden_size"), config.get("num_attention_heads")
    head = config.get("head_dim") or (hidden // heads if hidden and heads else None)
    groups = config.get("num_key_value_heads") or heads
    return {
        "hidden": hidden,
        "wide": config.get("intermediate_size"),
        "head": head,
        "heads": heads * head if heads and head else None,
        "groups": groups * head if groups and head else None,
    }


def _is_plain(name: str, info: TensorInfo, sizes: dict[str, Any]) -> bool:
    """Whether a tensor is one of a plain decoder, in the shape that it has there."""
    wanted = _PLAIN.get(".".join(name.rsplit(".", 2)[-2:]))
    if wanted is None or len(wanted) != len(info.shape):
        return False
    return all(not key or sizes[key] == size for key, size in zip(wanted, info.shape, strict=True))


def _lacking_layers(base: ModelFolder) -> list[str]:
    """Return a fault where the one stack of layers that the weights have is shorter than the config says."""
    config = LayerConfig(base)
    highest: dict[str, int] = {}
    for match in filter(None, map(_NUMBERED.match, base.tensors)):
        if not match[1].startswith("mtp."):
            highest[match[1]] = max(highest.get(match[1], 0), int(match[2]))
    if len(highest) != 1 or (last := next(iter(highest.values()))) + 1 >= config.count:
        return []
    return [
        f"{base.label}: has the layers 0 to {last}, but config.json says {config.count_key} {config.count}: "
        "the others would be random"
    ]


def _says(config: dict[str, Any], shape: tuple[int, ...], wanted: tuple[int, ...]) -> str:
    """Return in words what in the config makes another shape of a tensor's."""
    numbers = {
        key: value
        for key, value in config.items()
        if type(value) is int and value > 1 and _SIZE.search(key) and key not in _NO_SIZE
    }
    differing = [size for size, own in zip(wanted, shape, strict=False) if size != own] or wanted
    told = [f"{key} {value}" for key, value in numbers.items() if value in differing]
    if not told:
        pairs = [(one, other) for one in numbers for other in numbers if one < other]
        told = [
            f"{one} {numbers[one]}, {other} {numbers[other]}"
            for one, other in pairs
            if numbers[one] * numbers[other] in differing
        ]
    named = f" ({', '.join(told)})" if told else ""
    return f"config.json says {list(wanted)}{named}"

"""What a config says of single layers, worked out anew for a model that is stacked of other layers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from della_bench.checkpoint.model import ModelFolder, config_of

__all__ = ["LayerConfig", "stacked_config"]

# How configs call the number of layers.
_COUNTS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")
# A list with as many items as there are layers says something of each, where its key is about what layers have.
_PER_LAYER = re.compile("layer|attn|attention|head|mlp|ffn|rope|block|window|moe|expert|sparsity|intermediate|pattern")
_POSITIONS = ("mlp_only_layers", "full_attn_idxs", "hybrid_layer_ids", "attn_layer_indices", "cross_attention_layers")
_FIRST = ("first_k_dense_replace", "num_dense_layers")  # so many first layers are of another kind
_PERIODS = ("attn_layer_period", "expert_layer_period")  # each so-manieth layer is


class LayerConfig:
    """What one source's config says of its layers, with transformers' defaults where it knows the architecture."""

    def __init__(self, source: ModelFolder) -> None:
        self._source = source
        inner = source.config.get("text_config")
        inside = isinstance(inner, dict) and any(key in inner for key in _COUNTS)
        self.section = "text_config" if inside else ""
        self.own: dict[str, Any] = source.config[self.section] if inside else source.config
        self.count_key = next((key for key in _COUNTS if isinstance(self.own.get(key), int)), "")

    @property
    def count(self) -> int:
        """How many layers it names; 0 where it names no number."""
        return int(self.own[self.count_key]) if self.count_key else 0

    @cached_property
    def values(self) -> dict[str, Any]:
        """All keys, with lists of all layers that transformers makes of a pattern (`layer_types`)."""
        from transformers import CONFIG_MAPPING

        if self._source.model_type not in CONFIG_MAPPING:
            return self.own
        try:
            made = config_of(self._source.model_type, self._source.config, "quantization_config").get_text_config()
        except Exception:  # whatever an architecture's own code makes of a config that it was not written for
            return self.own
        return {**made.to_dict(), **{key: list(v) for key, v in vars(made).items() if isinstance(v, (list, tuple))}}

    def of_each(self, key: str) -> Sequence[Any] | None:
        """Return what a key says of each layer; None where it is no such key."""
        value = self.values.get(key)
        listed = isinstance(value, (list, str)) and len(value) == self.count
        if not listed or key in _POSITIONS or not _PER_LAYER.search(key):
            return None
        return None if isinstance(value, str) and "pattern" not in key else value


def stacked_config(
    base: LayerConfig, layers: Sequence[tuple[LayerConfig, int]], label: str
) -> tuple[dict[str, Any], list[str]]:
    """Return the keys that the config of a stacked model has other than the base's, and what no config can say.

    layers: for each layer of the model whose layer it is, and which. label: what errors call the base.
    """
    faults: list[str] = []
    changes: dict[str, Any] = {base.count_key: len(layers)}
    for key in base.values:
        if base.of_each(key) is not None:
            each = [(source.of_each(key), layer) for source, layer in layers]
            if any(values is None for values, _ in each):
                faults.append(f"slices: {label}: config.json has {key} for each layer, and not all other sources do")
                continue
            picked = [values[layer] for values, layer in each if values is not None]
            changes[key] = "".join(picked) if isinstance(base.values[key], str) else picked
    if "attention_layers" in changes and "attention_types" in base.values:  # GPT-Neo expands the second to the first
        changes["attention_types"] = [[changes["attention_layers"], 1]]
    for key in _POSITIONS:
        if isinstance(base.values.get(key), list):
            changes[key] = [i for i, (source, layer) in enumerate(layers) if layer in (source.values.get(key) or ())]
    _put_sparse(changes, base, layers)
    for key in (*_FIRST, *(["max_window_layers"] if base.values.get("use_sliding_window") else [])):
        if isinstance(base.values.get(key), int):
            first = [layer < int(source.values.get(key) or 0) for source, layer in layers]
            changes[key] = (*first, False).index(False)
            if sum(first) > changes[key] and "layer_types" not in changes:
                faults.append(
                    f"slices: {label}: {key} in config.json says it of the first layers only; other layers lie between"
                )
    for key in _PERIODS:
        period = base.values.get(key)
        if isinstance(period, int) and any((i - layer) % period for i, (_, layer) in enumerate(layers)):
            faults.append(
                f"slices: {label}: {key}={period} in config.json; layers can be moved by multiples of it only"
            )
    return ({base.section: changes} if base.section else changes), faults


def _put_sparse(changes: dict[str, Any], base: LayerConfig, layers: Sequence[tuple[LayerConfig, int]]) -> None:
    """Name the dense layers one by one where each so-manieth is sparse (Qwen's mixtures of experts)."""
    if base.values.get("decoder_sparse_step", 1) == 1:
        return

    def is_sparse(source: LayerConfig, layer: int) -> bool:
        step, dense = int(source.values.get("decoder_sparse_step") or 1), source.values.get("mlp_only_layers") or ()
        return layer not in dense and (layer + 1) % step == 0

    changes["decoder_sparse_step"] = 1
    changes["mlp_only_layers"] = [i for i, (source, layer) in enumerate(layers) if not is_sparse(source, layer)]

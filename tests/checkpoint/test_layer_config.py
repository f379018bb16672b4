"""What configs say of single layers goes where the layers go, in the words of each architecture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import CONFIG_MAPPING

from della_bench.checkpoint.layer_config import LayerConfig, stacked_config
from della_bench.checkpoint.model import ModelFolder
from della_bench.checkpoint.tensor import HostTensor

SMALL: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 64,
}  # fmt: skip


class Named(ModelFolder):
    """A folder that is only its config."""

    label, folder, files = "model", Path(), []

    def __init__(self, config: dict[str, Any]) -> None:
        self.config, self.tensors = config, {}

    def tensor(self, name: str) -> HostTensor:
        raise NotImplementedError


def of(kind: str, layers: int, **options: Any) -> LayerConfig:
    """What a config says that transformers writes for a kind of model."""
    made = CONFIG_MAPPING[kind](**SMALL | {"num_hidden_layers": layers} | options)
    return LayerConfig(Named(made.to_dict()))


FULL, SLIDING, LINEAR = "full_attention", "sliding_attention", "linear_attention"


def test_a_model_without_lists_has_another_number_of_layers_only():
    base = of("llama", 4)
    assert stacked_config(base, [(base, 0), (base, 3), (base, 3)], "model") == ({"num_hidden_layers": 3}, [])


def test_gpt2_calls_the_number_otherwise():
    base = LayerConfig(Named(CONFIG_MAPPING["gpt2"](n_layer=4).to_dict()))
    assert stacked_config(base, [(base, 0)], "model") == ({"n_layer": 1}, [])


def test_the_kind_of_a_layers_attention_goes_with_it():
    base, other = of("gemma2", 4), of("gemma2", 6)
    layers = [(base, 0), (base, 1), (other, 1), (other, 2), (other, 5)]
    changes, faults = stacked_config(base, layers, "model")
    assert not faults
    assert changes == {"num_hidden_layers": 5, "layer_types": [SLIDING, FULL, FULL, SLIDING, FULL]}


def test_a_list_that_a_pattern_stands_for_is_written_out():
    """The config of Qwen 2 says from which layer on a window is used; transformers makes the list of it."""
    base = of("qwen2", 4, use_sliding_window=True, sliding_window=8, max_window_layers=2)
    changes, faults = stacked_config(base, [(base, k) for k in (0, 1, 3, 1, 2)], "model")
    assert not faults
    assert changes["layer_types"] == [FULL, FULL, SLIDING, FULL, SLIDING]
    made = CONFIG_MAPPING["qwen2"](**{**base.own, **changes})
    assert made.layer_types == changes["layer_types"]


def test_the_number_of_layers_without_a_window_says_nothing_where_no_window_is_used():
    base = of("qwen2", 4, max_window_layers=2)
    changes, _ = stacked_config(base, [(base, k) for k in (3, 0)], "model")
    assert changes == {"num_hidden_layers": 2, "layer_types": [FULL, FULL]}


def test_layers_without_rotary_embedding_are_the_same_layers():
    base = of("smollm3", 4, no_rope_layers=[1, 1, 1, 0], pad_token_id=1)
    changes, _ = stacked_config(base, [(base, k) for k in (3, 2, 3)], "model")
    assert changes["no_rope_layers"] == [0, 1, 0]


def test_layers_of_linear_attention_are_the_same_layers():
    base = of("qwen3_next", 4)
    assert base.values["layer_types"] == [LINEAR, LINEAR, LINEAR, FULL]
    changes, _ = stacked_config(base, [(base, k) for k in (2, 3, 3)], "model")
    assert changes["layer_types"] == [LINEAR, FULL, FULL]


def test_dense_layers_are_named_by_their_new_numbers():
    base = of("qwen3_moe", 4, mlp_only_layers=[0, 2], decoder_sparse_step=1)
    changes, _ = stacked_config(base, [(base, k) for k in (2, 3, 0, 1)], "model")
    assert changes["mlp_only_layers"] == [0, 2]


def test_a_step_of_sparse_layers_becomes_a_list_of_the_dense_ones():
    base = of("qwen3_moe", 4, mlp_only_layers=[3], decoder_sparse_step=2)
    changes, _ = stacked_config(base, [(base, k) for k in (1, 1, 0, 3)], "model")
    assert (changes["decoder_sparse_step"], changes["mlp_only_layers"]) == (1, [2, 3])


def test_dense_layers_that_a_config_counts_from_the_first_must_stay_the_first():
    base = of("deepseek_v3", 4, first_k_dense_replace=2, pad_token_id=1)
    changes, faults = stacked_config(base, [(base, k) for k in (1, 0, 1, 2)], "model")
    assert (changes["first_k_dense_replace"], faults) == (3, [])
    _, faults = stacked_config(base, [(base, k) for k in (0, 2, 1)], "model")
    assert len(faults) == 1
    assert "first_k_dense_replace in config.json says it of the first layers only" in faults[0]


def test_the_text_part_of_a_model_of_several_is_changed_in_its_place():
    text = CONFIG_MAPPING["llama"](**SMALL, num_hidden_layers=4).to_dict()
    base = LayerConfig(Named({"model_type": "unknown_to_transformers", "text_config": text}))
    assert base.count == 4
    assert stacked_config(base, [(base, 1)], "model")[0] == {"text_config": {"num_hidden_layers": 1}}


@pytest.mark.parametrize("key", ["eos_token_id", "architectures", "id_list"])
def test_a_list_of_something_else_is_not_taken_for_one_of_layers(key):
    base = LayerConfig(Named({"model_type": "unknown_to_transformers", "num_hidden_layers": 2, key: [1, 2]}))
    assert stacked_config(base, [(base, 1)], "model") == ({"num_hidden_layers": 1}, [])

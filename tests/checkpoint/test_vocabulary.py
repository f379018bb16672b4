"""Faults of a merge's vocabulary are told all at once, before any weight is read."""

from __future__ import annotations

import copy
import gc
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import (
    AutoConfig,
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    DistilBertConfig,
    DistilBertForMaskedLM,
    RobertaConfig,
    RobertaForMaskedLM,
)

from della_bench.checkpoint.layout import TokenLists, lay_out
from della_bench.checkpoint.model import Checkpoint, ModelFolder
from della_bench.errors import CheckpointError
from della_bench.merge.folder import write_folder
from della_bench.merge.stream import Merge
from della_bench.spec import MergeSpec
from tests import tiny


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folders `base`, `a` and `b`, whose weights nobody may read."""
    for name, extra in (("base", ()), ("a", ("<a>",)), ("b", ("<b>",))):
        tiny.save(tiny.llama(vocab=259 + len(extra)), tmp_path / name, tiny.tokenizer(extra))

    def tensor(*_: Any) -> None:
        raise AssertionError("a weight is read")

    monkeypatch.setattr(Checkpoint, "tensor", tensor)
    return tmp_path


def faults(models: Path, **keys: Any) -> list[str]:
    spec = {"base": str(models / "base"), "experts": [str(models / "a"), str(models / "b")], "merge_method": "linear"}
    with pytest.raises(CheckpointError) as caught:
        Merge(MergeSpec.parse(spec, **keys))
    assert caught.value.exit_code == 2
    return str(caught.value).splitlines()


def test_the_folder_of_a_made_tokenizer_says_which_model_it_is_of_and_goes_with_it(models):
    names = {"base": str(models / "base"), "experts": [str(models / "a"), str(models / "b")]}
    merge = Merge(MergeSpec.parse(names, merge_method="linear", tokenizer="union"))
    assert merge.vocabulary is not None
    folder = merge.vocabulary.folder
    assert AutoConfig.from_pretrained(folder).model_type == "llama"
    assert AutoTokenizer.from_pretrained(folder).get_vocab() == merge.vocabulary.tokenizer.get_vocab()
    del merge
    gc.collect()
    assert not folder.exists()


def make_slow(folder: Path) -> None:
    """Leave a tokenizer that only Python code can run, as those have that transformers has no fast form of."""
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "CTRLTokenizer"}')
    (folder / "vocab.json").write_text('{"<unk>": 0, "a</w>": 1}')
    (folder / "merges.txt").write_text("#version: 0.2\n")


def test_tokenizers_without_a_fast_form_are_refused_all_at_once_beside_weights_that_do_not_fit(models):
    for name in ("a", "b"):
        make_slow(models / name)
    tensors = {"model.norm.weight": torch.zeros(3)}
    save_file(tensors, models / "b" / "model.safetensors", metadata={"format": "pt"})
    found = faults(models, tokenizer="union")
    for line, name in zip(found[:2], "ab", strict=True):
        assert line.startswith(f"{models / name}: its tokenizer (CTRLTokenizer) has no fast form (tokenizer.json)")
    assert found[2] == "base and experts do not fit together:"
    assert any("model.norm.weight" in line for line in found[3:])


def test_every_row_from_a_model_that_lacks_the_token_is_told(models):
    tokens = {
        "<x>": {"source": str(models / "a")},
        "<b>": {"source": str(models / "b")},
        "<a>": {"source": {"kind": "model_token", "model": str(models / "b"), "token": "<a>"}},
        "<s>": {"source": {"kind": "model_token", "model": str(models / "base"), "token_id": 259}},
    }
    a, b, base = (models / name for name in ("a", "b", "base"))
    assert faults(models, tokenizer={"source": "union", "tokens": tokens}) == [
        f"tokens: the row of '<x>' is to come from {a}, which has no token '<x>'",
        f"tokens: the row of '<a>' is to come from {b}, which has no token '<a>'",
        f"tokens: the row of '<s>' is to come from {base}, which has no row 259",
    ]


def test_a_tokenizer_that_cannot_be_loaded_is_told_with_its_model(models):
    (models / "a" / "tokenizer.json").write_text("{")
    (line,) = faults(models, tokenizer="base")
    assert line.startswith(f"{models / 'a'}: its tokenizer cannot be loaded: ")


def test_an_expert_without_a_tokenizer_is_taken_to_have_the_bases(models, caplog):
    shutil.copytree(models / "base", models / "bare")
    for path in (models / "bare").glob("tokenizer*"):
        path.unlink()
    spec = {"base": str(models / "base"), "experts": str(models / "bare"), "merge_method": "linear"}
    merge = Merge(MergeSpec.parse(spec, tokenizer="union"))
    assert merge.vocabulary is not None
    assert merge.vocabulary.size == 259
    assert "has no tokenizer of its own: taken to have the base's" in caplog.text


# The layout, from tokens alone.


class Named(ModelFolder):
    def __init__(self, label: str) -> None:
        self.label = label

    def tensor(self, name: str) -> Any:
        raise AssertionError


def test_rows_come_from_where_mergekit_takes_them(caplog):
    base: Any
    base, a, b = (Named(label) for label in ("base", "a", "b"))
    ids = {base: {"x": 0, "y": 1}, a: {"x": 1, "z": 0, "w": 2}, b: {"w": 0, "z": 1, "y": 2, "far": 9}}
    vocabulary = {"x": 0, "y": 1, "z": 2, "w": 3, "far": 4, "nowhere": 6}
    layout = lay_out(vocabulary, TokenLists(ids, {base: 2, a: 3, b: 3}), [], {}, multiple=4)
    assert layout.size == 8
    assert layout.token_ids.tolist() == [0, 1, 2, 3, 4, 6]
    assert layout.rows[base].tolist() == [0, 1, -1, -1, -1, -1, -1, -1]
    assert layout.rows[a].tolist() == [1, -1, 0, 2, -1, -1, -1, -1]
    assert layout.rows[b].tolist() == [-1, 2, 1, 0, -1, -1, -1, -1]
    fills = {fill.models: (fill.ids.tolist(), fill.rows.tolist()) for fill in layout.fills}
    assert fills == {
        (base,): ([0, 1], [[0], [1]]),
        (a, b): ([2, 3], [[0, 1], [2, 0]]),
        (): ([4, 6], [[], []]),
    }
    assert "b: has no rows for 1 token ('far') of its tokenizer: taken to lack them" in caplog.text
    assert "no model has 2 tokens ('far', 'nowhere'): zeros are taken" in caplog.text


SIZES = {
    "vocab_size": 259,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
MASKED: dict[str, Any] = {
    "roberta": (RobertaForMaskedLM, RobertaConfig(**SIZES, max_position_embeddings=32)),
    "bert": (BertForMaskedLM, BertConfig(**SIZES, max_position_embeddings=32)),
    "distilbert": (
        DistilBertForMaskedLM, DistilBertConfig(vocab_size=259, dim=16, n_layers=1, n_heads=2, hidden_dim=32)
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", MASKED)
def test_the_bias_beside_a_head_that_is_not_stored_has_a_row_for_each_token_too(kind, tmp_path):
    made, config = MASKED[kind]
    base = made(config)
    expert = tiny.perturbed(copy.deepcopy(base), seed=1)
    expert.resize_token_embeddings(261)
    tiny.save(base, tmp_path / "base", tiny.tokenizer())
    tiny.save(expert, tmp_path / "a", tiny.tokenizer(("<x>", "<y>")))
    keys = {"base": str(tmp_path / "base"), "experts": [str(tmp_path / "a")], "merge_method": "task_arithmetic"}
    write_folder(Merge(MergeSpec.parse(keys, tokenizer="union")), tmp_path / "merged")
    merged, wanted = (made.from_pretrained(tmp_path / name).state_dict() for name in ("merged", "a"))
    for name, tensor in wanted.items():
        torch.testing.assert_close(merged[name], tensor, rtol=0, atol=1e-6)

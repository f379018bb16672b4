"""Models of several parts: the text model that transformers runs, layouts of two years, and experts of text alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

from della_bench import load_merged
from della_bench.errors import CheckpointError
from della_bench.merge.folder import write_folder
from della_bench.merge.stream import Merge
from della_bench.spec import MergeSpec
from tests import families

PROMPT = torch.tensor([[0, 5, 17, 40, 200, 258, 3, 9, 9, 120]])


def merge_of(keys: dict[str, Any]) -> Merge:
    return Merge(MergeSpec.parse(keys))


@pytest.mark.parametrize("family", ["qwen3_5", "llama4", "gemma3"])
def test_a_composite_config_runs_as_the_written_folder_does(tmp_path, family):
    keys = families.make(family, tmp_path)
    live, _ = load_merged(keys, progress=False)
    written = AutoModelForCausalLM.from_pretrained(write_folder(merge_of(keys), tmp_path / "out", progress=False))
    assert type(live) is type(written)
    with torch.no_grad():
        assert torch.equal(live(input_ids=PROMPT).logits, written(input_ids=PROMPT).logits)
    mine, theirs = live.state_dict(), written.state_dict()
    assert mine.keys() == theirs.keys()
    assert [name for name, tensor in mine.items() if not torch.equal(tensor, theirs[name])] == []


def test_what_a_text_model_does_not_hold_is_told_in_one_line(tmp_path, caplog):
    keys = families.make("llama4", tmp_path)
    load_merged(keys, progress=False)
    (told,) = [record.getMessage() for record in caplog.records if "place for" in record.getMessage()]
    assert told.startswith(f"{keys['base']}: Llama4ForCausalLM has no place for 26 tensors (")
    assert not [record for record in caplog.records if "LOAD REPORT" in record.getMessage()]


def in_later_layout(folder: Path) -> None:
    """Write a folder's tensors by the names that the model has since transformers 4.52."""
    named = AutoModelForImageTextToText.from_pretrained(folder).state_dict()
    has_head = any(name.endswith("lm_head.weight") for name in load_file(folder / "model.safetensors"))
    kept = {name: tensor.clone() for name, tensor in named.items() if has_head or name != "lm_head.weight"}
    save_file(kept, folder / "model.safetensors", {"format": "pt"})


def loaded(keys: dict[str, Any], out: Path) -> dict[str, torch.Tensor]:
    return AutoModelForImageTextToText.from_pretrained(write_folder(merge_of(keys), out, progress=False)).state_dict()


@pytest.mark.parametrize("later", ["base", "expert"])
@pytest.mark.parametrize("family", ["qwen2_vl", "llava", "gemma3"])
def test_layouts_of_two_years_are_one_model(tmp_path, caplog, family, later):
    keys = families.make(family, tmp_path, tie_word_embeddings=False)
    wanted = loaded(keys, tmp_path / "one")
    before = load_file(tmp_path / later / "model.safetensors").keys()
    in_later_layout(tmp_path / later)
    after = load_file(tmp_path / later / "model.safetensors").keys()
    assert len(before & after) < len(before) / 2
    found = loaded(keys, tmp_path / "two")
    assert [record.getMessage() for record in caplog.records if record.name.startswith("della_bench")] == []
    assert found.keys() == wanted.keys()
    assert [name for name, tensor in wanted.items() if not torch.equal(tensor, found[name])] == []


def text_alone(family: str, folder: Path) -> Path:
    """Make a folder's model one of its text alone, as a fine-tune of the text model is saved."""
    whole = AutoModelForImageTextToText.from_pretrained(folder)
    config = whole.config.get_text_config()
    text = AutoModelForCausalLM.from_config(config)
    decoder = whole.model.language_model
    text.model.load_state_dict(decoder.state_dict())
    text.lm_head.load_state_dict(whole.lm_head.state_dict())
    text.save_pretrained(folder.parent / "text")
    assert json.loads((folder.parent / "text" / "config.json").read_text())["model_type"] == f"{family}_text"
    return folder.parent / "text"


@pytest.mark.parametrize("family", ["qwen3_5", "gemma3"])
def test_an_expert_of_text_alone_changes_the_text_of_a_base_of_several_parts(tmp_path, caplog, family):
    keys = families.make(family, tmp_path)
    wanted = dict(merge_of(keys).stream())
    base = load_file(tmp_path / "base" / "model.safetensors")
    merge = merge_of({**keys, "experts": str(text_alone(family, tmp_path / "expert"))})
    (told,) = [record.getMessage() for record in caplog.records if "lacks" in record.getMessage()]
    assert "language model does not need: the base's are taken" in told
    for name, tensor in merge.stream():
        seen = "vision" in name or "visual" in name or "projector" in name
        assert torch.equal(tensor, base[name] if seen else wanted[name]), name


def test_an_expert_of_several_parts_gives_its_text_to_a_base_of_text_alone(tmp_path):
    keys = families.make("qwen3_5", tmp_path)
    text = text_alone("qwen3_5", tmp_path / "base")
    merge = merge_of({**keys, "base": str(text)})
    wanted = dict(merge_of(keys).stream())
    for name, tensor in merge.stream():
        assert torch.equal(tensor, wanted[name.replace("model.", "model.language_model.", 1)]), name


def test_a_model_of_another_text_is_another_model(tmp_path):
    base, expert = families.make("gemma3", tmp_path / "a"), families.make("qwen3_5", tmp_path / "b")
    with pytest.raises(CheckpointError, match=r"is a qwen3_5, but .* is a gemma3"):
        merge_of({**base, "experts": expert["experts"]})

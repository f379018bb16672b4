"""A merge with a vocabulary of its own, in transformers and as a written folder."""

from __future__ import annotations

import gc
import json
import logging
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from lm_eval.models.huggingface import HFLM
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from della_bench.errors import SpecError
from della_bench.merge.fingerprint import input_files
from della_bench.merge.folder import write_folder
from della_bench.merge.stream import Merge
from della_bench.merge.templates import chosen_template
from della_bench.models.hf import DellaMergedLM
from della_bench.models.loading import load_merged
from della_bench.spec import MergeSpec
from tests import tiny
from tests.models.grown import TOKENS, grown, own_rows
from tests.models.lm import ask

CHAT = [{"role": "user", "content": "Hello"}]


@pytest.fixture(scope="module")
def union(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A spec of two experts that share one new token, under two ids, and have one each for themselves."""
    root = tmp_path_factory.mktemp("grown")
    experts = [str(grown(root, name, tokens)) for name, tokens in TOKENS.items()]
    keys = {"base": "zoo:base", "experts": experts, "merge_method": "task_arithmetic", "weights": 0.3}
    return {**keys, "dtype": "float32", "tokenizer": "union"}


PROMPTS = ["Tom has 3 apples.<|math|>", "<|code|>def f(x):", "<|shared|>Hello<|math|><|code|>", "Hello"]


def test_the_special_tokens_of_both_experts_work(union):
    lm = DellaMergedLM(**union, device="cpu")
    vocab = lm.tokenizer.get_vocab()
    new = ["<|shared|>", "<|math|>", "<|code|>"]
    assert [vocab[token] for token in new] == [1024, 1025, 1026]
    assert lm.tok_encode("a<|code|><|math|>b")[1:3] == [1026, 1025]
    assert lm.tokenizer.decode([1024, 1026], skip_special_tokens=True) == ""
    rows = lm.model.get_input_embeddings().weight
    assert rows.shape[0] == lm.model.config.vocab_size == 1027
    math, code = map(Path, union["experts"])
    assert torch.equal(rows[vocab["<|math|>"]], own_rows(math, "<|math|>"))
    assert torch.equal(rows[vocab["<|code|>"]], own_rows(code, "<|code|>"))
    both = [own_rows(folder, "<|shared|>") for folder in (math, code)]
    torch.testing.assert_close(rows[vocab["<|shared|>"]], (both[0] + both[1]) / 2)
    assert lm.model.lm_head.weight is rows  # tied as in the base


def test_the_written_folder_answers_as_the_merge_in_memory(union, tmp_path):
    folder = write_folder(Merge(MergeSpec.parse(union)), tmp_path / "merged", progress=False)
    ours, theirs = DellaMergedLM(**union, device="cpu"), HFLM(pretrained=str(folder), device="cpu")
    assert ask(ours, *PROMPTS, tokens=24) == ask(theirs, *PROMPTS, tokens=24)
    assert theirs.tokenizer.get_vocab() == ours.tokenizer.get_vocab()
    assert theirs.tokenizer.all_special_ids == ours.tokenizer.all_special_ids
    assert json.loads((folder / "config.json").read_text())["vocab_size"] == 1027


def test_the_temporary_folder_of_a_tokenizer_goes_with_the_merge(union, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    merge = Merge(MergeSpec.parse(union))
    assert not list(tmp_path.iterdir())
    assert merge.tokenizer_folder.is_relative_to(tmp_path)
    assert merge.vocabulary is not None
    assert AutoTokenizer.from_pretrained(merge.tokenizer_folder).get_vocab() == merge.vocabulary.tokenizer.get_vocab()
    assert not list(tmp_path.rglob("*.safetensors"))
    del merge
    gc.collect()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("resident", ["disk", "cpu"])
def test_a_remerge_keeps_to_the_vocabulary_and_fills_its_rows_anew(union, resident):
    lm = DellaMergedLM(**union, device="cpu", resident=resident)
    other = {**union, "tokens": {"<|math|>": {"source": union["experts"][1], "force": True}}}
    for change in ({"weights": [0.2, 0.9]}, {"tokens": {"<|math|>": {"source": {"kind": "zero"}, "force": True}}}):
        lm.remerge({**union, **change})
        fresh, _ = load_merged({**union, **change}, progress=False)
        assert all(torch.equal(p, q) for p, q in zip(lm.model.parameters(), fresh.parameters(), strict=True))
    with pytest.raises(
        Exception, match=r"the row of '<\|math\|>' is to come from .*code, which has no token '<\|math\|>'"
    ):
        lm.remerge(other)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"pad_to_multiple_of": 64}, r"tokenizer=union \(1088 rows, not 1027\): the engine runs tokenizer=union"),
        ({"tokenizer": "base"}, r"tokenizer=base \(1024 rows, not 1027\): the engine runs tokenizer=union"),
        ({"tokenizer": None}, "the base's own tokenizer: the engine runs tokenizer=union"),
    ],
)
def test_a_remerge_into_another_vocabulary_is_refused_with_the_reason(union, change, reason):
    lm = DellaMergedLM(**union, device="cpu")
    before = ask(lm, "Hello")
    with pytest.raises(SpecError, match=reason):
        lm.remerge({**union, **change})
    assert ask(lm, "Hello") == before


@pytest.fixture
def turned(tmp_path: Path) -> dict[str, str]:
    """A base, and a model whose end token has another id."""
    tokenizer = tiny.tokenizer()
    base = tiny.save(tiny.llama(0, pad_token_id=1), tmp_path / "base", tokenizer)
    GenerationConfig(eos_token_id=[1, 2], pad_token_id=1, do_sample=False).save_pretrained(base)
    data = json.loads(tokenizer.backend_tokenizer.to_str())
    vocab = {token: (i + 5) % 259 for token, i in data["model"]["vocab"].items()}
    data["model"]["vocab"] = vocab
    data["added_tokens"] = [{**token, "id": vocab[token["content"]]} for token in data["added_tokens"]]
    other = tiny.save(tiny.llama(1), tmp_path / "other")
    (other / "tokenizer.json").write_text(json.dumps(data))
    return {"base": str(base), "experts": str(other), "merge_method": "task_arithmetic", "tokenizer": str(other)}


def test_ids_in_configs_follow_their_tokens(turned, tmp_path, caplog):
    model, tokenizer = load_merged(turned, progress=False)
    assert (tokenizer.eos_token_id, tokenizer.bos_token_id) == (6, 5)
    folder = write_folder(Merge(MergeSpec.parse(turned)), tmp_path / "out", progress=False)
    written = AutoModelForCausalLM.from_pretrained(folder)
    for made in (model, written):
        assert (made.config.eos_token_id, made.config.bos_token_id, made.config.pad_token_id) == (6, 5, 6)
        assert (made.generation_config.eos_token_id, made.generation_config.pad_token_id) == ([6, 7], 6)
    rows = [AutoModelForCausalLM.from_pretrained(turned[key]).get_input_embeddings().weight for key in
            ("base", "experts")]  # fmt: skip
    torch.testing.assert_close(model.get_input_embeddings().weight[6], rows[1][6])  # weight 1: the expert's
    assert torch.equal(written.get_input_embeddings().weight, model.get_input_embeddings().weight)
    assert not torch.equal(rows[0][6], rows[0][1])


def test_whose_chat_template_is_used_is_said_once_and_told_to_lm_eval(family, tmp_path, caplog):
    templates = {"a": "{{ messages[0].content }}!", "b": "{{ messages[0].content }}!\n", "c": None}
    folders = {
        name: str(tiny.save(tiny.llama(dtype=torch.bfloat16), tmp_path / name, tiny.tokenizer((), text)))
        for name, text in templates.items()
    }
    keys = {"base": folders["c"], "experts": [folders["a"], folders["b"]], "merge_method": "task_arithmetic"}
    told = {
        "auto": (f"that of {folders['a']} (auto: 2 of 3 models have it)", "Hello!"),
        "chatml": ("the one named chatml", "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"),
        "{{ messages[0].role }}": ("the spec's own text", "user"),
        folders["b"]: (f"that of {folders['b']}", "Hello!"),
    }
    prints = set()
    for choice, (origin, prompt) in told.items():
        caplog.clear()
        with caplog.at_level(logging.INFO, "della_bench"):
            lm = DellaMergedLM(**keys, chat_template=choice, device="cpu")
        assert [r.getMessage() for r in caplog.records if "chat template:" in r.getMessage()] == [
            f"chat template: {origin}"
        ]
        assert lm.get_model_info()["della_bench"]["chat_template"] == origin
        assert lm.apply_chat_template(CHAT) == prompt
        prints.add(lm.get_model_info()["della_bench"]["model_fingerprint"])
    assert len(prints) == len(told)
    lm.remerge(keys)
    assert lm.tokenizer.chat_template is None


def test_auto_counts_a_merge_of_its_own_by_the_template_that_it_names(tmp_path):
    plain, own = (
        str(tiny.save(tiny.llama(), tmp_path / name, tiny.tokenizer((), text)))
        for name, text in (("plain", None), ("own", "{{ messages[0].content }}!"))
    )
    stages = [
        {"base": plain, "experts": [plain], "merge_method": "linear", "chat_template": "chatml", "name": name}
        for name in ("one", "two")
    ]
    keys = {"base": own, "experts": [own, *stages], "merge_method": "linear", "chat_template": "auto"}
    found = chosen_template(Merge(MergeSpec.parse(keys)))
    assert "<|im_start|>" in found.content
    assert found.origin == "that of one (auto: 2 of 3 models have it)"
    other = str(tiny.save(tiny.llama(), tmp_path / "other", tiny.tokenizer((), "{{ messages[0].content }}?")))
    stages = [
        {"base": plain, "experts": [plain, other], "merge_method": "linear", "chat_template": "auto", "name": name}
        for name in ("one", "two")
    ]
    merge = Merge(MergeSpec.parse({**keys, "experts": [own, *stages]}))
    found = chosen_template(merge)
    assert found.content == "{{ messages[0].content }}?"
    assert found.origin == "that of one (auto: 2 of 3 models have it)"
    assert Path(other, "tokenizer_config.json") in [path for _, path in input_files(merge)]


def test_a_difference_of_end_token_and_template_is_warned_of_once_with_what_is_done(tmp_path, caplog):
    tokenizer = tiny.tokenizer(("<end>",), CHAT[0]["content"] + "{{ messages }}")
    tokenizer.eos_token = "<end>"
    base = tiny.save(tiny.llama(), tmp_path / "base")
    expert = tiny.save(tiny.llama(vocab=260), tmp_path / "expert", tokenizer)
    keys = {"base": str(base), "experts": str(expert), "merge_method": "task_arithmetic"}
    Merge(MergeSpec.parse(keys, tokenizer="union", chat_template="auto"))
    texts = [record.getMessage() for record in caplog.records]
    assert [text for text in texts if "generates in another way" in text] == [
        f"{expert}: generates in another way than the base (eos_token: <end> for </s>); the base's end tokens and "
        "generation config are used"
    ]
    assert [text for text in texts if "its tokenizer differs" in text] == [
        f"{expert}: its tokenizer differs from the base's (vocabulary: 1 more tokens ('<end>'=259), another chat "
        "template); rows are aligned by the token to those of tokenizer=union, the chat template is that of "
        "chat_template=auto"
    ]
    assert not [text for text in texts if "left out" in text]
    caplog.clear()
    Merge(MergeSpec.parse(keys, tokenizer=str(expert)))
    assert f"the generation config is the base's, the tokenizer's end token is that of {expert}" in caplog.text

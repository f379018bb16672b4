"""What loads from the base loads from the folder of its merge: tokenizers, processors and templates of many files."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import (
    AutoImageProcessor,
    AutoModelForCausalLM,
    AutoProcessor,
    AutoTokenizer,
    CLIPImageProcessor,
    LlavaProcessor,
)

from della_bench import load_merged
from della_bench.errors import CheckpointError
from della_bench.merge.folder import write_folder
from della_bench.merge.stream import Merge
from della_bench.spec import MergeSpec
from tests import tiny

sentencepiece = pytest.importorskip("sentencepiece")
TEXT = "Tom has 3 apples"
TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
OTHER = "other: " + TEMPLATE


def write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")


def pieces(folder: Path, file: str, cls: str, kind: str = "unigram") -> None:
    """A sentencepiece model under a file's name, and no tokenizer.json."""
    (folder / "text").write_text("\n".join(f"{TEXT} and buys {i}, how many now?" for i in range(100)), encoding="utf-8")
    options = {"model_type": kind, "vocab_size": 100, "hard_vocab_limit": False, "minloglevel": 2}
    sentencepiece.SentencePieceTrainer.train(input=str(folder / "text"), model_prefix=str(folder / "made"), **options)
    (folder / "made.model").rename(folder / file)
    for name in ("text", "made.vocab"):
        (folder / name).unlink()
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": cls})


def words(folder: Path) -> None:
    listed = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *TEXT.lower().split()]
    (folder / "vocab.txt").write_text("\n".join(listed), encoding="utf-8")
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "BertTokenizer"})


def byte_pairs(folder: Path) -> None:
    vocab = json.loads(tiny.tokenizer().backend_tokenizer.to_str())["model"]["vocab"]
    write_json(folder / "vocab.json", vocab)
    (folder / "merges.txt").write_text("#version: 0.2\nT o\nTo m\n", encoding="utf-8")
    write_json(folder / "vocab.json", vocab | {"To": 259, "Tom": 260})
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "GPT2Tokenizer"})


def ranks(folder: Path) -> None:
    """A tiktoken file: a token in base64 and its rank, one a line."""
    lines = [f"{base64.b64encode(bytes([i])).decode()} {i}" for i in range(256)]
    (folder / "tokenizer.model").write_text("\n".join(lines) + "\n", encoding="utf-8")
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast"})


TOKENIZERS: dict[str, Callable[[Path], Any]] = {
    "sentencepiece, Llama": lambda folder: pieces(folder, "tokenizer.model", "LlamaTokenizer", "bpe"),
    "sentencepiece, T5": lambda folder: pieces(folder, "spiece.model", "T5Tokenizer"),
    "sentencepiece, XLM-R": lambda folder: pieces(folder, "sentencepiece.bpe.model", "XLMRobertaTokenizer"),
    "words": words,
    "byte pairs": byte_pairs,
    "tiktoken": ranks,
    "tokenizer.json": lambda folder: tiny.tokenizer(("[EXTRA]",), TEMPLATE).save_pretrained(folder),
}


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A base and an expert without tokenizers, of 400 rows."""
    made = tiny.llama(0, vocab=400)
    made.save_pretrained(tmp_path / "base")
    tiny.perturbed(made, 1).save_pretrained(tmp_path / "expert")
    return tmp_path


def keys(models: Path, **others: Any) -> dict[str, Any]:
    spec = {"base": str(models / "base"), "experts": str(models / "expert"), "merge_method": "task_arithmetic"}
    return {**spec, **others}


def written(models: Path, **others: Any) -> Path:
    merge = Merge(MergeSpec.parse(keys(models, **others)))
    return write_folder(merge, models / "out", progress=False, overwrite=True)


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_the_bases_tokenizer_loads_from_the_folder_and_the_model_answers_alike(models, kind):
    TOKENIZERS[kind](models / "base")
    theirs = AutoTokenizer.from_pretrained(models / "base")
    live, _ = load_merged(keys(models), progress=False)
    folder = written(models)
    ours = AutoTokenizer.from_pretrained(folder)
    assert type(ours) is type(theirs)
    assert ours.get_vocab() == theirs.get_vocab()
    assert ours.chat_template == theirs.chat_template
    ids = ours(TEXT, return_tensors="pt").input_ids
    assert ids.tolist() == theirs(TEXT, return_tensors="pt").input_ids.tolist()
    options = {"max_new_tokens": 8, "do_sample": False, "pad_token_id": 0}
    again = AutoModelForCausalLM.from_pretrained(folder)
    assert live.generate(ids, **options).tolist() == again.generate(ids, **options).tolist()


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_a_tokenizer_of_another_source_loads_from_the_folder(models, kind):
    byte_pairs(models / "base")
    (models / "other").mkdir()
    write_json(models / "other" / "config.json", {"model_type": "llama"})
    TOKENIZERS[kind](models / "other")
    ours = AutoTokenizer.from_pretrained(written(models, tokenizer=str(models / "other")))
    assert ours.get_vocab() == AutoTokenizer.from_pretrained(models / "other").get_vocab()


def image_processor() -> Any:
    return CLIPImageProcessor(size={"shortest_edge": 8}, crop_size={"height": 8, "width": 8})


def test_the_bases_processors_load_from_the_folder_whatever_tokenizer_the_spec_names(models):
    base, other = models / "base", models / "other"
    tokenizer = tiny.tokenizer()
    LlavaProcessor(image_processor(), tokenizer, patch_size=4).save_pretrained(base)
    image_processor().save_pretrained(base)
    (base / "video_preprocessor_config.json").write_text("{}", encoding="utf-8")
    tiny.tokenizer(("[EXTRA]",)).save_pretrained(other)
    image_processor().save_pretrained(other)
    write_json(other / "preprocessor_config.json", {"image_processor_type": "ViTImageProcessor"})
    for spec in ({}, {"tokenizer": str(other)}):
        folder = written(models, **spec)
        assert AutoImageProcessor.from_pretrained(folder).to_dict() == image_processor().to_dict()
        assert AutoProcessor.from_pretrained(folder).patch_size == 4
        assert (folder / "video_preprocessor_config.json").is_file()
        assert ("[EXTRA]" in AutoTokenizer.from_pretrained(folder).get_vocab()) == bool(spec)


def several(folder: Path) -> None:
    made = tiny.tokenizer()
    made.chat_template = {"default": TEMPLATE, "tool_use": OTHER}
    made.save_pretrained(folder)
    assert (folder / "additional_chat_templates" / "tool_use.jinja").is_file()


def test_all_templates_of_the_base_load_from_the_folder_and_it_can_be_replaced(models):
    several(models / "base")
    for _ in range(2):
        assert AutoTokenizer.from_pretrained(written(models)).chat_template == {"default": TEMPLATE, "tool_use": OTHER}
    (models / "out" / "additional_chat_templates" / "mine.jinja").write_text("mine", encoding="utf-8")
    with pytest.raises(Exception, match=r"did not write: additional_chat_templates/mine\.jinja"):
        written(models)


@pytest.mark.parametrize("others", ["one", "several"])
def test_the_specs_template_is_the_only_one_and_the_tokenizers_files_stay(models, others):
    pieces(models / "base", "tokenizer.model", "LlamaTokenizer", "bpe")
    write_json(models / "base" / "chat_template.json", {"chat_template": "old"})
    (models / "other").mkdir()
    write_json(models / "other" / "config.json", {"model_type": "llama"})
    several(models / "other") if others == "several" else tiny.tokenizer((), TEMPLATE).save_pretrained(models / "other")
    folder = written(models, chat_template=str(models / "other"))
    wanted = AutoTokenizer.from_pretrained(models / "other").chat_template
    assert AutoTokenizer.from_pretrained(folder).chat_template == wanted
    assert (folder / "tokenizer.model").read_bytes() == (models / "base" / "tokenizer.model").read_bytes()
    assert not (folder / "chat_template.json").exists()


def test_what_belongs_to_weights_or_training_is_not_copied(models):
    tiny.tokenizer().save_pretrained(models / "base")
    for name in ("trainer_state.json", "model.safetensors.index.json", "all_results.json", "adapter_config.json"):
        write_json(models / "base" / name, {})
    (models / "base" / "training_args.bin").write_bytes(b"")
    assert {path.name for path in written(models).iterdir()} == {
        "README.md", "config.json", "della_bench.json", "generation_config.json", "model.safetensors", "tokenizer.json",
        "tokenizer_config.json",
    }  # fmt: skip


# Ids beyond the rows.


def with_token(folder: Path, content: str, **attributes: str) -> None:
    made = tiny.tokenizer((content,))  # 259 rows, and this is 259
    for name, value in attributes.items():
        setattr(made, name, value)
    made.save_pretrained(folder)


@pytest.fixture
def full(tmp_path: Path) -> Path:
    """A base and an expert with as many rows as the tokenizer of the tests has ids."""
    made = tiny.llama(0)
    tiny.save(made, tmp_path / "base")
    tiny.perturbed(made, 1).save_pretrained(tmp_path / "expert")
    return tmp_path


def both_ways(models: Path, **others: Any) -> list[Callable[[], Any]]:
    return [lambda: written(models, **others), lambda: load_merged(keys(models, **others), progress=False)]


def test_an_id_beyond_the_rows_that_no_text_uses_is_a_warning_live_and_written(full, caplog):
    with_token(full / "base", "[PAD]")
    for make in both_ways(full):
        caplog.clear()
        make()
        assert [record.getMessage() for record in caplog.records if record.name.startswith("della_bench")] == [
            f"{full / 'base'}: its tokenizer has ids up to 259, but the merged vocabulary has 259 rows: a text with "
            "'[PAD]'=259 ends in an error"
        ]


@pytest.mark.parametrize(
    ("token", "attributes"),
    [("[PAD]", {"pad_token": "[PAD]"}), ("<|end|>", {"eos_token": "<|end|>"}),
     ("<|im_start|>", {"chat_template": "<|im_start|>" + TEMPLATE})],
)  # fmt: skip
def test_an_id_beyond_the_rows_that_texts_use_is_an_error_live_and_written(full, token, attributes):
    with_token(full / "base", token, **attributes)
    for make in both_ways(full):
        with pytest.raises(CheckpointError) as caught:
            make()
        assert f"has ids up to 259, but the merged vocabulary has 259 rows, and texts use {token!r}=259" in str(
            caught.value
        )
    assert not (full / "out").exists()

from typing import Any

import pytest

from della_bench.zoo import NAMES, SKILLS, folder
from della_bench.zoo.data import SPLITS, items
from della_bench.zoo.prompts import render

transformers = pytest.importorskip("transformers")
torch = pytest.importorskip("torch")

FILES = {
    "README.md",
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
}


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return transformers.AutoTokenizer.from_pretrained(folder("base"))


@pytest.mark.parametrize("name", NAMES)
def test_each_folder_holds_a_llama_in_bf16_that_plain_transformers_loads(name):
    model = transformers.AutoModelForCausalLM.from_pretrained(folder(name))
    assert type(model).__name__ == "LlamaForCausalLM"
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert model.config.max_position_embeddings == 4096
    assert model.config.head_dim == 32
    assert model.config.eos_token_id == model.generation_config.eos_token_id == 2


@pytest.mark.parametrize("name", NAMES)
def test_each_folder_holds_these_files_and_no_others(name):
    assert {path.name for path in folder(name).iterdir()} == FILES


@pytest.mark.parametrize("name", NAMES)
def test_each_card_names_its_model_and_its_limits(name):
    text = (folder(name) / "README.md").read_text(encoding="utf-8")
    assert f"# zoo/{name}\n" in text
    assert "## Accuracy" in text
    assert "## Limits" in text


def test_the_four_models_take_at_most_ten_megabytes():
    assert sum(path.stat().st_size for name in NAMES for path in folder(name).iterdir()) <= 10_000_000


def test_the_four_tokenizers_are_the_same_file():
    assert len({(folder(name) / "tokenizer.json").read_bytes() for name in NAMES}) == 1


def test_special_tokens_are_set_and_none_is_added_to_a_text(tokenizer):
    assert tokenizer.convert_ids_to_tokens([0, 1, 2, 3]) == ["<pad>", "<s>", "</s>", "<unk>"]
    assert (tokenizer.pad_token, tokenizer.bos_token, tokenizer.eos_token, tokenizer.unk_token) == (
        "<pad>",
        "<s>",
        "</s>",
        "<unk>",
    )
    assert not set(tokenizer.encode("Hello Tom.")) & {0, 1, 2, 3}


@pytest.mark.parametrize("text", ["", " ", "a  b\n\n\tc \r\n", "déjà vu, 日本 🦆", "don't , stop .", "\x00\x7f"])
def test_the_tokenizer_gives_any_text_back(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_answers_survive_the_tokenizer_and_join_their_prompt_without_a_merge(tokenizer):
    for skill in SKILLS:
        for item in items(skill, "test"):
            prompt = render(skill, item)
            ids = tokenizer.encode(prompt) + tokenizer.encode(item.answer)
            assert tokenizer.decode(ids) == prompt + item.answer
            assert ids == tokenizer.encode(prompt + item.answer)


def test_every_answer_fits_what_the_tasks_let_a_model_write(tokenizer):
    from della_bench.zoo.training import NEW_TOKENS

    for skill in SKILLS:
        longest = max(len(tokenizer.encode(item.answer)) for split in SPLITS for item in items(skill, split))
        assert longest + 1 <= NEW_TOKENS[skill]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_experts_know_their_skill_and_the_base_knows_none(name, tokenizer):
    from della_bench.zoo.training import accuracy

    model = transformers.AutoModelForCausalLM.from_pretrained(folder(name)).eval()
    if name == "base":
        assert all(accuracy(model, tokenizer, skill, "test") <= 10 for skill in SKILLS)
    else:
        assert accuracy(model, tokenizer, name, "test") >= 70

"""How two tokenizers differ, told from files alone."""

import pytest

from della_bench.checkpoint import open_folder
from della_bench.checkpoint.tokenizers import tokenizer_difference
from tests import tiny


@pytest.fixture
def saved(write):
    """A checkpoint with the tokenizer of tests.tiny; text goes into further files."""

    def make(name, tokenizer=None, **texts):
        folder = write(name)
        (tokenizer or tiny.tokenizer()).save_pretrained(folder)
        for file, text in texts.items():
            (folder / file.replace("_jinja", ".jinja")).write_text(text, encoding="utf-8")
        return open_folder(folder, name)

    return make


@pytest.fixture
def files(write):
    """A checkpoint with JSON files as given, and a sentencepiece file where `model` is given."""

    def make(name, model=None, **data):
        folder = write(name, **data)
        if model is not None:
            (folder / "tokenizer.model").write_bytes(model)
        return open_folder(folder, name)

    return make


def bpe(vocab, merges=(), added=(), **rules):
    return {
        "model": {"type": "BPE", "vocab": vocab, "merges": list(merges)},
        "added_tokens": [{"content": token, "id": index} for token, index in added],
        **rules,
    }


AB = {"a": 0, "b": 1}


def test_equal_tokenizers_do_not_differ(saved):
    assert tokenizer_difference(saved("base"), saved("e")) == ""


def test_an_added_token_is_named_with_its_id(saved):
    more = saved("e", tiny.tokenizer(extra=("[PAD]",)))
    assert tokenizer_difference(saved("base"), more) == "vocabulary: 1 more tokens ('[PAD]'=259)"
    assert tokenizer_difference(more, saved("other")) == "vocabulary: 1 tokens fewer"


def test_of_many_added_tokens_the_first_by_id_are_named(saved):
    more = saved("e", tiny.tokenizer(extra=("<z>", "<y>", "<x>", "<w>")))
    text = "vocabulary: 4 more tokens ('<z>'=259, '<y>'=260, '<x>'=261, ...)"
    assert tokenizer_difference(saved("base"), more) == text


def test_tokens_lost_and_moved_are_counted(files):
    base = files("base", tokenizer=bpe({"a": 0, "b": 1, "c": 2, "d": 3}))
    expert = files("e", tokenizer=bpe({"b": 0, "a": 1, "d": 3, "e": 2}))
    assert tokenizer_difference(base, expert) == (
        "vocabulary: 1 more tokens ('e'=2), 1 tokens fewer, 2 tokens with another id"
    )


def test_another_chat_template_is_told_wherever_it_is_kept(saved, write):
    with_template = tiny.tokenizer(chat_template="{{ messages }}")
    assert tokenizer_difference(saved("base"), saved("e", with_template)) == "another chat template"
    assert tokenizer_difference(saved("f", with_template), saved("g", with_template)) == ""


def test_a_template_in_the_config_equals_the_same_in_a_file(files, saved):
    config = files("base", tokenizer=bpe(AB), tokenizer_config={"chat_template": "{{ x }}"})
    file = files("e", tokenizer=bpe(AB))
    (file.folder / "chat_template.jinja").write_text("{{ x }}", encoding="utf-8")
    assert tokenizer_difference(config, file) == ""


@pytest.mark.parametrize("rule", ["normalizer", "pre_tokenizer", "post_processor", "decoder"])
def test_other_rules_are_told(files, rule):
    base, expert = files("base", tokenizer=bpe(AB)), files("e", tokenizer=bpe(AB, **{rule: {"type": "X"}}))
    assert tokenizer_difference(base, expert) == "other rules in tokenizer.json"


def test_other_merges_of_one_vocabulary_are_told(files):
    base = files("base", tokenizer=bpe(AB, merges=["a b", "b a"]))
    assert tokenizer_difference(base, files("e", tokenizer=bpe(AB, merges=["b a", "a b"]))) == (
        "other rules in tokenizer.json"
    )


def test_merges_in_either_spelling_are_the_same(files):
    base = files("base", tokenizer=bpe(AB, merges=["a b"]))
    assert tokenizer_difference(base, files("e", tokenizer=bpe(AB, merges=[["a", "b"]]))) == ""


def test_settings_of_one_call_are_no_difference(files):
    base = files("base", tokenizer=bpe(AB))
    other = bpe(AB, truncation={"max_length": 5}, padding={"x": 1}, version="1.0")
    assert tokenizer_difference(base, files("e", tokenizer=other)) == ""


def test_a_unigram_vocabulary_is_its_order(files):
    def unigram(*tokens):
        return {"model": {"type": "Unigram", "vocab": [[token, -1.5] for token in tokens]}}

    base = files("base", tokenizer=unigram("a", "b"))
    assert tokenizer_difference(base, files("same", tokenizer=unigram("a", "b"))) == ""
    assert tokenizer_difference(base, files("e", tokenizer=unigram("b", "a", "c"))) == (
        "vocabulary: 1 more tokens ('c'=2), 2 tokens with another id"
    )


def test_added_tokens_count_wherever_they_are_kept(files):
    base = files("base", tokenizer=bpe(AB, added=[("[PAD]", 2)]))
    beside = files("e", vocab=AB, added_tokens={"[PAD]": 2})
    assert tokenizer_difference(base, beside) == ""
    assert tokenizer_difference(files("f", vocab=AB), beside) == "vocabulary: 1 more tokens ('[PAD]'=2)"


def test_a_checkpoint_without_a_tokenizer_has_nothing_to_compare(saved, files):
    assert tokenizer_difference(saved("base"), files("e")) == ""
    assert tokenizer_difference(files("f", tokenizer_config={"chat_template": "x"}), saved("g")) == ""


# Sentencepiece files: the vocabulary is inside, out of reach.


def test_other_sentencepiece_files_are_told(files):
    assert tokenizer_difference(files("base", b"one"), files("same", b"one")) == ""
    assert tokenizer_difference(files("f", b"one"), files("e", b"two")) == "another tokenizer.model"


def test_a_slow_tokenizer_beside_the_fast_one_of_the_same_model_is_no_difference(files):
    fast = bpe(AB, normalizer={"type": "X"})
    both, slow = files("both", b"one", tokenizer=fast), files("slow", b"one")
    only_fast = files("fast", tokenizer=fast)
    for base, expert in ((both, slow), (slow, both), (only_fast, slow), (slow, only_fast)):
        assert tokenizer_difference(base, expert) == ""


def test_a_token_added_to_a_slow_tokenizer_is_told(files):
    added = {"<unk>": 0, "[PAD]": 8}  # the vocabulary of the sentencepiece file has 8 tokens
    told = "vocabulary: 1 more tokens ('[PAD]'=8)"
    assert tokenizer_difference(files("slow", b"one"), files("e", b"one", added_tokens=added)) == told
    fast = bpe({**AB, "<unk>": 0})
    assert tokenizer_difference(files("fast", b"one", tokenizer=fast), files("f", b"one", added_tokens=added)) == told
    assert tokenizer_difference(files("s", b"one", added_tokens=added), files("g", b"one", added_tokens=added)) == ""


@pytest.mark.parametrize("broken", ["{", "[]", "null", "3", b"\xff\xfe"])
def test_a_broken_tokenizer_file_is_left_to_the_one_who_loads_it(saved, broken):
    base, expert = saved("base"), saved("e")
    (expert.folder / "tokenizer.json").write_bytes(broken if isinstance(broken, bytes) else broken.encode())
    assert tokenizer_difference(base, expert) == ""


def test_the_same_files_are_read_once_and_changed_ones_again(saved, monkeypatch):
    base, expert = saved("base"), saved("e")
    assert tokenizer_difference(base, expert) == ""
    with monkeypatch.context() as patched:
        patched.setattr("della_bench.checkpoint.tokenizers.json", None)
        assert tokenizer_difference(base, expert) == ""
    tiny.tokenizer(extra=("[PAD]",)).save_pretrained(expert.tokenizer_folder)
    assert tokenizer_difference(base, expert) == "vocabulary: 1 more tokens ('[PAD]'=259)"

"""The keys of the vocabulary and of the chat template, in every form, and their faults."""

from __future__ import annotations

import pytest
import yaml

from della_bench.errors import SpecError
from della_bench.spec import MergeSpec, Source
from della_bench.spec.templates import NAMED, Template
from della_bench.spec.vocabulary import TokenRow

MODELS = {"base": "org/base", "experts": "org/a+org/b", "merge_method": "task_arithmetic"}
A = Source("org/a")


def parse(**keys):
    return MergeSpec.parse(MODELS, **keys)


def faults(**keys):
    with pytest.raises(SpecError) as caught:
        parse(**keys)
    return caught.value.faults


def test_the_form_of_mergekit_is_three_keys():
    spec = parse(tokenizer={
        "source": "union",
        "tokens": {
            "<|im_end|>": {"source": "org/a", "force": True},
            "<u>": {"source": {"kind": "model_token", "model": "org/a", "token": "<s>"}},
            "<i>": {"source": {"kind": "model_token", "model": "org/a", "token_id": 7}},
            "<z>": {"source": {"kind": "zero"}},
            "<n>": {},
        },
        "pad_to_multiple_of": 64,
    })  # fmt: skip
    assert (spec.tokenizer, spec.pad_to_multiple_of) == ("union", 64)
    assert spec.tokens == (
        TokenRow("<|im_end|>", A, force=True),
        TokenRow("<u>", A, "<s>"),
        TokenRow("<i>", A, 7),
        TokenRow("<z>", zero=True),
        TokenRow("<n>"),
    )
    text = "%3C%7Cim_end%7C%3E:force:org/a+%3Cu%3E:org/a:%3Cs%3E+%3Ci%3E:org/a:#7+%3Cz%3E:zero+%3Cn%3E:"
    assert str(spec).endswith(f",tokenizer=union,tokens={text},pad_to_multiple_of=64")
    assert parse(tokenizer={"tokens": {"x": "org/a"}}) == parse(tokenizer="union", tokens="x:org/a")


@pytest.mark.parametrize("word", ["base", "union", "zero", "force", "zoo", "merge", "text", "auto", "chatml"])
def test_a_model_that_is_called_like_a_word_of_the_syntax_is_a_model(word):
    for model in (Source(word), Source(word, adapter=Source(word))):
        spec = MergeSpec.parse(base=model, experts=[model], merge_method="task_arithmetic", tokenizer=model,
                               tokens=[TokenRow("x", model, word), TokenRow("y", model, force=True)],
                               chat_template=model)  # fmt: skip
        assert spec.tokenizer == spec.chat_template == spec.tokens[0].source == model
        assert MergeSpec.parse(str(spec)) == spec


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("auto", Template("auto")),
        ("llama3", Template("llama3")),
        ("{% for m in messages %}{{ m }}\n{% endfor %}", Template(text="{% for m in messages %}{{ m }}\n{% endfor %}")),
        ("text:%7B%7B 1 %7D%7D", Template(text="{{ 1 }}")),
        ("{% generation %}{{ messages }}{% endgeneration %}{% break %}", None),
        ("org/a", A),
        ("./chatml", Source("./chatml")),
    ],
)
def test_a_chat_template_is_a_word_a_name_a_text_or_a_source(given, kept):
    if kept is None:  # tags that transformers and no plain Jinja has
        given = f"{{% for m in messages %}}{given}{{% endfor %}}"
        kept = Template(text=given)
    spec = parse(chat_template=given)
    assert spec.chat_template == kept
    assert MergeSpec.parse(str(spec)) == MergeSpec.parse(yaml.safe_load(yaml.safe_dump(spec.as_keys()))) == spec


def test_a_word_that_is_a_model_of_the_merge_is_that_model():
    spec = MergeSpec.parse(base="here", experts="mine", merge_method="linear", chat_template="mine")
    assert spec.chat_template == Source("mine")
    assert MergeSpec.parse(str(spec)) == spec


def test_all_faults_are_told_at_once():
    tokens = {"<x>": "org/c", "<y>": {"source": {"kind": "zero"}}}
    assert faults(tokenizer={"source": "union", "tokens": tokens, "pad_to_multiple_of": 0}, chat_template="lama3") == [
        "pad_to_multiple_of=0: a whole number from 1 to 16,777,216",
        "tokens: the row of '<x>' is to come from org/c, which is no model of the merge; did you mean 'org/b' or "
        "'org/a'?",
        "chat_template=lama3: no template of this name; did you mean 'llama3'? (a folder here is written ./lama3, a "
        "template's text has braces)",
    ]


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"tokenizer": "union", "pad_to_multiple_of": "many"}, "pad_to_multiple_of='many': not a number"),
        ({"tokenizer": "union", "pad_to_multiple_of": 2.5}, "pad_to_multiple_of=2.5: a whole number"),
        ({"pad_to_multiple_of": 8}, "pad_to_multiple_of: needs tokenizer=base, union or a model"),
        ({"tokens": "x:zero"}, "tokens: needs tokenizer=base, union or a model"),
        ({"tokenizer": {"sourc": "union"}}, "tokenizer.sourc: unknown key; did you mean 'source'?"),
        ({"tokenizer": True}, "tokenizer=True: a source is"),
        ({"tokenizer": "union", "tokens": "x"}, "not TOKEN:SOURCE"),
        ({"tokenizer": "union", "tokens": "x:org/a:y:z"}, "more than TOKEN:SOURCE:OTHER"),
        ({"tokenizer": "union", "tokens": "x:org/a+x:org/b"}, "'x': given twice"),
        ({"tokenizer": "union", "tokens": {"x": {"force": True}}}, "'x': force needs a source"),
        ({"tokenizer": "union", "tokens": {"x": {"source": {"kind": "zer"}}}}, "'x': kind 'zer'; did you mean 'zero'?"),
        (
            {"tokenizer": "union", "tokens": {"x": {"source": {"kind": "model_token", "model": "org/a"}}}},
            "one of token",
        ),
        ({"chat_template": "{% for %}"}, "not a Jinja template"),
    ],
)
def test_a_fault_is_told_with_what_is_allowed(keys, told):
    assert any(told in fault for fault in faults(**keys)), faults(**keys)


def test_a_template_is_told_by_its_text_and_a_model_by_its_place_in_the_digests():
    union = parse(tokenizer="union", tokens="x:org/a")
    renamed = MergeSpec.parse(base="p", experts="q+r", merge_method="task_arithmetic", tokenizer="union", tokens="x:q")
    assert union.recipe_digest == renamed.recipe_digest != union.digest
    others = [{"tokenizer": "union", "tokens": "x:org/b"}, {"tokenizer": "base", "tokens": "x:org/a"},
              {"tokenizer": "org/a", "tokens": "x:org/a"}, {"tokenizer": "union"}]  # fmt: skip
    assert union.recipe_digest not in {parse(**keys).recipe_digest for keys in others}
    by_name, by_text = (parse(chat_template=each) for each in ("chatml", NAMED["chatml"]))
    assert by_name.recipe_digest != by_text.recipe_digest != parse().recipe_digest
    assert parse(chat_template="org/a").recipe_digest == parse().recipe_digest  # its files are told by their contents


# mergekit's YAML.


def read(tmp_path, **keys):
    models = [{"model": f"org/{name}", "parameters": {"weight": 1}} for name in "ab"]
    made = {"merge_method": "task_arithmetic", "base_model": "org/base", "models": models, **keys}
    path = tmp_path / "merge.yml"
    path.write_text(yaml.safe_dump(made), encoding="utf-8")
    return MergeSpec.parse(path)


@pytest.mark.parametrize(
    ("keys", "ours"),
    [
        ({"tokenizer_source": "union"}, {"tokenizer": "union"}),
        ({"tokenizer_source": "base"}, {"tokenizer": "base"}),
        ({"tokenizer_source": "model:org/a"}, {"tokenizer": "org/a"}),
        ({"tokenizer": {}}, {"tokenizer": "union"}),
        ({"tokenizer": {"source": "org/c+org/lora"}}, {"tokenizer": "org/c::org/lora"}),
        ({"tokenizer": {"source": "base", "tokens": {"x": {"source": "org/a"}}, "pad_to_multiple_of": 8}},
         {"tokenizer": "base", "tokens": "x:org/a", "pad_to_multiple_of": 8}),
        ({"chat_template": "chatml"}, {"chat_template": "chatml"}),
        ({"chat_template": "{{ messages }} and more"}, {"chat_template": "{{ messages }} and more"}),
        ({"tokenizer_source": None, "tokenizer": None, "chat_template": ""}, {}),
    ],
)  # fmt: skip
def test_tokenizer_settings_of_a_mergekit_yaml_are_our_keys(keys, ours, tmp_path):
    assert read(tmp_path, **keys) == parse(weights=1, **ours)


def test_all_faults_of_a_mergekit_yaml_are_told_at_once(tmp_path):
    tokens = {"x": {"source": "org/c"}, "y": {"source": {"kind": "model_token", "model": "org/a"}}}
    with pytest.raises(SpecError) as caught:
        read(tmp_path, tokenizer={"tokens": {"x": tokens["x"]}, "pad_to_multiple_of": 0}, tokenizer_source="base",
             chat_template="lama3")  # fmt: skip
    (places, *others) = (fault.removeprefix(f"config={tmp_path / 'merge.yml'}: ") for fault in caught.value.faults)
    assert places == "tokenizer_source and tokenizer: two names of one setting; give one of them"
    assert others == ["chat_template='lama3': no template; did you mean 'llama3'?"]
    with pytest.raises(SpecError) as caught:
        read(tmp_path, tokenizer={"tokens": tokens, "pad_to_multiple_of": "many"})
    assert [fault.partition("merge.yml: ")[2].partition("=")[0] for fault in caught.value.faults] == [
        "tokenizer.tokens", "tokenizer.pad_to_multiple_of"
    ]  # fmt: skip
    with pytest.raises(SpecError, match="the row of 'x' is to come from org/c, which is no model of the merge"):
        read(tmp_path, tokenizer={"tokens": {"x": tokens["x"]}})

"""What is wrong with a mergekit YAML: told all at once, each once, and nothing that only follows from it."""

from typing import Any

import pytest

from della_bench.errors import SpecError
from tests.spec.test_mergekit import MODELS, config

SLICES: dict[str, Any] = {"base": None, "models": None, "parameters": {}}


@pytest.mark.parametrize("method", [["ties"], {"ties": 1}, 3, None])
def test_a_method_that_is_no_text_is_refused(faults, method):
    (fault,) = faults(config(method))
    assert fault.startswith(f"merge_method={method!r}: not supported")


@pytest.mark.parametrize(
    ("slices", "told"),
    [
        ("abc", ["slices='abc': not a list of slices"]),
        ([], ["slices=[]: not a list of slices"]),
        ([{"sources": []}], ["slices[0]: not a mapping with a list of sources"]),
        ([{"sources": [{"layer_range": [0, 1]}]}], None),
        ([{"sources": [{"model": "org/a"}]}], None),
        *(
            ([{"sources": [{"model": "org/a", "layer_range": ends}]}], None)
            for ends in (
                [0],
                [0, 1, 2],
                "0, 32",
                "02",
                {0: 1, 2: 3},
                [-1, 3],
                [0.5, 1],
                {"a": 0, "b": 1},
                [0, float("inf")],
                3,
                None,
            )
        ),
    ],
)
def test_slices_that_cannot_be_read_are_the_only_fault(faults, slices, told):
    whole = "slices[0].sources[0]: not a mapping with a model's name and a layer_range of two whole numbers"
    assert faults(config("passthrough", **SLICES, slices=slices)) == (told or [whole])


def test_a_source_that_names_no_model_is_told_with_its_place(faults):
    slices = [{"sources": [{"model": "a+b+c", "layer_range": [0, 1]}], "base_model": 7}]
    assert faults(config("passthrough", **SLICES, slices=slices)) == [
        "slices[0].base_model=7: not the name of a model",
        "slices[0].sources[0].model='a+b+c': a model has one LoRA adapter at most, behind a plus sign: model+adapter",
    ]


@pytest.mark.parametrize("other", ["models", "slices"])
def test_modules_beside_models_or_slices_are_refused_as_in_mergekit(faults, other):
    module = {"default": {"models": [{"model": "org/a", "parameters": {"weight": 1}}]}}
    listed = {"models": MODELS, "slices": [{"sources": [{"model": "org/a", "layer_range": [0, 1]}]}]}[other]
    found = faults({"merge_method": "linear", "modules": module, other: listed})
    assert f"modules: given beside {other}; mergekit takes one of them" in found


def test_values_that_are_checked_last_are_told_beside_the_others(faults):
    found = faults(config("karcher", dtype="bfloat15", parameters={"max_iter": "many", "tol": "little"}))
    assert [fault.partition(":")[0] for fault in found] == [
        "parameters.tol='little'", "dtype='bfloat15'", "max_iter='many'",
    ]  # fmt: skip


def test_a_model_that_cannot_be_read_is_told_beside_a_tokenizer_too(read):
    with pytest.raises(SpecError, match="no model 'nope' in the zoo"):
        read(config(models=[{"model": "zoo:nope", "parameters": {"weight": 1}}], tokenizer={"source": "union"}))


def test_what_is_wrong_behind_the_tokenizer_is_told_beside_a_model_that_cannot_be_read(faults):
    models = [{"model": "zoo:nope", "parameters": {"weight": 1}}]
    found = faults(config(models=models, tokenizer={"source": "union"}, chat_template="lama3"))
    assert [fault for fault in found if fault.startswith("chat_template='lama3': no template")]


def test_layers_beyond_number_and_half_a_character_are_no_tracebacks(read, faults):
    huge = [{"sources": [{"model": "org/a", "layer_range": [0, 2**70]}, {"model": "org/b", "layer_range": [0, 4]}]}]
    with pytest.raises(SpecError, match="ranges of unequal length"):
        read(config("linear", **SLICES | {"parameters": {"weight": 1}}, slices=huge))
    (fault,) = faults(config(tokenizer={"tokens": {"\ud800": {"source": {"kind": "zero"}}}}))
    assert "half a character, which no tokenizer takes" in fault


def test_all_tokens_that_cannot_be_read_are_told(faults):
    tokens = {"x": {"source": {"kind": "zeros"}}, "y": {"source": "org/a"}, "z": {"source": "org/a", "force": 3}}
    (fault,) = faults(config(tokenizer={"source": "union", "tokens": tokens}))
    assert fault.endswith("'x': kind 'zeros'; did you mean 'zero'?; 'z': force is true or false")


def test_what_a_rule_has_beside_filter_and_value_is_ignored_with_a_warning(read, caplog):
    t = [{"filter": "mlp", "value": 0.2, "layers": 3}, {"value": 0.4}]
    spec = read(config("slerp", [{"model": "org/a"}], parameters={"t": t}))
    assert str(spec.weights[0]) == "'mlp:0.2/0.4'"
    assert "parameters.t: layers" in caplog.text


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("models: &m [*m]", "an alias stands within what it names"),
        ("models: [{model: a, parameters: &p {weight: [*p]}}]", "an alias stands within what it names"),
        (
            "a: &a [x,x,x,x,x,x,x,x]\n"
            + "".join(
                f"{n}: &{n} [{','.join([f'*{o}'] * 8)}]\n" for o, n in zip("abcdefghij", "bcdefghijk", strict=True)
            ),
            "aliases make more than 100,000 values",
        ),
    ],
)
def test_aliases_without_an_end_are_refused_before_anybody_walks_through_them(faults, text, told):
    (fault,) = faults(f"{text}\nmerge_method: linear\n")
    assert told in fault


def test_an_alias_may_be_used_twice(read):
    text = (
        "merge_method: linear\nmodels: [{model: a, parameters: &p {weight: &w [0.5, 1]}}, {model: b, parameters: *p}]\n"
    )
    assert len(set(read(text).weights)) == 1


def test_a_circle_of_documents_is_told_once(faults):
    one = "name: {}\nmerge_method: linear\nmodels: [{{model: {}, parameters: {{weight: 1}}}}]\n"
    assert faults(one.format("x", "y") + "---\n" + one.format("y", "x")) == [
        "the documents name each other in a circle: x needs y needs x"
    ]

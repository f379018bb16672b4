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
        "dtype='bfloat15'", "parameters.tol='little'", "max_iter='many'",
    ]  # fmt: skip
    assert [fault.partition(":")[0] for fault in faults(config(dtype="float32", out_dtype="fp8"))] == [
        "out_dtype='fp8'"
    ]
    (fault,) = faults(config(tokenizer={"tokens": {"a": 5}}))
    assert fault == "tokenizer.tokens.a=5: not a mapping with a source"


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


@pytest.mark.parametrize("given", [0, 1, "first"])
def test_a_slice_in_a_rule_is_no_key_of_mergekits_and_is_ignored(read, caplog, given):
    """In our own rules it is one, and mergekit's slices become such rules."""
    sources = [[{"model": name, "layer_range": [0, 2]}] for name in ("org/a", "org/b")]
    slices = [{"sources": sources[0], "parameters": {"scale": 3}}, {"sources": sources[1]}]
    scale = [{"filter": "mlp", "value": 2, "slice": given}, {"value": 1}]
    spec = read(config("passthrough", base=None, models=None, slices=slices, parameters={"scale": scale}))
    assert "parameters.scale: slice" in caplog.text
    assert spec == read(
        config(
            "passthrough",
            base=None,
            models=None,
            slices=slices,
            parameters={"scale": [{**scale[0], "slice": None}, scale[1]]},
        )
    )
    assert "0@3/mlp:2/1" in str(spec)


def test_a_density_above_1_is_1_also_in_a_rule_and_a_slice_but_not_where_a_gradient_crosses_it(read, faults):
    def density(given):
        return config("ties", [{"model": "org/a", "parameters": {"weight": 1, "density": given}}])

    assert str(read(density([{"filter": "mlp", "value": 1.5}, {"value": 0.5}])).density[0]) == "'mlp:1/0.5'"
    assert read(density([1.2, 1.5])).density == (1.0,)
    (fault,) = faults(density([0.5, 1.5]))
    assert "above 0 and at most 1" in fault


def test_a_switch_that_one_slice_sets_to_its_default_does_not_differ_from_slice_to_slice(read, faults):
    sources = [{"model": "org/base", "layer_range": [0, 2]}, {"model": "org/a", "layer_range": [0, 2]}]
    shared = {"weight": 1, "density": 0.5}

    def ties(value):
        slices = [{"sources": sources, "parameters": {"normalize": value}}, {"sources": sources}]
        return config("ties", models=None, slices=slices, parameters=shared)

    assert read(ties(True)).normalize
    (fault,) = faults(ties(False))
    assert "normalize differs from slice to slice" in fault


def test_config_and_tokenizer_of_a_slices_own_base_are_warned_of_and_one_that_means_nothing_is_none(read, caplog):
    sources = [{"model": "org/a", "layer_range": [0, 2]}, {"model": "org/b", "layer_range": [0, 2]}]
    slices = [{"sources": sources, "base_model": "org/a"}]
    spec = read(config("task_arithmetic", models=None, slices=slices, parameters={"weight": 1}))
    assert str(spec.base) == "org/a"
    assert "base_model org/base: mergekit takes config and tokenizer from it" in caplog.text
    caplog.clear()
    differing = [{"sources": sources, "base_model": "org/a"}, {"sources": sources, "base_model": "org/b"}]
    spec = read(config("linear", models=None, slices=differing, parameters={"weight": 1}))
    assert str(spec.base) == "org/base"
    assert not caplog.records


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

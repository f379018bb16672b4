"""Numbers that vary over layers and modules, beside mergekit's own reading of them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from della_bench.errors import SpecError
from della_bench.spec import MergeSpec
from della_bench.spec.varying import Rule, Value, Varying, depth, read_value, read_values, text, value_at

mergekit = pytest.importorskip("mergekit.config")

NUMBERS = st.floats(-10, 10).map(lambda number: round(number, 6) + 0.0)
# Between two equal anchors mergekit's arithmetic may be a bit off; ours takes the number itself.
GRADIENTS = st.lists(NUMBERS, min_size=1, max_size=5).map(lambda found: found[:1] if len(set(found)) == 1 else found)
PATTERNS = st.sampled_from(["mlp", "self_attn", "layers.1", "a,b", "x/y:z~", "+", "%", " ", "é"])
PARTS = st.tuples(PATTERNS, GRADIENTS)
SLICED = st.tuples(st.none() | st.integers(0, 3), st.none() | PATTERNS, GRADIENTS)
NAMES = st.sampled_from(
    ["model.embed_tokens.weight", "model.layers.0.mlp.up_proj.weight", "model.layers.11.self_attn.q_proj.weight"]
)


def rules(parts: list[tuple[str, list[float]]], rest: list[float]) -> list[dict[str, object]]:
    made: list[dict[str, object]] = [{"filter": pattern, "value": numbers} for pattern, numbers in parts]
    return [*made, {"value": rest}]


@given(st.lists(PARTS, max_size=3), GRADIENTS, NAMES, st.integers(0, 12))
def test_a_value_is_what_mergekit_reads_in_the_same_setting_to_the_last_bit(parts, rest, name, layer):
    setting: Any = rules(parts, rest)
    place = layer / 12
    conditions = [mergekit.ConditionalParameter(**rule) for rule in setting]
    expected = mergekit.evaluate_setting(name, conditions, place, validate=float)
    assert value_at(read_value(setting), name, place) == expected


@given(st.lists(st.tuples(st.lists(PARTS, max_size=3), GRADIENTS), min_size=1, max_size=3))
def test_the_short_form_reads_back_to_the_same_values_and_holds_no_syntax_of_a_spec(many):
    values = tuple(read_value(rules(parts, rest)) for parts, rest in many)
    written = "+".join(map(text, values))
    assert not set(written) & set(", ='\"|;&<>()[]{}$*?!#`")
    assert read_values(written) == values


@given(st.lists(SLICED, min_size=1, max_size=4))
def test_the_short_form_of_rules_for_slices_reads_back_to_the_same_value(parts):
    value = read_value([{"slice": k, "filter": pattern, "value": numbers} for k, pattern, numbers in parts])
    written = text(value)
    assert not set(written) & set(", ='\"|;&<>()[]{}$*?!#`")
    assert read_values(written) == (value,)


def test_the_rules_of_a_slice_are_for_it_alone():
    value = read_value("1@mlp:0.2/0@0.1~0.3/1@0.4/0.5")
    assert [value_at(value, "layers.0.mlp.w", 0.5, k) for k in (None, 0, 1, 2)] == [0.5, 0.2, 0.2, 0.5]
    assert [value_at(value, "layers.0.attn.w", 0.5, k) for k in (None, 0, 1, 2)] == [0.5, 0.2, 0.4, 0.5]


@given(st.lists(PARTS, min_size=1, max_size=3), GRADIENTS)
def test_a_spec_with_values_that_vary_reads_back_from_its_string_its_keys_and_json(parts, rest):
    spec = MergeSpec.parse(base="b", experts="a+c", merge_method="task_arithmetic", weights=[rules(parts, rest), 2])
    assert MergeSpec.parse(str(spec)) == spec
    assert MergeSpec.parse(spec.as_keys()) == spec
    assert MergeSpec.parse(spec.as_keys()).digest == spec.digest


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (0.5, 0.5),
        ("0.5", 0.5),
        ("0.5~0.5", 0.5),
        ([1, 1, 1], 1.0),
        ([{"filter": "*", "value": 2}, {"filter": "mlp", "value": 3}], 2.0),
        ({"gradient": [0, 1]}, Varying((Rule(None, (0.0, 1.0)),))),
        ("mlp:1~2/3", Varying((Rule("mlp", (1.0, 2.0)), Rule(None, (3.0,))))),
        ({"filter": "mlp", "value": 1}, Varying((Rule("mlp", (1.0,)),))),
    ],
)
def test_what_is_one_number_in_the_end_is_that_number(given: object, meant: Value):
    assert read_value(given) == meant


def test_layers_are_counted_for_each_stack_and_what_is_in_none_lies_at_the_first():
    names = ["model.embed_tokens.weight", "lm_head.weight", "visual.merger.mlp.2.weight", "only.layers.0.w"]
    names += [f"model.layers.{layer}.mlp.experts.7.w" for layer in range(5)]
    names += [f"visual.blocks.{layer}.w" for layer in range(3)]
    places = depth(names)
    assert [places[name] for name in names[:4]] == [0, 0, 0, 1]
    assert [places[name] for name in names[4:9]] == [0, 0.25, 0.5, 0.75, 1]
    assert [places[name] for name in names[9:]] == [0, 0.5, 1]


def test_epsilon_and_density_may_be_given_by_their_other_names_and_one_each():
    spec = MergeSpec.parse("base=b,experts=a+c,drop_rate=0.1~0.3,window_size=0.1+0.2")
    assert str(spec) == "base=b,experts=a+c,density=0.9~0.7,epsilon=0.05+0.1"


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"density": "0.5~1.5", "epsilon": 0.1}, "a density is in (0, 1]"),
        ({"density": 0.5, "epsilon": "0.1~x"}, "not a number"),
        ({"density": 0.5, "epsilon": "~"}, "not a number"),
        ({"density": ":0.5", "epsilon": 0.1}, "a pattern is missing before the colon"),
        ({"density": 0.5, "epsilon": 0.1, "weights": [[]]}, "a gradient without a number"),
        ({"merge_method": "slerp", "weights": "0~2"}, "a weight of slerp is in [0, 1]"),
        ({"density": 0.5, "epsilon": 0.1, "lambda": "x@1/2"}, "'x': not the number of a slice"),
        ({"density": 0.5, "epsilon": 0.1, "lambda": [{"slice": -1, "value": 2}]}, "-1: not the number of a slice"),
    ],
)
def test_a_number_out_of_range_is_refused_wherever_it_stands(keys, told):
    with pytest.raises(SpecError, match=r".*") as caught:
        MergeSpec.parse({"base": "b", "experts": "a", **keys})
    assert told in str(caught.value)


def test_numbers_of_one_tensor_have_to_fit_each_other():
    spec = MergeSpec.parse("base=b,experts=a,density=0.9~0.5,epsilon=0.05~0.3")
    assert (spec.at("w", 0.0).density, spec.at("w", 1.0).epsilon) == ((0.9,), (0.3,))
    with pytest.raises(SpecError, match=r"epsilon=0\.2 at tensor w: too wide for a density of 0\.9"):
        MergeSpec.parse("base=b,experts=a,density=0.9,epsilon=0.1~0.3").at("w", 0.5)


def test_a_tensor_that_no_rule_is_for_is_told():
    with pytest.raises(SpecError, match=r"weights: no rule is for tensor w; give a last one without a pattern"):
        MergeSpec.parse("base=b,experts=a,merge_method=task_arithmetic,weights=mlp:0.5").at("w")

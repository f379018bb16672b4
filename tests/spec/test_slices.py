"""Slices in a spec: their forms, what is refused, and that they survive being written down."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from lm_eval._cli.utils import key_val_to_dict
from lm_eval.utils import simple_parse_args_string

from della_bench.errors import SpecError
from della_bench.spec import MergeSpec
from della_bench.spec.slices import Piece, Place

SYNTAX_OF_SHELLS = set(" '\"|;&<>()[]{}$*?!#`\\")


def parse(slices: Any, method: str = "linear", experts: str = "a+b", **keys: Any) -> MergeSpec:
    return MergeSpec.parse(base="base", experts=experts, merge_method=method, slices=slices, **keys)


def told(slices: Any, method: str = "linear", experts: str = "a+b", **keys: Any) -> list[str]:
    with pytest.raises(SpecError) as caught:
        parse(slices, method, experts, **keys)
    return caught.value.faults


@st.composite
def specs(draw: st.DrawFn) -> MergeSpec:
    method, count = (
        draw(st.sampled_from(["linear", "passthrough", "ties", "slerp", "nuslerp"])),
        draw(st.integers(1, 3)),
    )
    with_base, most = (
        method in ("ties", "slerp", "nuslerp"),
        {"passthrough": 1, "slerp": 1, "nuslerp": 2}.get(method, 3),
    )
    least = most if most < 3 else 1
    count = max(count, least)
    slices = []
    for number in range(count):  # each with the expert of its number, and others
        length = draw(st.integers(1, 40))
        others = draw(st.permutations([k for k in range(1, count + 1) if k != number + 1]))
        members = [number + 1, *others[: draw(st.integers(least, most)) - 1]]
        starts = draw(st.lists(st.integers(0, 90), min_size=len(members) + 1, max_size=len(members) + 1))
        listed = [0, *members] if with_base else members
        slices.append("+".join(f"{k}:{start}-{start + length}" for k, start in zip(listed, starts, strict=False)))
    rules = st.lists(st.tuples(st.integers(0, count - 1), st.floats(0, 1)), max_size=3)
    value = [{"slice": k, "value": number} for k, number in draw(rules)] + [{"value": 0.5}]
    keys = {"scale": [value]} if method == "passthrough" else {"weights": [value] * count}
    keys = {"weights": [value]} if method == "slerp" else keys
    return parse("/".join(slices), method, "+".join(f"e{k}" for k in range(count)), density=0.5, **keys)


@settings(max_examples=150, deadline=None, database=None, derandomize=True)
@given(specs())
def test_any_slices_survive_the_string_json_yaml_and_both_parsers_of_lm_eval(spec):
    written = str(spec)
    assert spec.slices
    assert not set(written) & SYNTAX_OF_SHELLS
    again = [MergeSpec.parse(written), MergeSpec.parse(json.dumps(spec.as_keys()))]
    again += [MergeSpec.parse(**read(written)) for read in (simple_parse_args_string, key_val_to_dict)]
    again += [MergeSpec.parse(yaml.safe_load(yaml.safe_dump(spec.as_keys(effective=True))))]
    assert all(each == spec and str(each) == written and each.digest == spec.digest for each in again)


@pytest.mark.parametrize(
    "slices",
    [
        "1:0-4+2:2-6/2:6-8",
        ["1:0-4+2:2-6", "2:6-8"],
        [["1:0-4", "2:2-6"], ["2:6-8"]],
        [[{"source": 1, "layers": [0, 4]}, {"source": 2, "layers": [2, 6]}], {"source": 2, "layers": [6, 8]}],
    ],
)
def test_slices_are_read_from_every_form(slices):
    spec = parse(slices)
    assert spec.slices == ((Piece(1, 0, 4), Piece(2, 2, 6)), (Piece(2, 6, 8),))
    assert spec.as_keys()["slices"] == ["1:0-4+2:2-6", "2:6-8"]


def test_a_range_without_a_source_is_that_of_every_source():
    assert str(parse("0-4/2:2-4")) == "base=base,experts=a+b,slices=0-4/2:2-4,merge_method=linear"
    assert parse("0-4/2:2-4") == parse("1:0-4+2:0-4/2:2-4")
    assert parse("0-4", "task_arithmetic") == parse("1:0-4+2:0-4+0:0-4", "task_arithmetic")
    assert parse("0-4", "nuslerp", deltas=False) == parse("1:0-4+2:0-4", "nuslerp", deltas=False)


def test_what_is_for_the_only_slice_is_for_all():
    assert parse("0-4", weights="0@0.3/1+2") == parse("0-4", weights="0.3+2")


def test_numbers_of_experts_are_those_of_the_members_of_a_slice():
    spec = parse("1:0-4/0-4", "linear", weights="1@0.25/2+7")
    only = spec.at("layers.0.w", Place(0.0, 0, ((0, "layers.0.w"),)))
    both = spec.at("layers.4.w", Place(0.0, 1, ((1, "layers.4.w"), (0, "layers.0.w"))))
    assert (only.weights, both.weights) == ((2.0,), (7.0, 0.25))


def test_a_name_in_tables_tells_slices_apart():
    assert parse("1:0-4/2:4-8", "passthrough").display_name == "passthrough-slices1:0-4/2:4-8"


@pytest.mark.parametrize(
    ("slices", "method", "fault"),
    [
        ("1:4-4/2:0-2", "linear", "slices: slice 0: 1:4-4: an empty range; the last number is the first layer that is"),
        ("1:8-4/2:0-2", "linear", "slices: slice 0: 1:8-4: a reversed range; write 1:4-8"),
        (
            "1:0-4+2:0-3",
            "linear",
            "slices: slice 0: 1:0-4+2:0-3: ranges of unequal length; the sources of a slice have",
        ),
        ("1:0-4/2:0-4/3:0-4", "linear", "slices: slice 2: 3:0-4: there is no source 3; 0 is the base, and the experts"),
        (
            "1:0-4/2:0-4/0:0-4",
            "linear",
            "slices: slice 2: 0:0-4: linear takes nothing from the base (source 0); list it",
        ),
        ("0-4/1:0-2+1:2-4", "linear", "slices: slice 1: source 1 is given twice; list it twice among the experts"),
        (
            "0-4/1:0-4",
            "task_arithmetic",
            "slices: slice 1: task_arithmetic merges what experts add to the base; add the",
        ),
        ("0-4", "passthrough", "slices: slice 0: passthrough takes exactly 1 of the experts, got 2"),
        ("0-4/0:0-2", "model_stock", "slices: slice 1: model_stock takes at least 2 of the experts, got 0"),
        ("1:0-4", "linear", "slices: expert 2 is in no slice; leave it out of the experts"),
    ],
)
def test_what_is_wrong_with_slices_is_told_by_the_slice(slices, method, fault):
    (found,) = told(slices, method)
    assert found.startswith(fault)


@pytest.mark.parametrize(
    "slices", ["", "x", "1:0", "1:0-", "-1:0-4", "1:0-4,", [], [3], [[]], 4, {"a": 1}, [["1:0-4", 5]]]
)
def test_what_is_no_slice_is_refused_with_the_form_that_is_one(slices):
    (found,) = told(slices)
    assert "slices are source:start-stop" in found


def test_all_faults_are_told_at_once():
    faults = told("1:4-4/3:0-4", "ties", weights="5@1/2", density=3)
    assert [fault.partition(":")[0] for fault in faults] == ["density=3", *["slices"] * 5, "weights"]


def test_a_rule_for_a_slice_needs_slices():
    with pytest.raises(SpecError, match="weights: a rule for slice 1, but the spec has no slices"):
        MergeSpec.parse("base=b,experts=a,merge_method=linear,weights=1@0.5/1")

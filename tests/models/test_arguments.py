from __future__ import annotations

import pytest

from della_bench.errors import SpecError
from della_bench.models.arguments import doubled_names, split_arguments

SPEC = {"base": "zoo:base", "experts": "zoo:math+zoo:code", "merge_method": "task_arithmetic"}
KNOWN = {"batch_size", "device", "max_length"}


def test_spec_keys_and_engine_arguments_are_told_apart():
    spec, rest = split_arguments({**SPEC, "lambda_factor": 0.5, "batch_size": 8, "engine": "hf"}, KNOWN, engine="hf")
    assert spec.lambda_ == 0.5
    assert rest == {"batch_size": 8}


@pytest.mark.parametrize(
    "name", ["pretrained", "revision", "subfolder", "peft", "delta", "gguf_file", "autogptq", "gptqmodel"]
)
def test_arguments_that_make_no_sense_on_a_merge_are_refused_by_name(name):
    with pytest.raises(SpecError, match=f"^{name}='x': not on a merge"):
        split_arguments({**SPEC, name: "x"}, KNOWN, engine="hf")


def test_refused_arguments_at_their_neutral_value_are_let_through():
    _, rest = split_arguments({**SPEC, "peft": None, "autogptq": False}, KNOWN, engine="hf")
    assert rest == {}


def test_all_faults_of_spec_and_engine_are_reported_at_once():
    with pytest.raises(SpecError) as caught:
        split_arguments({"base": "zoo:bas", "peft": "x", "batchsize": 3, "engine": "vllm"}, KNOWN, engine="hf")
    text = str(caught.value)
    assert all(part in text for part in ("peft", "'batch_size'", "engine='vllm'", "zoo:bas", "experts: missing"))


def test_a_key_given_twice_in_an_argument_string_is_found():
    assert doubled_names("base=a,experts=b,base=c,experts=d,seed=1") == ["base: given twice", "experts: given twice"]


def test_keys_of_the_methods_own_are_the_specs_even_where_the_engine_takes_them():
    keys = {**SPEC, "merge_method": "sce", "select_topk": 0.3}
    for known in (KNOWN, KNOWN | {"select_topk"}):
        spec, rest = split_arguments({**keys, "batch_size": 8}, known, engine="hf")
        assert (spec.options, rest) == ((("select_topk", 0.3),), {"batch_size": 8})


def test_keys_of_another_methods_own_are_the_engines_where_it_takes_them():
    spec, rest = split_arguments({**SPEC, "tol": 0.3, "gamma": 0.1}, KNOWN | {"tol"}, engine="hf")
    assert (spec.options, spec.unused, rest) == ((), ("gamma",), {"tol": 0.3})


def test_a_misspelt_key_of_the_methods_own_is_told_the_nearest():
    with pytest.raises(SpecError, match="did you mean 'select_topk'"):
        split_arguments({**SPEC, "merge_method": "sce", "select_topp": 0.3}, KNOWN, engine="hf")

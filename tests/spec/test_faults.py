"""What is refused, in which words, and that all of it is told at once."""

import json
import math

import pytest

from della_bench.errors import DellaBenchError, SpecError
from della_bench.spec import MergeSpec
from della_bench.spec.methods import METHODS
from tests.every_method import expert_count, needed_keys

GOOD = {"base": "org/base", "experts": "org/a+org/b", "density": 0.5, "epsilon": 0.1}


def faults(spec=None, /, **keys):
    with pytest.raises(SpecError) as caught:
        MergeSpec.parse(spec, **keys)
    assert str(caught.value) == "\n".join(caught.value.faults)
    return caught.value.faults


def fault(**change):
    """The one fault of a good spec with a change."""
    (only,) = faults({key: value for key, value in {**GOOD, **change}.items() if value is not ...})
    return only


def test_a_spec_error_is_the_users_to_mend():
    with pytest.raises(DellaBenchError) as caught:
        MergeSpec.parse("")
    assert caught.value.exit_code == 2


def test_all_faults_are_told_at_once():
    found = faults(
        "bas=x,experts=a+zoo:maths,merge_method=della,density=0.5+0.6+0.7,drop_rate=0.1,epsilon=0.7,lambda=big,"
        "rescale=l2,elect=max,normalize=perhaps,seed=-1,dtype=int8,weights=1+nan,loose"
    )
    starts = ["'loose'", "bas=", "density and drop_rate", "experts=", "epsilon=", "lambda=", "rescale=", "elect=",
              "normalize=", "seed=", "dtype=", "weights=", "base: missing"]  # fmt: skip
    for start in starts:
        assert [line for line in found if line.startswith(start)], (start, found)
    assert len(found) == len(starts)


def test_faults_of_two_keys_together_are_told_with_those_of_single_keys():
    found = faults({**GOOD, "density": [0.5, 0.6, 0.7], "weights": [1, 2, 3], "epsilon": 0.45, "seed": 0.5})
    assert any(line.startswith("density: 3 numbers for 2 experts") for line in found)
    assert any(line.startswith("weights: 3 numbers for 2 experts") for line in found)
    assert any(line.startswith("seed=0.5: ") for line in found)
    assert sum("too wide for a density of" in line for line in found) == 2  # 0.6 and 0.7


def test_an_empty_spec_says_all_that_is_missing():
    found = faults("")
    assert [line.split(":")[0] for line in found] == ["base", "experts", "density", "epsilon"]
    assert faults(None) == faults({}) == found


@pytest.mark.parametrize(
    ("key", "near"),
    [("drop_rat", "drop_rate"), ("lambda_facto", "lambda_factor"), ("expert", "experts"),
     ("merge_methode", "merge_method"), ("Density", "density"), ("confg", "config"), ("window", "window_size")],
)  # fmt: skip
def test_an_unknown_key_is_named_with_its_value_and_the_nearest_name(key, near):
    text = fault(**{key: "x"})
    assert text.startswith(f"{key}='x': unknown key; did you mean '{near}'")


def test_a_key_with_nothing_near_is_told_all_names():
    text = fault(zzz=1)
    assert all(name in text for name in ("base", "drop_rate", "window_size", "config", "chat_template"))


def test_a_key_that_is_no_text_is_an_unknown_key():
    assert fault(**{}, zzz=1).startswith("zzz=1")
    assert faults({**GOOD, 7: 1})[0].startswith("7=1: unknown key")


@pytest.mark.parametrize(
    ("method", "near"), [("dela", "della"), ("DELLA", "della"), ("tie", "ties"), ("dare-ties", "dare_ties")]
)
def test_an_unknown_method_is_told_the_nearest(method, near):
    text = fault(merge_method=method)
    assert text.startswith(f"merge_method={method!r}: no such method; did you mean ")
    assert repr(near) in text


@pytest.mark.parametrize("method", ["not-a-method-at-all", "", None, 3])
def test_a_method_with_nothing_near_is_told_all(method):
    text = fault(merge_method=method)
    assert all(name in text for name in METHODS)


@pytest.mark.parametrize(
    ("change", "start", "allowed"),
    [
        ({"density": 0}, "density=0", "(0, 1]"),
        ({"density": 1.0000001}, "density=1.0000001", "(0, 1]"),
        ({"density": "0.5+-0.1"}, "density='0.5+-0.1'", "(0, 1]"),
        ({"density": ..., "drop_rate": 1}, "drop_rate=1", "[0, 1)"),
        ({"density": ..., "drop_rate": -0.1}, "drop_rate=-0.1", "[0, 1)"),
        ({"epsilon": 0.5}, "epsilon=0.5", "[0, 0.5)"),
        ({"epsilon": -0.1}, "epsilon=-0.1", "[0, 0.5)"),
        ({"epsilon": ..., "window_size": 1}, "window_size=1", "[0, 1)"),
        ({"epsilon": ..., "window_size": [0.1, 1]}, "window_size=[0.1, 1]", "window size"),
        ({"seed": 1.5}, "seed=1.5", "[0, 2^64)"),
        ({"seed": -1}, "seed=-1", "[0, 2^64)"),
        ({"seed": 2**64}, f"seed={2**64}", "[0, 2^64)"),
        ({"normalize": 2}, "normalize=2", "true or false"),
        ({"normalize": None}, "normalize=None", "true or false"),
        ({"rescale": 2}, "rescale=2", "inverse_keep, l1, none"),
        ({"elect": "som"}, "elect='som'", "'sum'"),
        ({"elect": True}, "elect=True", "sum, count, none"),
        ({"dtype": "float8"}, "dtype='float8'", "did you mean 'float"),
        ({"dtype": "int8"}, "dtype='int8'", "float"),
        ({"lambda": None}, "lambda=None", "not a number"),
        ({"base": None}, "base=None", "org/name[@revision]"),
        ({"base": ""}, "base=''", "cannot be empty"),
        ({"base": True}, "base=True", "org/name[@revision]"),
        ({"base": "a%FF"}, "base='a%FF'", "UTF-8"),
        ({"tokenizer": "zoo:bass"}, "tokenizer='zoo:bass'", "'base'"),
        ({"name": "  "}, "name='  '", "empty"),
    ],
)
def test_a_value_out_of_range_is_told_with_what_is_allowed(change, start, allowed):
    text = fault(**change)
    assert text.startswith(start + ": ")
    assert allowed in text


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, -math.inf, "nan", "inf", "1e400", 10**400, "1+inf", "x", "", True, []]
)
@pytest.mark.parametrize("key", ["weights", "density", "epsilon", "lambda", "drop_rate", "window_size"])
def test_a_number_is_finite(key, value):
    drop = {"drop_rate": {"density": ...}, "window_size": {"epsilon": ...}}.get(key, {})
    assert fault(**drop, **{key: value}).startswith(f"{key}={value!r}: ")


@pytest.mark.parametrize("weight", ["nan", "inf", "1e999"])
def test_a_weight_behind_an_expert_is_finite(weight):
    assert "not a finite number" in fault(experts=f"org/a:{weight}+org/b")


@pytest.mark.parametrize("experts", [None, "", [], (), {}])
def test_a_merge_has_an_expert(experts):
    text = fault(experts=experts)
    assert text.startswith(f"experts={experts!r}: ")
    assert "at least one expert" in text or "cannot be empty" in text


@pytest.mark.parametrize("experts", ["a++b", "a+", "+a", ":0.5", ["a", ""], ["a", None], [["a"]], [{"weight": 1}],
                                     [{"source": "a", "model": "b"}], [{"source": "a", "weigth": 1}],
                                     [{"source": "a", "weight": "x"}]])  # fmt: skip
def test_half_an_expert_is_refused(experts):
    assert fault(experts=experts).startswith(f"experts={experts!r}: ")


def test_weights_are_given_in_one_place():
    assert fault(experts="org/a:1+org/b", weights="1+2").startswith("weights: given beside experts=source:weight")


@pytest.mark.parametrize(
    ("first", "second"),
    [("base", "base_model"), ("experts", "models"), ("merge_method", "method"), ("density", "drop_rate"),
     ("epsilon", "window_size"), ("lambda", "lambda_factor"), ("lambda_factor", "lambda_")],
)  # fmt: skip
def test_both_names_of_one_key_are_refused_even_where_they_agree(first, second):
    values = {
        "base": "org/base",
        "experts": "a+b",
        "merge_method": "della",
        "density": 0.5,
        "epsilon": 0.1,
        "lambda": 1,
    }
    same = values.get(first, 1)
    given = {**GOOD, first: same, second: same if second != "window_size" else 0.2}
    assert faults(given) == [f"{first} and {second}: two names of one key; give one of them"]


def test_a_key_given_twice_in_a_string_is_refused_even_where_it_agrees():
    text = "base=b,experts=e,density=0.5,epsilon=0.1,"
    assert faults(text + "seed=1,seed=1") == ["seed: given twice"]
    assert faults(text, base="b") == ["base: given twice"]
    assert faults(text + "config=/a.yaml,config=/b.yaml") == ["config: given twice"]


def test_a_key_given_twice_in_json_is_refused():
    assert "key 'base' is given twice" in faults('{"base": "a", "base": "a"}')[0]
    assert "key 'weight' is given twice" in faults('{"experts": [{"source": "a", "weight": 1, "weight": 2}]}')[0]


@pytest.mark.parametrize("text", ["{", "{'base': 'a'}", '{"base"}', "{}x"])
def test_broken_json_says_so(text):
    assert faults(text)[0].startswith("not a JSON object: ")


def test_a_word_without_an_equals_sign_is_told_how_a_comma_is_written():
    assert faults("base=a,b,experts=e,density=1,epsilon=0") == [
        "'b': not key=value (a comma inside a value is written %2C)"
    ]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "empty"),
        ("# only a comment\n", "empty"),
        ("- a\n- b\n", "list"),
        ("just a text", "str"),
        ("1: a\n", "mapping of keys"),
        ("base: [unclosed", "not YAML"),
        ("base: a\n\tb: c", "not YAML"),
        ("base: a\nbase: b\n", "key 'base' is given twice"),
        ("experts:\n- {source: a, weight: 1, weight: 2}\n", "key 'weight' is given twice"),
        ("? [a]\n: b\n", "not YAML"),
        ("base: a\n---\nmodels: []\n", "document 1: in this package's own keys"),
        ("base: !!python/name:os.system\n", "not YAML"),
        ("base: 2024-13-45\n", "not YAML"),
        ("seed: !!int ''\n", "not YAML: a value is not what its tag"),
        ("base: !!timestamp foo\n", "not YAML: a value is not what its tag"),
        ("normalize: !!bool foo\n", "not YAML: a value is not what its tag"),
        (f"base: {'[' * 900}{']' * 900}\n", "nested too deeply"),
        ("base: *nothing\n", "not YAML"),
        ("config: other.yaml\nbase: b\n", "another config"),
        (b"base: \xff\xfe\n", "not YAML"),
        (b"base: \x00\n", "not YAML"),
    ],
)
def test_a_broken_yaml_is_told_with_its_file(tmp_path, content, told):
    path = tmp_path / "spec.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    (text,) = faults(path)
    assert text.startswith(f"config={path}: ")
    assert told in text


def test_a_doubled_key_of_a_yaml_is_told_with_its_line(tmp_path):
    path = tmp_path / "spec.yaml"
    path.write_text("base: a\nexperts: [e]\nbase: b\n", encoding="utf-8")
    assert "line 3" in faults(path)[0]


@pytest.mark.parametrize("path", ["missing.yaml", "~no-such-user-here/spec.yaml", "."])
def test_a_config_that_cannot_be_read_is_told(path):
    (text,) = faults(f"config={path}")
    assert text.startswith(f"config={path}: cannot be read: ")
    assert "None" not in text


def test_faults_of_a_config_and_of_the_keys_beside_it_are_told_together(tmp_path):
    path = tmp_path / "spec.yaml"
    path.write_text(json.dumps({**GOOD, "seeed": 1, "density": 2}), encoding="utf-8")
    found = faults(f"config={path},elect=max")
    assert [line.split("=")[0] for line in sorted(found)] == ["density", "elect", "seeed"]


def test_a_method_needs_what_has_no_default():
    for row in METHODS.values():
        experts = "+".join("efg"[: expert_count(row, 1)])
        keys = {"base": "b", "experts": experts, "merge_method": row.name}
        needed = list(needed_keys(row))
        if needed:
            found = faults(keys)
            assert [line.split(":")[0] for line in found] == needed
            assert all(f"{row.name} " in line for line in found)
        else:
            assert MergeSpec.parse(keys).density == ()


def test_a_missing_density_and_epsilon_are_told_with_their_other_names():
    assert "drop_rate" in fault(density=...)
    assert "window_size" in fault(epsilon=...)


@pytest.mark.parametrize("density", [0.9, 0.5, 0.10000001, "0.1000000000000001"])
def test_an_epsilon_may_fill_the_room_that_a_density_leaves(density):
    # 0.9 + 0.1 is 1 and 0.6 - 0.5 is above 0 only when they are computed in decimal.
    assert MergeSpec.parse({**GOOD, "density": density, "epsilon": 0.1}).epsilon == (0.1, 0.1)


@pytest.mark.parametrize(
    ("density", "epsilon", "limit"),
    [
        (0.9, 0.1000001, "at most 0.1"),
        (0.7, 0.30000000000000004, "at most 0.3"),
        (0.1, 0.1, "below 0.1"),
        (0.1, 0.1000001, "below 0.1"),
        (0.3, 0.49, "below 0.3"),
        (5e-324, 0.1, "below 5e-324"),
        (0.9999999999999999, 0.1, "at most 1e-16"),
    ],
)
def test_an_epsilon_beyond_the_room_is_refused_with_the_room(density, epsilon, limit):
    text = fault(density=density, epsilon=epsilon)
    assert text.startswith(f"epsilon={epsilon!r}: too wide for a density of ")
    assert text.endswith(f"so epsilon (half of window_size) {limit}")


def test_the_bounds_are_told_with_the_name_that_was_given():
    text = fault(density=..., drop_rate=0.1, epsilon=..., window_size=0.3)
    assert text.startswith("window_size=0.3: too wide for a density of 0.9; ")


def test_a_density_of_one_drops_nothing_and_so_leaves_any_room():
    assert MergeSpec.parse({**GOOD, "density": 1, "epsilon": 0.49}).epsilon == (0.49, 0.49)
    assert MergeSpec.parse({**GOOD, "density": "1+0.6", "epsilon": 0.4}).density == (1.0, 0.6)
    assert "density of 0.6" in fault(density="1+0.6", epsilon=0.49)


def test_the_bounds_do_not_bind_a_method_without_an_epsilon():
    assert MergeSpec.parse({**GOOD, "merge_method": "ties", "epsilon": 0.49, "density": 0.9}).epsilon == ()


@pytest.mark.parametrize("method", ["slerp", "passthrough"])
def test_methods_of_two_models_take_one_expert(method):
    assert fault(merge_method=method).startswith(f"experts: {method} takes exactly one, got 2")


@pytest.mark.parametrize("t", [-0.1, 1.1])
def test_slerps_weight_is_its_t(t):
    assert "in [0, 1]" in fault(merge_method="slerp", experts="e", weights=t)


def test_a_fault_in_a_key_that_the_method_does_not_use_is_told_all_the_same():
    assert fault(merge_method="ties", epsilon=7).startswith("epsilon=7: ")

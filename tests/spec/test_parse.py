"""What each form of a spec means, key by key."""

import json
import logging
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
import yaml
from lm_eval._cli.utils import key_val_to_dict
from lm_eval.utils import simple_parse_args_string

from della_bench.errors import SpecError
from della_bench.spec import KEYS, OTHER_NAMES, MergeSpec, Source
from della_bench.spec.methods import METHODS
from tests.every_method import expert_count, needed_keys

DELLA = {"base": "org/base", "experts": "org/a+org/b", "density": 0.5, "epsilon": 0.1}
TIES = {"base": "org/base", "experts": "org/a+org/b", "merge_method": "ties", "density": 0.5}


def parse(**keys):
    return MergeSpec.parse({**DELLA, **keys})


def without(keys, *names):
    return {key: value for key, value in keys.items() if key not in names}


def test_the_defaults_are_della_weights_of_one_lambda_one_and_seed_42():
    spec = MergeSpec.parse(DELLA)
    assert spec == MergeSpec(
        base=Source("org/base"),
        experts=(Source("org/a"), Source("org/b")),
        merge_method="della",
        weights=(1.0, 1.0),
        density=(0.5, 0.5),
        epsilon=(0.1, 0.1),
        lambda_=1.0,
        rescale="inverse_keep",
        elect="sum",
        normalize=True,
        seed=42,
        dtype=None,
        tokenizer=None,
        chat_template=None,
        name=None,
    )


def test_every_key_of_the_table_is_read_and_printed():
    given = {
        "base": "org/base@v1",
        "experts": ["/models/a", "zoo:math", "org/c@main"],
        "slices": ["0-4", [{"source": 0, "layers": [4, 8]}, {"source": 2, "layers": [2, 6]}]],
        "merge_method": "della",
        "weights": [1, 0.5, -2],
        "density": [0.3, 0.5, 1],
        "epsilon": 0.05,
        "lambda": 1.1,
        "rescale": "l1",
        "elect": "count",
        "normalize": False,
        "seed": 7,
        "dtype": "bf16",
        "tokenizer": "org/a",
        "tokens": {"<x>": {"source": "zoo:math", "force": True}, "y": {"source": {"kind": "zero"}}},
        "pad_to_multiple_of": 64,
        "chat_template": "org/c",
        "name": "mine",
    }
    assert set(given) == set(KEYS)
    assert str(MergeSpec.parse(given)) == (
        "base=org/base@v1,experts=/models/a+zoo:math+org/c@main,slices=0-4/0:4-8+2:2-6,"
        "weights=1+0.5+-2,density=0.3+0.5+1,epsilon=0.05,"
        "lambda=1.1,rescale=l1,elect=count,normalize=false,seed=7,dtype=bfloat16,tokenizer=org/a,"
        "tokens=%3Cx%3E:force:zoo:math+y:zero,pad_to_multiple_of=64,chat_template=org/c,name=mine"
    )


def test_the_canonical_string_leaves_out_defaults_however_they_were_given():
    text = "base=org/base,experts=org/a+org/b,density=0.5,epsilon=0.1"
    assert str(MergeSpec.parse(DELLA)) == text
    explicit = parse(
        merge_method="della",
        weights=[1, 1],
        rescale=1,
        elect="sum",
        normalize=1,
        seed=42,
        dtype="auto",
        **{"lambda": 1},
    )
    assert str(explicit) == text


@pytest.mark.parametrize(
    ("key", "value", "other", "same"),
    [
        ("base", "org/base", "base_model", "org/base"),
        ("experts", "org/a+org/b:0.5", "models", "org/a+org/b:0.5"),
        ("merge_method", "della", "method", "della"),
        ("density", 0.7, "drop_rate", 0.3),
        ("density", [0.7, 0.5], "drop_rate", "0.3+0.5"),
        ("epsilon", 0.07, "window_size", 0.14),
        ("lambda", 1.1, "lambda_factor", 1.1),
        ("lambda", 1.1, "lambda_", 1.1),
    ],
)
def test_an_other_name_means_its_key(key, value, other, same):
    rest = without(DELLA, key)
    assert MergeSpec.parse({**rest, other: same}) == MergeSpec.parse({**rest, key: value})


def test_every_other_name_is_tested():
    assert set(OTHER_NAMES) == {
        "base_model", "models", "method", "drop_rate", "window_size", "lambda_factor", "lambda_",
    }  # fmt: skip


@pytest.mark.parametrize("drop_rate", [0.9, "0.9", Decimal("0.9")])
def test_a_drop_rate_of_0_9_is_a_density_of_exactly_0_1(drop_rate):
    assert MergeSpec.parse({**without(TIES, "density"), "drop_rate": drop_rate}).density == (0.1, 0.1)


@pytest.mark.parametrize("drop_rate", ["0.1", "0.2", "0.3", "0.4", "0.6", "0.7", "0.8", "0.99", "0.999", "0"])
def test_a_drop_rate_and_its_decimal_complement_are_one_digest(drop_rate):
    density = str(1 - Decimal(drop_rate))
    ties = without(TIES, "density")
    by_rate = MergeSpec.parse({**ties, "drop_rate": float(drop_rate)})
    assert by_rate.digest == MergeSpec.parse({**ties, "density": density}).digest


def test_a_window_of_0_14_is_an_epsilon_of_0_07():
    assert parse(epsilon=None, window_size=0.14).epsilon == (0.07, 0.07)


def test_weights_stand_behind_their_experts_too():
    assert parse(experts="org/a:0.5+org/b") == parse(weights=[0.5, 1])
    assert parse(experts="org/a@v1:0.5+zoo:math:2").weights == (0.5, 2.0)
    assert parse(experts="org/a@v1:0.5+zoo:math:2").experts == (Source("org/a", "v1"), Source("math", scheme="zoo"))


@pytest.mark.parametrize("weights", ["0.5", 0.5, [0.5], [0.5, 0.5], "0.5+0.5", (0.5, 0.5)])
def test_one_weight_is_for_all(weights):
    assert parse(weights=weights).weights == (0.5, 0.5)


def test_the_plus_of_an_exponent_separates_nothing():
    assert parse(weights="1e+3+1E+16").weights == (1e3, 1e16)


@pytest.mark.parametrize(
    "experts",
    [
        "org/a:0.5+org/b",
        ["org/a:0.5", "org/b"],
        ("org/a:0.5", "org/b"),
        [{"source": "org/a", "weight": 0.5}, "org/b"],
        [{"model": "org/a", "weight": "0.5"}, {"model": "org/b"}],
        {"org/a": 0.5, "org/b": None},
        [{"source": Source("org/a"), "weight": 0.5}, Source("org/b")],
    ],
)
def test_experts_are_a_string_a_list_or_a_mapping(experts):
    assert parse(experts=experts) == parse(experts="org/a+org/b", weights="0.5+1")


def test_a_path_object_is_a_folder_whatever_its_name_holds(tmp_path):
    folder = tmp_path / "a+b,50%@x:0.5"
    spec = parse(base=folder, experts=[folder, tmp_path])
    assert spec.base.place == str(folder)
    assert parse(experts=folder).experts == (Source(str(folder)),)
    assert MergeSpec.parse(str(spec)) == spec


@pytest.mark.parametrize(
    ("given", "meant"),
    [(1, "inverse_keep"), (0, "none"), (True, "inverse_keep"), (False, "none"), ("1", "inverse_keep"), ("0", "none"),
     ("true", "inverse_keep"), ("False", "none"), (1.0, "inverse_keep"), (0.0, "none"), (None, "none"),
     ("none", "none"), ("None", "none"), ("l1", "l1"), ("inverse_keep", "inverse_keep")],
)  # fmt: skip
def test_rescale_takes_the_old_flag_and_none(given, meant):
    assert parse(rescale=given).rescale == meant


@pytest.mark.parametrize("flag", [1, 0, True, False, "1", "0"])
@pytest.mark.parametrize("method", ["ties", "ties_row", "ties_noelect", "ties_ada_row"])
def test_the_old_flag_says_nothing_about_a_drop_by_magnitude(method, flag, caplog):
    """In the authors' code, whose default it is, it has no effect there: 1 would scale every ties by 1 / density."""
    keys = {"base": "org/base", "experts": "org/a+org/b", "merge_method": method, "density": 0.5}
    spec = MergeSpec.parse({**keys, "rescale": flag})
    assert spec == MergeSpec.parse(keys)
    assert spec.rescale == "none"
    assert f"does not use rescale={flag}: ignored" in caplog.text
    assert MergeSpec.parse({**keys, "rescale": "inverse_keep"}).rescale == "inverse_keep"
    assert MergeSpec.parse({**keys, "rescale": "l1"}).rescale == "l1"


@pytest.mark.parametrize(("experts", "told"), [("org/a+org/a", 1), ("org/a+org/b:0.5+org/a", 1), ("org/a+org/b", 0)])
def test_an_expert_given_twice_is_two_experts_with_a_warning(experts, told, caplog):
    spec = parse(experts=experts)
    assert len(spec.experts) == experts.count("+") + 1
    assert [("org/a is given 2 times" in message) for message in caplog.messages] == [True] * told


@pytest.mark.parametrize("given", [None, "none", "None", "NONE"])
def test_elect_given_as_none_is_no_election(given):
    assert parse(elect=given).elect == "none"


@pytest.mark.parametrize("key", ["elect", "rescale"])
@pytest.mark.parametrize("read", [simple_parse_args_string, key_val_to_dict, MergeSpec.parse])
def test_none_on_the_command_line_is_none_with_every_parser(read, key):
    text = f"base=org/base,experts=org/a+org/b,density=0.5,epsilon=0.1,{key}=none"
    assert getattr(MergeSpec.parse(read(text)), key) == "none"


def test_elect_rescale_and_normalize_left_out_are_the_rows():
    for row in METHODS.values():
        experts = [f"e{k}" for k in range(expert_count(row, 1))]
        keys = {"base": "b", "experts": experts, "merge_method": row.name, **needed_keys(row, epsilon=0.1)}
        spec = MergeSpec.parse(keys)
        assert (spec.elect, spec.rescale, spec.normalize) == (row.elect, row.rescale, row.normalize)


@pytest.mark.parametrize(
    ("given", "meant"), [(True, True), ("true", True), (1, True), (0, False), ("False", False), ("0", False)]
)
def test_normalize_takes_bools_and_their_texts(given, meant):
    assert parse(normalize=given).normalize is meant


@pytest.mark.parametrize("seed", [0, "0", 7, 7.0, "1e3", 2**64 - 1])
def test_a_seed_is_any_whole_number_of_64_bits(seed):
    assert parse(seed=seed).seed == int(float(seed) if isinstance(seed, str) else seed)


@pytest.mark.parametrize(
    ("given", "meant"),
    [("bf16", "bfloat16"), ("torch.float16", "float16"), ("FP32", "float32"), ("half", "float16"), ("auto", None)],
)
def test_dtypes_have_their_usual_names(given, meant):
    assert parse(dtype=given).dtype == meant


@pytest.mark.parametrize("key", ["weights", "dtype", "tokenizer", "chat_template", "name"])
def test_none_for_a_key_without_a_none_of_its_own_is_absence(key):
    assert parse(**{key: None}) == MergeSpec.parse(DELLA)


def test_a_key_that_is_none_does_not_stand_against_its_other_name():
    assert parse(density=None, drop_rate=0.5) == parse(drop_rate=None) == MergeSpec.parse(DELLA)


def test_numbers_parsed_by_lm_eval_mean_what_their_texts_mean():
    text = "base=org/base,experts=org/a:0.5+org/b,drop_rate=0.3,window_size=0.14,lambda_factor=1.1,seed=3,rescale=1"
    spec = MergeSpec.parse(text)
    for read in (simple_parse_args_string, key_val_to_dict):
        assert isinstance(read(text)["drop_rate"], float)
        assert MergeSpec.parse(**read(text)) == spec


def test_lm_evals_lists_and_dicts_are_taken():
    text = 'base=org/base,experts=["org/a","org/b"],weights=[1,0.5],density=(0.5,0.7),epsilon=0.1'
    assert MergeSpec.parse(**key_val_to_dict(text)) == parse(weights="1+0.5", density="0.5+0.7")
    text = 'base=org/base,experts={"org/a":1,"org/b":0.5},density=0.5,epsilon=0.1'
    assert MergeSpec.parse(**key_val_to_dict(text)) == parse(weights="1+0.5")


def test_blanks_around_keys_values_and_commas_do_not_matter():
    text = " base = org/base , experts= org/a + org/b:0.5 , density=0.5 ,epsilon=0.1,, "
    assert MergeSpec.parse(text) == parse(weights="1+0.5")


def test_json_text_and_keywords_are_forms_of_a_spec():
    keys = {**DELLA, "experts": ["org/a", {"source": "org/b", "weight": 0.5}]}
    assert MergeSpec.parse(json.dumps(keys)) == MergeSpec.parse(**keys) == parse(weights="1+0.5")
    assert MergeSpec.parse("base=org/base", **without(DELLA, "base")) == MergeSpec.parse(DELLA)


def test_a_spec_is_its_own_form_and_keywords_change_a_copy():
    spec = MergeSpec.parse(DELLA)
    assert MergeSpec.parse(spec) is spec
    assert MergeSpec.parse(spec, window_size=0.1, method="della_noelect") == parse(
        epsilon=0.05, merge_method="della_noelect"
    )
    assert MergeSpec.parse(spec) == MergeSpec.parse(DELLA)


@pytest.fixture
def config(tmp_path):
    def write(content, name="spec.yaml"):
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content), encoding="utf-8")
        return path

    return write


@pytest.mark.parametrize(
    "experts",
    [
        ["org/a:0.5", "org/b"],
        [{"source": "org/a", "weight": 0.5}, {"source": "org/b"}],
        [{"source": "org/a", "weight": 0.5}, "org/b"],
        {"org/a": 0.5, "org/b": 1},
        "org/a:0.5+org/b",
    ],
)
def test_a_yaml_of_ours_is_a_form_of_a_spec(config, experts):
    path = config({**DELLA, "experts": experts})
    spec = parse(weights="0.5+1")
    assert MergeSpec.parse(path) == spec
    assert MergeSpec.parse(str(path)) == spec
    assert MergeSpec.parse(f"config={path}") == spec
    assert MergeSpec.parse(config=str(path)) == spec
    assert MergeSpec.parse({"config": path}) == spec


def test_keys_beside_a_config_win_over_it_under_any_of_their_names(config):
    path = config({**DELLA, "seed": 1, "name": "file"})
    spec = MergeSpec.parse(f"config={path},drop_rate=0.4,window_size=0.1,experts=org/c,seed=2")
    assert spec == MergeSpec.parse(base="org/base", experts="org/c", density=0.6, epsilon=0.05, seed=2, name="file")


def test_a_config_in_the_home_folder_is_found(config, monkeypatch):
    path = config(DELLA)
    monkeypatch.setenv("HOME", str(path.parent))
    assert MergeSpec.parse("config=~/spec.yaml") == MergeSpec.parse(Path("~/spec.yaml")) == MergeSpec.parse(DELLA)


def test_a_path_object_is_a_config_even_if_it_looks_like_json_or_keys(config, monkeypatch):
    path = config(DELLA, "{a=b}.yml")
    monkeypatch.chdir(path.parent)
    assert MergeSpec.parse(Path("{a=b}.yml")) == MergeSpec.parse(DELLA)


def test_yaml_anchors_and_merge_keys_are_taken(config):
    path = config(
        "base: &base org/base\nexperts: [org/a, org/b]\n<<: &numbers {density: 0.5, epsilon: 0.2}\nepsilon: 0.1\n"
    )
    assert MergeSpec.parse(path) == MergeSpec.parse(DELLA)


def test_yaml_numbers_that_yaml_reads_as_texts_are_numbers(config):
    assert MergeSpec.parse(config({**TIES, "density": "1e-1", "seed": "1_000"})).density == (0.1, 0.1)


def test_a_key_that_the_method_does_not_use_is_dropped_with_a_warning(caplog):
    plain = MergeSpec.parse(TIES)
    with caplog.at_level(logging.WARNING):
        spec = MergeSpec.parse({**TIES, "window_size": 0.2})
    assert spec == plain
    assert (str(spec), spec.digest, spec.as_keys()) == (str(plain), plain.digest, plain.as_keys())
    assert spec.unused == ("window_size",)
    assert [record.getMessage() for record in caplog.records] == ["merge_method=ties does not use window_size: ignored"]


def test_a_spec_whose_keys_are_all_used_gives_no_warning(caplog):
    MergeSpec.parse({**DELLA, "seed": 3, "lambda": 2})
    assert not caplog.records


@pytest.mark.parametrize(
    ("method", "unused"),
    [
        ("ties", {"epsilon": 0.1}),
        ("task_arithmetic", {"density": 0.5, "epsilon": 0.1, "rescale": "l1", "seed": 1}),
        ("dare_ties", {"epsilon": 0.1}),
        ("della_ada_row", {"lambda": 2}),
        ("linear", {"lambda": 2, "elect": "sum", "density": 0.5}),
        ("slerp", {"lambda": 2, "normalize": True}),
        ("passthrough", {"weights": 2, "normalize": True}),
    ],
)
def test_what_a_method_does_not_use_has_no_part_in_its_digest(method, unused):
    keys = {"base": "b", "experts": "e", "merge_method": method, "density": 0.5, "epsilon": 0.1}
    used = without(keys, *unused)
    spec = MergeSpec.parse({**keys, **unused})
    assert spec.digest == MergeSpec.parse(used).digest
    assert set(unused) <= set(spec.unused)


def test_the_weight_behind_a_passthrough_expert_is_not_used():
    spec = MergeSpec.parse(base="b", experts="e:0.5", merge_method="passthrough")
    assert spec == MergeSpec.parse(base="b", experts="e", merge_method="passthrough")
    assert spec.unused == ("weights",)


def test_a_sweep_over_methods_keeps_one_set_of_keys():
    for name, row in METHODS.items():
        spec = MergeSpec.parse(
            {"base": "b", "experts": "+".join("ef"[: expert_count(row, 2)]), "merge_method": name, "drop_rate": 0.5,
             "window_size": 0.2, "lambda_factor": 1, "seed": 1, "rescale": 1, "t": 0.5, "gamma": 0.1}
        )  # fmt: skip
        assert MergeSpec.parse(str(spec)) == spec
        assert not MergeSpec.parse(str(spec)).unused


def test_the_display_name_is_the_given_one_or_made_from_the_numbers():
    assert parse(name="best, so far").display_name == "best, so far"
    assert parse().display_name == "della-density0.5-epsilon0.1"
    assert (
        parse(weights="1+0.5", **{"lambda": 1.1}).display_name == "della-weights1+0.5-density0.5-epsilon0.1-lambda1.1"
    )


def test_the_digest_does_not_depend_on_the_name_or_the_form(config):
    spec = MergeSpec.parse(DELLA)
    ways = [
        parse(name="x"),
        parse(rescale=1),
        parse(rescale="inverse_keep", elect="sum", normalize="true", seed="42", merge_method="della"),
        parse(density=None, drop_rate=0.5, epsilon=None, window_size=0.2),
        parse(experts=[{"source": "org/a", "weight": 1.0}, "org/b:1"]),
        parse(density="0.50+5e-1"),
        MergeSpec.parse(config(DELLA)),
        MergeSpec.parse(str(spec)),
    ]
    assert {way.digest for way in ways} == {spec.digest}


@pytest.mark.parametrize(
    "change",
    [
        {"base": "org/other"},
        {"base": "org/base@v2"},
        {"experts": "org/b+org/a"},
        {"experts": "org/a+org/b+org/c"},
        {"slices": "0-4"},
        {"merge_method": "della_layer_norm"},
        {"weights": "1+0.5"},
        {"density": "0.5+0.6"},
        {"epsilon": 0.11},
        {"lambda": 1.1},
        {"rescale": "l1"},
        {"elect": "count"},
        {"normalize": False},
        {"seed": 43},
        {"dtype": "float32"},
        {"tokenizer": "org/a"},
        {"tokenizer": "union"},
        {"tokenizer": "union", "tokens": "x:org/a"},
        {"tokenizer": "union", "pad_to_multiple_of": 8},
        {"chat_template": "org/a"},
        {"chat_template": "chatml"},
    ],
)
def test_the_digest_changes_with_every_effective_key(change):
    assert parse(**change).digest != MergeSpec.parse(DELLA).digest


def test_every_key_but_the_name_is_tested_to_change_the_digest():
    (mark,) = test_the_digest_changes_with_every_effective_key.pytestmark
    assert {key for change in mark.args[1] for key in change} == set(KEYS) - {"name"}


def test_the_digest_is_pinned():
    # Changing it orphans every stored result: only a change of a merge's bits may (and then ALGORITHM_VERSION rises).
    spec = MergeSpec.parse(
        "base=zoo:base,experts=zoo:math+zoo:code:0.5,drop_rate=0.3,window_size=0.14,lambda_factor=1.1"
    )
    assert spec.digest == "ce896a3b13a66446c79b39fd327cb3080b5acbcee0909ea0b7532c47996ea2a0"


def test_numpys_numbers_and_arrays_are_numbers_as_short_as_they_are_written():
    given = {"density": np.float32(0.3), "epsilon": np.float16(0.1), "seed": np.int64(3)}
    weights = np.array([0.7, 0.2], dtype=np.float32)
    spec = MergeSpec.parse("base=a,experts=b+c,merge_method=della", weights=weights, **given)
    plain = {"density": 0.3, "epsilon": 0.1, "seed": 3, "weights": [0.7, 0.2]}
    assert spec == MergeSpec.parse("base=a,experts=b+c,merge_method=della", **plain)


@pytest.mark.parametrize("value", [[1], 3, object()])
def test_what_is_no_form_of_a_spec_is_refused_by_its_type(value):
    with pytest.raises(SpecError, match=f"not {type(value).__name__}"):
        MergeSpec.parse(value)


def test_slerp_without_a_weight_says_that_it_is_the_expert(caplog):
    MergeSpec.parse("base=a,experts=b,merge_method=slerp")
    assert "1 merges nothing" in caplog.text
    caplog.clear()
    MergeSpec.parse("base=a,experts=b:0.5,merge_method=slerp")
    assert not caplog.text

"""A mergekit YAML means what mergekit 0.1.5 computes from it."""

import logging
import textwrap
from typing import Any

import pytest

from della_bench.errors import SpecError
from della_bench.spec import MergeSpec, Source

MODELS: list[dict[str, Any]] = [
    {"model": "org/base"},
    {"model": "org/a", "parameters": {"weight": 0.3, "density": 0.6}},
    {"model": "org/b", "parameters": {"weight": 0.7, "density": 0.6}},
]


def config(method="della", models=MODELS, base="org/base", **more):
    return {"merge_method": method, "base_model": base, "models": models, **more}


# What each method of mergekit is with all its defaults: our method, density, epsilon, rescale, elect, normalize.
DEFAULTS = {
    "task_arithmetic": ("task_arithmetic", (), (), "none", "none", False),
    "ties": ("ties", (1.0, 1.0), (), "none", "sum", True),
    "dare_linear": ("dare_linear", (1.0, 1.0), (), "l1", "none", False),
    "dare_ties": ("dare_ties", (1.0, 1.0), (), "l1", "sum", False),
    "della": ("della", (1.0, 1.0), (0.15, 0.15), "l1", "sum", True),
    "della_linear": ("della_noelect", (1.0, 1.0), (0.15, 0.15), "l1", "none", False),
}


@pytest.mark.parametrize("method", DEFAULTS)
def test_the_defaults_are_mergekits(read, method):
    weights = {"org/a": 0.3, "org/b": 0.7}
    spec = read(config(method, [{"model": m, "parameters": {"weight": w}} for m, w in weights.items()]))
    assert (spec.merge_method, spec.density, spec.epsilon, spec.rescale, spec.elect, spec.normalize) == DEFAULTS[method]
    assert (spec.base, spec.experts) == (Source("org/base"), (Source("org/a"), Source("org/b")))
    assert (spec.weights, spec.lambda_, spec.dtype, spec.unused) == ((0.3, 0.7), 1.0, None, ())


@pytest.mark.parametrize("method", DEFAULTS)
def test_a_translated_config_is_a_spec_like_any_other(read, method, caplog):
    with caplog.at_level(logging.WARNING):
        spec = read(config(method))
    assert MergeSpec.parse(str(spec)) == spec
    assert not caplog.records


def test_a_base_listed_among_the_models_is_no_expert_and_needs_no_weight(read):
    assert read(config()).experts == (Source("org/a"), Source("org/b"))
    assert read(config()) == read(config(models=MODELS[1:]))


@pytest.mark.parametrize(
    ("given", "meant"), [(True, "l1"), (False, "none"), ("true", "l1"), ("false", "none"), (1, "l1"), (0, "none")]
)
def test_rescale_true_is_l1_and_false_is_none(read, given, meant):
    assert read(config(parameters={"rescale": given})).rescale == meant
    assert read(config("ties", parameters={"rescale": given})).rescale == meant


def test_global_parameters_stand_where_a_model_has_none_of_its_own(read):
    models = [
        {"model": "org/a", "parameters": {"weight": 0.3, "density": 0.5, "epsilon": 0.1}},
        {"model": "org/b", "parameters": {"epsilon": 0.1}},
        {"model": "org/c"},
    ]
    spec = read(config(models=models, parameters={"weight": 2, "density": 0.6, "epsilon": 0.2, "lambda": 1.5}))
    assert (spec.weights, spec.density, spec.epsilon) == ((0.3, 2.0, 2.0), (0.5, 0.6, 0.6), (0.1, 0.1, 0.2))
    assert spec.lambda_ == 1.5


@pytest.mark.parametrize("method", [*DEFAULTS, "linear"])
def test_normalize_is_taken(read, method):
    models = MODELS[1:]
    for given in (True, False):
        spec = read(
            config(method, models, base=None if method == "linear" else "org/base", parameters={"normalize": given})
        )
        assert spec.normalize is given


def test_a_switch_for_some_tensors_alone_is_refused_unless_it_is_the_default(faults, read):
    """Elsewhere it has its default, in mergekit as well."""
    some = [{"filter": "mlp", "value": False}]
    (fault,) = faults(config("linear", MODELS[1:], base=None, parameters={"normalize": some}))
    assert "true or false, and one for all tensors of a merge here" in fault
    assert read(config("task_arithmetic", parameters={"normalize": some})).normalize is False
    for whole in ([*some, {"value": False}], {"filter": "*", "value": False}):
        assert read(config("linear", MODELS[1:], base=None, parameters={"normalize": whole})).normalize is False
    (fault,) = faults(config("model_stock", parameters={"filter_wise": [{"filter": "mlp", "value": True}]}))
    assert "one for all tensors" in fault


def test_a_models_own_threshold_of_ram_is_told_as_ignored(read, caplog):
    models = [{"model": "org/a", "parameters": {"epsilon": 0.1}}, {"model": "org/b"}]
    assert dict(read(config("ram", models)).options)["threshold"] == 1e-5
    assert "models[0].parameters.epsilon" in caplog.text


def test_numbers_of_modules_and_of_the_whole_that_are_the_same_are_one(read):
    module = {"default": {"models": MODELS[1:], "parameters": {"max_iter": 7}}}
    made = {"merge_method": "karcher", "modules": module, "parameters": {"max_iter": 7}}
    assert dict(read(made).options)["max_iter"] == 7
    assert dict(read({**made, "parameters": {"max_iter": 9}}).options)["max_iter"] == 7  # the module's goes first


@pytest.mark.parametrize("method", [*DEFAULTS])
def test_int8_mask_has_no_effect(read, method):
    assert read(config(method, parameters={"int8_mask": True})) == read(config(method))


def test_linear_is_the_mean_of_the_models_and_takes_its_config_from_the_first(read):
    spec = read(config("linear", MODELS[1:], base=None))
    assert (spec.merge_method, spec.base, spec.experts) == (
        "linear", Source("org/a"), (Source("org/a"), Source("org/b")),
    )  # fmt: skip
    assert (spec.weights, spec.normalize) == ((0.3, 0.7), True)


def test_linear_counts_a_base_as_a_model_whether_it_is_listed_or_not(read):
    shared = {"weight": 1}
    listed = read(config("linear", [{"model": "org/base", "parameters": {"weight": 5}}, *MODELS[1:]]))
    assert listed.experts == (Source("org/base"), Source("org/a"), Source("org/b"))
    assert listed.weights == (5.0, 0.3, 0.7)
    added = read(config("linear", MODELS[1:], parameters=shared))
    assert added.experts == (Source("org/a"), Source("org/b"), Source("org/base"))
    assert added.weights == (0.3, 0.7, 1.0)


def test_slerps_t_is_the_weight_of_the_model_that_is_not_the_base(read):
    models = [{"model": "org/a"}, {"model": "org/base"}]
    spec = read(config("slerp", models, parameters={"t": 0.3}))
    assert (spec.merge_method, spec.base, spec.experts, spec.weights) == (
        "slerp", Source("org/base"), (Source("org/a"),), (0.3,),
    )  # fmt: skip


def test_slerp_without_a_t_is_refused(faults):
    assert faults(config("slerp", [{"model": "org/a"}])) == ["parameters.t: missing, and slerp needs it"]


def test_passthrough_is_the_one_model(read):
    spec = read(config("passthrough", [{"model": "org/a"}], base=None))
    assert (spec.merge_method, spec.experts) == ("passthrough", (Source("org/a"),))


@pytest.mark.parametrize(
    ("given", "meant"),
    [({"dtype": "bfloat16"}, "bfloat16"), ({"dtype": "float32", "out_dtype": "float16"}, "float16"), ({}, None)],
)
def test_out_dtype_is_the_dtype_of_the_merged_weights_and_dtype_its_default(read, given, meant):
    assert read(config(**given)).dtype == meant


def test_keys_beside_the_config_win(read):
    spec = read(config(), beside=",window_size=0.2,density=0.7,weights=1,seed=3,rescale=1,method=della_layer_norm")
    assert (spec.epsilon, spec.density, spec.weights, spec.seed) == ((0.1, 0.1), (0.7, 0.7), (1.0, 1.0), 3)
    assert (spec.rescale, spec.merge_method) == ("inverse_keep", "della_layer_norm")


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("org/a@v1", Source("org/a", "v1")),
        ("/models/a,b:0.5", Source("/models/a,b:0.5")),
        ("models/50%25", Source("models/50%25")),
        ("./a", Source("./a")),
        ("zoo:math", Source("math", scheme="zoo")),
        ("C:/models", Source("C:/models")),
    ],
)
def test_a_models_name_is_no_spec_syntax(read, text, source):
    spec = read(config(models=[{"model": text, "parameters": {"weight": 1}}]))
    assert spec.experts == (source,)


def test_a_real_config_with_comments_anchors_and_flow_style_is_read(read):
    spec = read(
        textwrap.dedent("""\
            # a merge as people publish it
            models:
              - model: org/base
                # no parameters necessary for base model
              - model: org/a
                parameters: &same {density: 0.53, weight: 0.4}
              - model: org/b
                parameters:
                  <<: *same
                  weight: 0.3
            merge_method: dare_ties
            base_model: org/base
            parameters: {int8_mask: true}
            dtype: bfloat16
            """)
    )
    assert str(spec) == (
        "base=org/base,experts=org/a+org/b,merge_method=dare_ties,weights=0.4+0.3,density=0.53,rescale=l1,dtype=bfloat16"
    )


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            {"modules": {"text_decoder": {}, "vision_tower": {"models": []}}, "models": None},
            "modules: text_decoder, vision_tower: ",
        ),
        ({"parameters": [1]}, "parameters=[1]: not a mapping"),
        ({"parameters": {"rescale": "perhaps"}}, "parameters.rescale='perhaps': true or false"),
    ],
)
def test_what_has_no_counterpart_here_is_refused_by_name(faults, change, told):
    (text,) = faults(config(**change))
    assert text.startswith(told)


@pytest.mark.parametrize("parameters", [[1, 2], "text"])
def test_parameters_that_are_no_mapping_are_refused_by_their_place(faults, parameters):
    found = faults(config(models=[{"model": "org/a", "parameters": parameters}]))
    assert found[0] == f"models[0].parameters={parameters!r}: not a mapping"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"merge_methode": "ties"}, "merge_methode (did you mean 'merge_method'?)"),
        ({"name": "mine"}, "name"),
        ({"parameters": {"densty": 0.5}}, "parameters.densty (did you mean 'density'?)"),
        ({"models": [{"model": "org/a", "weight": 1, "parameters": {"weight": 1}}]}, "models[0].weight"),
        (
            {"models": [{"model": "org/a", "parameters": {"weight": 1, "normalize": True}}]},
            "models[0].parameters.normalize",
        ),
        (
            {"models": [{"model": "org/a", "parameters": {"weight": 1}, "paramters": {}}]},
            "models[0].paramters (did you mean 'parameters'?)",
        ),
        ({"tokenizer": {"sorce": "base"}}, "tokenizer.sorce (did you mean 'source'?)"),
    ],
)
def test_what_mergekit_does_not_read_is_ignored_with_a_warning(read, caplog, change, told):
    with caplog.at_level(logging.WARNING):
        read(config(**change))
    (record,) = caplog.records
    assert told in record.getMessage()


RULES = [{"filter": "self_attn", "value": [0, 0.5, 1]}, {"filter": "mlp", "value": 0.25}, {"value": 0.5}]


def test_gradients_and_filters_stand_wherever_mergekit_takes_them(read):
    own = {"weight": [0.1, 0.9], "density": [{"filter": "mlp", "value": 0.6}]}
    spec = read(
        config(
            models=[{"model": "org/a", "parameters": own}, {"model": "org/b"}],
            parameters={"weight": RULES, "density": 0.7, "epsilon": [0.1, 0.2], "lambda": [1, 2]},
        )
    )
    assert str(spec) == (
        "base=org/base,experts=org/a+org/b,weights=0.1~0.9+self_attn:0~0.5~1/mlp:0.25/0.5,density=mlp:0.6/0.7+0.7,"
        "epsilon=0.1~0.2,lambda=1~2,rescale=l1"
    )


def test_a_default_is_for_what_no_rule_is_for(read):
    spec = read(config(parameters={"epsilon": [{"filter": "mlp", "value": 0.1}]}))
    assert str(spec).endswith("epsilon=mlp:0.1/0.15,rescale=l1")


def test_slerps_t_may_vary(read):
    data = config("slerp", [{"model": "org/a"}], parameters={"t": RULES})
    assert str(read(data)).endswith("weights=self_attn:0~0.5~1/mlp:0.25/0.5")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([], "a gradient without a number"),
        (["x"], "not a number"),
        ([{"filter": "mlp", "value": "x"}], "not a number"),
        ([{"filter": 3, "value": 1}], "filter 3: not a part of a tensor's name"),
        ([{"filter": "mlp"}], "a rule without a value"),
        ([{"filter": "mlp", "valeu": 1}, {"value": 2}], "a rule without a value"),
        ([{"value": 1}, 2], "numbers beside rules"),
    ],
)
def test_a_value_that_is_none_is_refused_by_its_place(faults, given, told):
    (text,) = faults(config(parameters={"lambda": given}))
    assert text.startswith(f"parameters.lambda={given!r}: {told}")


def test_a_model_without_a_weight_is_named(faults):
    found = faults(config("ties", [{"model": "org/base"}, {"model": "org/a"}, MODELS[2]]))
    assert found == ["models: org/a has no weight, and mergekit needs one"]


def test_a_linear_merge_needs_a_weight_for_a_base_that_is_not_listed(faults):
    assert faults(config("linear", MODELS[1:])) == ["models: org/base has no weight, and mergekit needs one"]


@pytest.mark.parametrize("method", DEFAULTS)
def test_a_method_of_deltas_needs_a_base(faults, method):
    found = faults(config(method, MODELS[1:], base=None, parameters={"t": 0.5}))
    assert found[0].startswith("base_model: missing, and ")


@pytest.mark.parametrize(("base", "told"), [(None, "there is no base_model"), ("org/c", "base_model org/c is not one")])
def test_slerp_without_its_base_goes_from_the_first_model_to_the_second_with_a_warning(read, caplog, base, told):
    with caplog.at_level(logging.WARNING):
        spec = read(config("slerp", [{"model": "org/a"}, {"model": "org/b"}], base=base, parameters={"t": 0.3}))
    assert (spec.base, spec.experts, spec.weights) == (Source("org/a"), (Source("org/b"),), (0.3,))
    assert told in caplog.text


def test_slerp_of_more_or_fewer_models_is_refused(faults):
    models = [{"model": "org/a"}, {"model": "org/b"}]
    for listed, count in ((models, 2), ([], 0)):
        found = faults(config("slerp", [{"model": "org/base"}, *listed], parameters={"t": 0.3}))
        assert found == [f"models: slerp takes exactly 1 beside the base, got {count}"]


@pytest.mark.parametrize(
    ("method", "near"), [("della_linea", "della_linear"), ("tie", "ties"), ("dare_linea", "dare_linear")]
)
def test_an_unknown_method_is_told_the_nearest(faults, method, near):
    (text,) = faults(config(method))
    assert text.startswith(f"merge_method={method!r}: not supported; did you mean ")
    assert repr(near) in text


@pytest.mark.parametrize("method", ["della_layer_norm", "pcb"])
def test_a_method_that_mergekit_does_not_have_is_told_where_it_can_be_named(faults, method):
    (text,) = faults(config(method))
    assert "name it in this package's own keys" in text


@pytest.mark.parametrize("method", ["quietest_of_all", "lottery", "core_space", None])
def test_a_method_that_is_not_here_is_told_all_that_are(faults, method):
    (text,) = faults(config(method))
    assert text.startswith(f"merge_method={method!r}: not supported; one of: ")
    assert all(name in text for name in DEFAULTS)


@pytest.mark.parametrize("models", ["org/a", {"org/a": 1}, 3])
def test_models_that_are_no_list_are_refused(faults, models):
    assert f"models={models!r}: not a list of models" in faults(config(models=models, parameters={"weight": 1}))


@pytest.mark.parametrize("item", [{"weight": 1}, {"model": None}, {"model": 3}, 7])
def test_a_model_without_a_name_is_refused(faults, item):
    assert "models[1]: not a mapping with a model's name" in faults(config(models=[MODELS[1], item]))


def test_all_faults_are_told_at_once(faults):
    data = config(
        "dellla",
        [{"model": "a+b+c", "parameters": {"weight": [1, "x"]}}],
        slices=[],
        modules={},
        parameters={"lambda": []},
    )
    assert {line.split(":")[0] for line in faults(data)} == {
        "slices", "slices=[]", "modules={}", "merge_method='dellla'", "models[0]",
    }  # fmt: skip


def test_a_list_of_sources_under_models_is_ours(read):
    spec = read({"base": "org/base", "models": ["org/a", "org/b:0.5"], "merge_method": "ties", "density": 0.5})
    assert (spec.weights, spec.rescale) == ((1.0, 0.5), "none")


def test_a_methods_own_parameters_are_its_own_keys(read):
    assert read(config("sce", parameters={"select_topk": 0.2})).options == (("select_topk", 0.2),)
    assert read(config("model_stock", parameters={"filter_wise": True})).options == (("filter_wise", True),)
    assert read(config("nearswap", [{"model": "org/a"}], parameters={"t": 0.01})).options == (("t", 0.01),)
    ram = read(config("ramplus_tl", parameters={"epsilon": 1e-4, "alpha": 0.3}))
    assert ram.options == (("r", 0.1), ("alpha", 0.3), ("threshold", 1e-4))
    slerp = read(config("multislerp", parameters={"normalize_weights": False}))
    assert (slerp.normalize, slerp.weights) == (False, (0.3, 0.7))


def test_gamma_may_be_each_models_own_with_the_shared_one_or_the_default_for_the_rest(read):
    own = {**MODELS[1], "parameters": {**MODELS[1]["parameters"], "gamma": 0.1}}
    spec = read(config("breadcrumbs", [MODELS[0], own, MODELS[2]]))
    assert (spec.options, spec.density, spec.rescale, spec.elect) == (
        (("gamma", (0.1, 0.01)),), (0.6, 0.6), "none", "none",
    )  # fmt: skip
    shared = read(config("breadcrumbs_ties", [MODELS[0], own, MODELS[2]], parameters={"gamma": 0.2, "rescale": True}))
    assert (shared.options, shared.rescale, shared.elect) == ((("gamma", (0.1, 0.2)),), "l1", "sum")
    assert read(config("breadcrumbs", parameters={"gamma": 0.2})).options == (("gamma", (0.2, 0.2)),)


@pytest.mark.parametrize("method", ["nuslerp", "multislerp"])
def test_without_a_base_these_interpolate_weights_and_with_one_deltas(read, method):
    alone = read(config(method, MODELS[1:], base=None))
    assert (alone.base, dict(alone.options)["deltas"]) == (Source("org/a"), False)
    based = read(config(method))
    assert (based.base, dict(based.options)["deltas"]) == (Source("org/base"), True)
    assert alone.experts == based.experts == (Source("org/a"), Source("org/b"))


def test_karcher_counts_a_base_as_a_model_whether_it_is_listed_or_not(read):
    assert read(config("karcher")).experts == (Source("org/base"), Source("org/a"), Source("org/b"))
    assert read(config("karcher", MODELS[1:])).experts == (Source("org/a"), Source("org/b"), Source("org/base"))
    assert read(config("karcher", MODELS[1:], base=None)).base == Source("org/a")


@pytest.mark.parametrize("method", ["model_stock", "sce", "karcher", "ram"])
def test_methods_without_weights_need_none(read, method):
    assert read(config(method, [{"model": "org/a"}, {"model": "org/b"}])).weights == (1.0,) * (
        2 + (method == "karcher")
    )


def test_a_parameter_of_another_method_is_ignored_with_a_warning(read, caplog):
    with caplog.at_level(logging.WARNING):
        assert read(config("ties", parameters={"select_topk": 0.2})) == read(config("ties"))
    assert ["parameters.select_topk" in message for message in caplog.messages] == [True]


def test_a_methods_own_numbers_may_be_gradients_and_filters_but_its_switches_not(read):
    t = [{"filter": "mlp", "value": [0.01, 0.03]}, {"value": 0.02}]
    spec = read(config("nearswap", [{"model": "org/a"}], parameters={"t": t}))
    assert spec.varies
    assert MergeSpec.parse(str(spec)) == MergeSpec.parse(spec.as_keys(effective=True)) == spec
    found = [dict(spec.at(name, place).options)["t"] for name, place in (("a.mlp.b", 0.5), ("a.attn.b", 0.5))]
    assert found == [pytest.approx(0.02), 0.02]
    assert dict(spec.at("a.mlp.b", 1.0).options)["t"] == 0.03
    gammas = [
        {**model, "parameters": {"weight": 1, "gamma": gamma}}
        for model, gamma in zip(MODELS[1:], ([0, 0.2], 0.1), strict=True)
    ]
    assert dict(read(config("breadcrumbs", gammas)).at("x", 0.5).options) == {"gamma": (0.1, 0.1)}
    with pytest.raises(SpecError, match=r"select_topk is a number in \[0, 1\]"):
        read(config("sce", parameters={"select_topk": [0.5, 1.5]}))
    with pytest.raises(SpecError, match="true or false"):
        read(config("model_stock", parameters={"filter_wise": [0, 1]}))

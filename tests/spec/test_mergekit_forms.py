"""The forms of one setting in a mergekit YAML: names of models, switches, numbers, ranges of layers."""

import pytest

from della_bench.errors import SpecError
from della_bench.spec import MergeSpec, Source
from tests.spec.test_mergekit import MODELS, config


def structured(path, revision=None, lora=None):
    """A model's name as mergekit's own files write one that is no plain text."""
    return {"model": {"path": path, "revision": revision}, "lora": lora and {"path": lora}}


def test_names_may_be_the_mappings_that_mergekit_writes(read):
    models = [
        {"model": structured("org/base")},
        {"model": structured("org/a", "v1", "org/lora"), "parameters": {"weight": 0.3}},
        {"model": {"model": "org/b@v2", "override_architecture": "X"}, "parameters": {"weight": 0.3}},
        {"model": structured("./my models/a+b@c"), "parameters": {"weight": 0.3}},
    ]
    spec = read(config("ties", models, tokenizer={"source": structured("org/a", "v1", "org/lora")}))
    assert spec.base == Source("org/base")
    adapted = Source("org/a", "v1", adapter=Source("org/lora"))
    assert spec.experts == (adapted, Source("org/b", "v2"), Source("./my models/a+b@c"))
    assert spec.tokenizer == adapted
    assert MergeSpec.parse(str(spec)) == spec


def test_one_model_named_in_two_ways_is_one_model(read):
    piece = {"layer_range": [0, 2]}
    sources = [{"model": structured("org/a"), **piece}, {"model": "org/b", **piece}]
    spec = read(config("slerp", base="org/a", models=None, slices=[{"sources": sources}], parameters={"t": 0.4}))
    assert (spec.base, spec.experts) == (Source("org/a"), (Source("org/b"),))


@pytest.mark.parametrize(
    "name", [{"path": "org/a"}, {"model": {"revision": "v1"}}, {"model": 3}, {"model": "a", "lora": 3}]
)
def test_a_mapping_that_names_no_model_is_refused_at_its_place(faults, name):
    found = faults(config("ties", [*MODELS, {"model": name, "parameters": {"weight": 1}}]))
    (fault,) = found
    assert fault.startswith("models[3]: {")
    assert fault.endswith("}: not the name of a model")


@pytest.mark.parametrize("method", ["task_arithmetic", "ties", "dare_linear", "della", "breadcrumbs", "sce", "ram"])
@pytest.mark.parametrize("sliced", [False, True])
def test_the_base_alone_is_the_base_as_in_mergekit(read, caplog, method, sliced):
    model = {"model": "org/base+org/lora", "parameters": {"weight": 1.0}}
    source = {"sources": [{**model, "layer_range": [0, 2]}]}
    spec = read(
        config(
            method,
            base="org/base+org/lora",
            **({"models": None, "slices": [source]} if sliced else {"models": [model]}),
        )
    )
    adapted = Source("org/base", adapter=Source("org/lora"))
    assert (spec.merge_method, spec.base, spec.experts) == ("passthrough", adapted, (adapted,))
    assert "the merge is the base itself" in caplog.text


def test_no_model_at_all_is_refused(faults):
    assert faults(config("linear", [], parameters={"weight": 1})) == ["models: no model is named"]


def test_the_base_of_a_slice_is_slerps_base(read, caplog):
    sources = [{"model": name, "layer_range": [0, 2]} for name in ("org/a", "org/b")]
    slices = [{"sources": sources, "base_model": "org/b"}]
    spec = read(config("slerp", base=None, models=None, slices=slices, parameters={"t": 0.4}))
    assert (spec.base, spec.experts) == (Source("org/b"), (Source("org/a"),))
    assert not caplog.text


@pytest.mark.parametrize("ends", [[0.0, 2.0], ["0", "2"]])
def test_ranges_of_layers_may_be_floats_and_texts(read, ends):
    slices = [{"sources": [{"model": "org/a", "layer_range": ends}]}] * 2
    assert "slices=0-2/0-2" in str(read(config("passthrough", base=None, models=None, slices=slices)))


@pytest.mark.parametrize(
    ("word", "flag"), [("no", False), ("Yes", True), (1.0, True), ([True, 1], True), ({"value": 0}, False)]
)
def test_switches_may_be_what_mergekit_takes_for_true_and_false(read, word, flag):
    assert read(config(parameters={"normalize": word})).normalize is flag


def test_true_and_false_are_numbers_where_mergekit_takes_them_for_some(read):
    models = [{"model": "org/a", "parameters": {"weight": [True, {"filter": "mlp", "value": False}][:1]}}]
    assert read(config("linear", models, base=None)).weights == (1.0,)


@pytest.mark.parametrize("density", [1.2, 3])
def test_all_is_kept_at_a_density_above_1_as_in_mergekit(read, density):
    spec = read(
        config("ties", parameters={"density": density}, models=[{"model": "org/a", "parameters": {"weight": 1}}])
    )
    assert spec.density == (1.0,)


@pytest.mark.parametrize(("density", "shown"), [(0, "0"), ([0.5, 0], "0.5~0"), ([0.5, 1.5], "0.5~1.5")])
def test_a_density_that_no_merge_has_is_told_by_the_models_name(faults, density, shown):
    found = faults(config("ties", [{"model": "org/a", "parameters": {"weight": 1, "density": density}}]))
    assert [line.partition(": above 0")[0] for line in found] == [f"models: org/a: density {shown}"]


def test_t_of_slerp_is_told_by_mergekits_name(faults):
    t = [0.2, 1.3]
    found = faults(config("slerp", [{"model": "org/a"}], parameters={"t": t}))
    assert found == ["parameters.t=[0.2, 1.3]: slerp goes from the base (0) to the other model (1)"]


def test_a_fault_shows_a_varying_number_as_one_writes_it(faults):
    with pytest.raises(SpecError, match=r"epsilon=\['0.1~0.7'\]"):
        MergeSpec.parse({**config("della", MODELS[:2]), "parameters": {"epsilon": [0.1, 0.7]}})

"""A mergekit-evolve genome read as a space: a point of it is what mergekit makes of the same genes."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest

from della_bench.errors import SpecError
from della_bench.spec import MergeSpec
from della_bench.spec.genome import genome_space

GENOME: dict[str, Any] = {"models": ["org/a", "org/b"], "merge_method": "dare_ties", "base_model": "org/base"}
WEIGHT, DENSITY = {"low": 0.0, "high": 1.0}, {"low": 0.01, "high": 1.0}


def evolve(**genome: Any) -> dict[str, Any]:
    return {"genome": {**GENOME, **genome}, "tasks": [{"name": "zoo_math", "weight": 2}, "zoo_code"]}


def faults(data: dict[str, Any], layers: int | None = 4) -> list[str]:
    with pytest.raises(SpecError) as caught:
        genome_space(data, layers)
    return caught.value.faults


def test_a_genome_is_a_spec_with_ranges():
    assert genome_space(evolve()) == {
        "base": "org/base", "experts": ["org/a", "org/b"], "merge_method": "dare_ties",
        "weights": [WEIGHT, WEIGHT], "density": [DENSITY, DENSITY], "normalize": True, "rescale": "l1",
        "dtype": "bfloat16",
        "search": {
            "benchmarks": ["zoo_math", "zoo_code"], "maximize": {"zoo_math": 2.0, "zoo_code": 1.0}, "sampler": "cmaes",
        },
    }  # fmt: skip


def test_groups_of_layers_are_the_anchors_of_a_gradient(caplog):
    with caplog.at_level(logging.WARNING):
        space = genome_space(evolve(layer_granularity=2, smooth=True), layers=6)
    assert space["weights"] == [{"gradient": [WEIGHT] * 3}] * 2
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        assert genome_space(evolve(layer_granularity=2), layers=6) == space
    assert "straight lines" in caplog.text


def test_filters_have_numbers_of_their_own_and_the_rest_too():
    space = genome_space(evolve(filters=["mlp"], layer_granularity=1, smooth=True), layers=2)
    value = {"gradient": [WEIGHT] * 2}
    assert space["weights"][0] == [{"filter": "mlp", "value": value}, {"value": value}]


@pytest.mark.parametrize("source", ["union", "base", "org/a"])
def test_the_tokenizer_is_the_genomes(source):
    assert genome_space(evolve(tokenizer_source=source))["tokenizer"] == source


def test_negative_weights_where_they_are_allowed():
    assert genome_space(evolve(allow_negative_weights=True))["weights"] == [{"low": -1.0, "high": 1.0}] * 2


def test_a_base_among_the_models_is_no_expert_but_linear_counts_it():
    assert genome_space(evolve(models=["org/base", "org/a"]))["experts"] == ["org/a"]
    linear = genome_space(evolve(merge_method="linear", models=["org/base", "org/a"]))
    assert (linear["base"], linear["experts"]) == ("org/base", ["org/base", "org/a"])


def test_slerp_is_between_two_models():
    space = genome_space(evolve(merge_method="slerp", base_model=None))
    assert (space["base"], space["experts"], space["weights"]) == ("org/a", ["org/b"], [WEIGHT])
    (fault,) = faults(evolve(merge_method="slerp", base_model=None, models=["org/a", "org/b", "org/c"]))
    assert "not the best two of 3" in fault


@pytest.mark.parametrize("changed", [{}, {"normalize": False}, {"filters": ["mlp", "attn"]}, {"smooth": True}])
@pytest.mark.parametrize("method", ["linear", "task_arithmetic", "ties", "dare_ties"])
def test_a_point_of_the_space_is_what_mergekit_makes_of_the_same_genes(monkeypatch, method, changed):
    genomes = pytest.importorskip("mergekit.evo.genome", exc_type=ImportError)
    common = pytest.importorskip("mergekit.common", exc_type=ImportError)
    data = evolve(merge_method=method, layer_granularity=2 if changed.get("smooth") else 0, **changed)
    if method == "linear":
        data["genome"]["base_model"] = "org/a"
    monkeypatch.setattr(common.ModelReference, "config", lambda *_, **__: SimpleNamespace(num_hidden_layers=4))
    genome = genomes.ModelGenome(genomes.ModelGenomeDefinition.model_validate(data["genome"]))
    genes = genome.initial_genotype(random=True) * 0.5 + 0.25
    theirs = genome.genotype_merge_config(genes)
    if theirs.slices:  # one slice of all layers: the same models, each with its parameters
        models = [{"model": str(s.model), "parameters": s.parameters} for s in theirs.slices[0].sources]
    else:
        models = [{"model": str(m.model), "parameters": m.parameters} for m in theirs.models]
    plain = {
        "merge_method": method, "base_model": data["genome"]["base_model"], "dtype": theirs.dtype,
        "parameters": theirs.parameters, "models": [
            {**m, "parameters": {k: plainly(v) for k, v in (m["parameters"] or {}).items()}} for m in models
        ],
    }  # fmt: skip
    space = genome_space(data, layers=4)
    search = space.pop("search")
    ours = MergeSpec.parse({key: filled(value, genes, key) for key, value in space.items()})
    assert search["benchmarks"] == ["zoo_math", "zoo_code"]
    assert ours == MergeSpec.parse(plain)


def plainly(setting: Any) -> Any:
    """A setting of mergekit's as YAML has it."""
    if isinstance(setting, list):
        return [plainly(each) for each in setting]
    return {"filter": setting.filter, "value": setting.value} if hasattr(setting, "filter") else setting


def filled(value: Any, genes: Any, key: str) -> Any:
    """The value of a space with genes in the place of its ranges: group, model, filter, number."""
    if key not in ("weights", "density"):
        return value
    number = {"weights": 0, "density": 1}[key]

    def fill(part: Any, model: int, pattern: int) -> Any:
        if isinstance(part, list):
            return [{**rule, "value": fill(rule["value"], model, place)} for place, rule in enumerate(part)]
        if "gradient" in part:
            return {"gradient": [genes[group, model, pattern, number].item() for group in range(len(part["gradient"]))]}
        return genes[0, model, pattern, number].item()

    return [fill(part, model, 0) for model, part in enumerate(value)]


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"merge_method": "della"}, "genome.merge_method='della': not one that mergekit-evolve knows"),
        ({"base_model": None}, "genome.base_model: missing, and dare_ties needs it"),
        ({"models": []}, "genome.models=[]: not a list of models"),
        ({"models": ["org/base"]}, "genome.models: the base alone"),
        ({"models": ["a+b+c"]}, "genome.models='a+b+c': a model has one LoRA adapter at most"),
        ({"layer_granularity": 3}, "genome.layer_granularity=3: the models have 4 layers"),
        ({"layer_granularity": "x"}, "genome.layer_granularity='x': not a number of layers"),
        ({"filters": "mlp"}, "genome.filters='mlp': not a list"),
        ({"granularity": 8}, "genome.granularity: not a key of a genome; did you mean 'layer_granularity'?"),
        ({"merge_method": "linear"}, "genome.base_model=org/base: a model of no weight"),
    ],
)
def test_what_is_wrong_with_a_genome_is_told(changed, told):
    assert faults(evolve(**changed))[0].startswith(told)


def test_all_faults_are_told_at_once_and_the_number_of_layers_is_asked_for():
    data = evolve(layer_granularity=2, merge_method="x") | {"tasks": [{"weight": 1}, {"name": "a", "weight": "b"}]}
    assert [fault.split(":")[0] for fault in faults(data, None)] == [
        "genome.merge_method='x'", "genome.layer_granularity", "tasks", "tasks",
    ]  # fmt: skip
    with pytest.raises(SpecError, match=r"^config=x: genome="):
        genome_space({"genome": 3}, where="config=x: ")

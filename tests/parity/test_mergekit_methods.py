"""Methods that came from mergekit, in both programs: equal on float32, tensor by tensor and over whole models."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from della_bench.errors import MergeError
from della_bench.merge.stream import Merge
from della_bench.spec.mergekit_methods import MERGEKIT_METHODS
from tests import tiny
from tests.parity.test_mergekit import (
    AB,
    assert_close,
    by_mergekit,
    by_us,
    config,
    configs,
    in_folder,
    label,
    options,
    parse,
    random_tensors,
    runner,
)

registry = pytest.importorskip("mergekit.merge_methods.registry", exc_type=ImportError)

BARE: dict[str, dict[str, float]] = {"a": {}, "b": {}}
THREE = BARE | {"c": {}}
CUT = {"a": {"weight": 0.3, "density": 0.55}, "b": {"weight": 0.9, "density": 0.4}}
GAMMA = {"a": {"weight": 0.3, "density": 0.5, "gamma": 0.2}, "b": {"weight": 0.9, "density": 0.9, "gamma": 0.3}}
OF_TENSORS = [
    config("breadcrumbs", CUT),
    config("breadcrumbs", GAMMA, {"normalize": True, "lambda": 0.7}),
    config("breadcrumbs", CUT, {"rescale": True, "gamma": 0.1}),
    config("breadcrumbs", AB),
    config("breadcrumbs_ties", CUT | {"c": {"weight": 1.1, "density": 0.3}}),
    config("breadcrumbs_ties", GAMMA, {"rescale": True, "normalize": True}),
    config("model_stock", BARE),
    config("model_stock", THREE),
    config("model_stock", THREE, {"filter_wise": True}),
    config("sce", THREE),
    config("sce", THREE, {"select_topk": 0.3}),
    config("sce", BARE, {"select_topk": 0.7, "int8_mask": True}),
    config("sce", BARE, {"select_topk": 0.0}),
    config("nuslerp", AB),
    config("nuslerp", AB, base=None),
    config("nuslerp", AB, {"nuslerp_flatten": False}),
    config("nuslerp", AB, {"nuslerp_flatten": False, "nuslerp_row_wise": True}, base=None),
    config("nuslerp", {"a": {"weight": 1.0}, "b": {"weight": -1.0}}),
    config("multislerp", AB | {"c": {"weight": 0.5}}),
    config("multislerp", AB | {"c": {"weight": 0.5}}, base=None),
    config("multislerp", AB, {"normalize_weights": False, "eps": 1e-6}),
    config("multislerp", {"a": {"weight": 0.4}}),
    config("karcher", THREE, base=None),
    config("karcher", BARE, {"max_iter": 1}, base=None),
    config("karcher", THREE | {"longer": {}}, {"max_iter": 30, "tol": 1e-6}, base=None),
    config("nearswap", {"a": {}}, {"t": 0.1}),
    config("nearswap", {"base": {}, "a": {}}, {"t": 0.001}),
    config("arcee_fusion", {"a": {}}),
    config("ram", THREE),
    config("ram", THREE, {"epsilon": 0.1}),
    config("ramplus_tl", THREE, {"epsilon": 0.1}),
    config("ramplus_tl", THREE, {"epsilon": 0.2, "r": 0.6, "alpha": 3.0}),
]


def tensors_of(shape: tuple[int, ...]) -> dict[str, torch.Tensor]:
    tensors = random_tensors(shape, "a", "b", "c")
    return tensors | {"longer": tensors["c"] * 1.5}


@pytest.mark.parametrize("shape", [(31, 47), (301,), (3, 5, 8)], ids=str)
@pytest.mark.parametrize("made", OF_TENSORS, ids=label)
def test_both_compute_the_same_values(made, shape, tmp_path):
    tensors = tensors_of(shape)
    ours, theirs = by_us(parse(made, tmp_path), tensors), by_mergekit(made, tensors)
    assert_close(ours, theirs, [*tensors.values(), ours])


def test_every_method_of_mergekit_is_here_and_tried():
    tried = {made["merge_method"] for made in OF_TENSORS}
    assert tried == {method.name for method in MERGEKIT_METHODS}
    ours = {"linear", "slerp", "passthrough", "task_arithmetic", "ties", "dare_ties", "dare_linear", "della"}
    assert {method.spec.name for method in registry.registered_methods()} == tried | ours | {"della_linear"}


def test_the_defaults_of_a_methods_own_keys_are_mergekits():
    names = {"multislerp": {"eps": "eps"}, "ram": {"threshold": "epsilon"}, "ramplus_tl": {"threshold": "epsilon"}}
    compared = 0
    for method in MERGEKIT_METHODS:
        theirs = {parameter.name: parameter for parameter in registry.get(method.name).spec.parameters}
        for option in method.options:
            if option.name == "deltas":  # mergekit has no word for it: there a base that is given says so
                continue
            parameter = theirs[names.get(method.name, {}).get(option.name, option.name)]
            assert (option.default, parameter.required) == (
                (None, True) if parameter.required else (parameter.default, False)
            )
            compared += 1
    assert compared == 14


WHOLE: dict[str, dict[str, Any]] = {
    "breadcrumbs_ties": config("breadcrumbs_ties", CUT),
    "model_stock": config("model_stock", BARE),
    "model_stock by rows": config("model_stock", BARE, {"filter_wise": True}),
    "sce": config("sce", BARE, {"select_topk": 0.4}),
    "nuslerp": config("nuslerp", AB),
    "multislerp without a base": config("multislerp", AB, base=None),
    "karcher with a base that is not listed": config("karcher", BARE),
    "nearswap": config("nearswap", {"a": {}}, {"t": 0.01}),
    "arcee_fusion": config("arcee_fusion", {"a": {}}),
    "ramplus_tl": config("ramplus_tl", BARE, {"epsilon": 0.01}),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    for kind, make in (("llama", tiny.llama), ("gpt2", tiny.gpt2)):
        for seed, name in enumerate(("base", "a", "b")):
            tiny.perturbed(make(0), seed, scale=0.02).save_pretrained(root / kind / name)
    return root


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize("name", WHOLE)
def test_a_whole_model_is_the_one_that_mergekit_writes(kind, name, folders, tmp_path):
    made = in_folder(WHOLE[name], folders / kind)
    choices = options.MergeOptions(copy_tokenizer=False, write_model_card=False, quiet=True)
    runner.run_merge(configs.MergeConfiguration.model_validate(made), str(tmp_path / "out"), choices)
    theirs = load_file(next((tmp_path / "out").glob("*.safetensors")))
    ours = dict(Merge(parse(made, tmp_path)).stream())
    assert ours.keys() == theirs.keys()
    base = load_file(folders / kind / "base" / "model.safetensors")
    for tensor, merged in ours.items():
        # Lengths and angles of an embedding, which mergekit sums in float32, are good to some 1e-6 of themselves.
        assert (merged - theirs[tensor]).abs().max() <= 1e-6
    assert any((merged - base[tensor]).abs().max() > 1e-3 for tensor, merged in ours.items())


def test_difference_tensors_that_no_expert_changed_have_a_mean_direction(tmp_path):
    """mergekit stops at a tensor that all of three experts left alone: it has no direction, but it needs none."""
    made = config("multislerp", {"a": {"weight": 1.0}, "b": {"weight": 1.0}, "c": {"weight": 1.0}})
    alone = torch.ones(4, 5)
    tensors = dict.fromkeys(("base", "a", "b", "c"), alone)
    with pytest.raises(ValueError, match="weighted sum"):
        by_mergekit(made, tensors)
    assert torch.equal(by_us(parse(made, tmp_path), tensors), alone)


def test_three_directions_that_balance_have_no_mean_in_either(tmp_path):
    made = config("multislerp", {"a": {"weight": 1.0}, "b": {"weight": 1.0}, "c": {"weight": 1.0}})
    corners = [(math.cos(2 * math.pi * k / 3), math.sin(2 * math.pi * k / 3)) for k in range(3)]
    tensors = {"base": torch.zeros(2)} | {name: torch.tensor(c) for name, c in zip("abc", corners, strict=True)}
    made["parameters"]["eps"] = 1e-6
    with pytest.raises(ValueError, match="weighted sum"):
        by_mergekit(made, tensors)
    with pytest.raises(MergeError, match=r"directions balance"):
        by_us(parse(made, tmp_path), tensors)


def test_difference_quartiles_of_large_tensors_are_those_of_all_elements(tmp_path):
    """mergekit takes them from a million elements drawn at random: another merge each time."""
    made = config("arcee_fusion", {"a": {}})
    tensors = random_tensors((1100, 1000), "a")
    ours = by_us(parse(made, tmp_path), tensors)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = [by_mergekit(made, tensors) for _ in range(2)]
    assert not torch.equal(theirs[0], theirs[1])
    assert torch.equal(ours, by_us(parse(made, tmp_path), tensors))
    taken = [(merged != tensors["base"]).double().mean().item() for merged in (ours, *theirs)]
    assert max(taken) - min(taken) < 0.01

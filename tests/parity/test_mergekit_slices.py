"""The same mergekit YAML with slices in both programs: the same tensors under the same names, of two architectures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from della_bench.checkpoint.stacking import comes_before
from della_bench.errors import SpecError
from della_bench.merge.stream import Merge
from della_bench.spec import MergeSpec
from tests import tiny

REASON = "mergekit is not installed (the extra `parity`)"
runner = pytest.importorskip("mergekit.merge", reason=REASON, exc_type=ImportError)
configs = pytest.importorskip("mergekit.config", reason=REASON, exc_type=ImportError)
options = pytest.importorskip("mergekit.options", reason=REASON, exc_type=ImportError)
definitions = pytest.importorskip("mergekit.architecture.json_definitions", reason=REASON, exc_type=ImportError)

NAMES = ("base", "a", "b", "long")


def piece(model: str, start: int, stop: int, **parameters: Any) -> dict[str, Any]:
    made: dict[str, Any] = {"model": model, "layer_range": [start, stop]}
    return made | ({"parameters": parameters} if parameters else {})


def config(
    method: str, *slices: list[dict[str, Any]] | dict[str, Any], base: str | None = None, **parameters: Any
) -> dict[str, Any]:
    listed = [each if isinstance(each, dict) else {"sources": each} for each in slices]
    made: dict[str, Any] = {"merge_method": method, "slices": listed, "parameters": parameters}
    return made | ({"base_model": base} if base else {})


def in_folder(made: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The same configuration with its models in a folder."""

    def placed(item: dict[str, Any]) -> dict[str, Any]:
        return item | {key: str(folder / item[key]) for key in ("model", "base_model") if key in item}

    slices = [placed(each) | {"sources": [placed(source) for source in each["sources"]]} for each in made["slices"]]
    return placed(made) | {"slices": slices}


def parse(made: dict[str, Any], folder: Path, **others: Any) -> MergeSpec:
    path = folder / "mergekit.yml"
    path.write_text(yaml.safe_dump(made), encoding="utf-8")
    return MergeSpec.parse({"config": str(path), **others})


Q_AND_DOWN = [{"filter": "attn", "value": 0.5}, {"filter": "mlp", "value": [0.25, 2]}, {"value": 1}]
STACKED = {
    "layers_of_two_models": config("passthrough", [piece("a", 0, 3)], [piece("long", 1, 6)]),
    "layers_of_one_model_twice": config("passthrough", [piece("a", 0, 3)], [piece("a", 1, 4)], [piece("a", 3, 4)]),
    "fewer_layers": config("passthrough", [piece("a", 0, 1)], [piece("b", 3, 4)]),
    "the_first_layers": config("passthrough", [piece("long", 0, 3)]),
    "scale": config("passthrough", [piece("a", 0, 3, scale=Q_AND_DOWN)], [piece("b", 2, 4)], scale=[1.5, 0.5]),
    "scale_of_a_slice": config(
        "passthrough", {"sources": [piece("a", 0, 2)], "parameters": {"scale": 0.7}}, [piece("b", 2, 4)]
    ),
    # A filter is held to the name in the source for a model's numbers, and to that in the merge for those of all.
    "scale_of_a_layer": config(
        "passthrough", [piece("a", 0, 2)], [piece("b", 2, 4)], scale=[{"filter": "h.3.", "value": 3}, {"value": 1}]
    ),
    "linear": config(
        "linear",
        [piece("a", 0, 1, weight=0.75), piece("b", 1, 2, weight=[0.5, 1])],
        [piece("b", 0, 4)],
        [piece("long", 3, 6), piece("a", 1, 4, weight=[0.2, 0.9])],
        weight=0.5,
    ),
    "linear_with_a_base_beside": config(
        "linear", [piece("a", 0, 2, weight=3), piece("b", 2, 4)], [piece("a", 2, 4)], base="base", weight=[0.25, 0.75]
    ),
    "slerp": config("slerp", [piece("base", 0, 3), piece("a", 1, 4)], [piece("b", 0, 2), piece("base", 2, 4)],
                    base="base", t=[{"filter": "attn", "value": [0, 0.5, 0.3]}, {"value": [0.9, 0.1]}]),
    # t is of the whole merge: a filter is held to the merge's layer 0, which is the expert's layer 1.
    "slerp_by_layer": config("slerp", [piece("base", 0, 2), piece("a", 1, 3)], [piece("base", 3, 4), piece("a", 0, 1)],
                             base="base", t=[{"filter": ".0.", "value": 0.9}, {"value": 0.1}]),
    "ram_with_a_threshold_of_a_slice": config(
        "ram",
        {"sources": [piece("base", 0, 2), piece("a", 0, 2), piece("b", 0, 2)], "parameters": {"epsilon": 0.03}},
        [piece("base", 2, 4), piece("a", 2, 4), piece("b", 2, 4)],
        base="base",
        epsilon=0.01,
    ),
    "task_arithmetic": config(
        "task_arithmetic",
        {"sources": [piece("b", 1, 4), piece("base", 1, 4), piece("a", 0, 3)], "parameters": {"weight": 0.3}},
        [piece("base", 1, 3)],
        {"sources": [piece("base", 0, 2), piece("a", 0, 2, weight=[0.1, 1])], "parameters": {"lambda": [0.5, 1.5]}},
        base="base",
        weight=0.8,
    ),
    "ties": config(
        "ties",
        [piece("base", 0, 3), piece("a", 0, 3, density=[0.9, 0.3], weight=1), piece("b", 1, 4, density=0.5)],
        [piece("base", 3, 4), piece("b", 3, 4)],
        base="base",
        weight=[{"filter": "mlp", "value": 0.4}, {"value": [0.6, 1]}],
        density=0.7,
    ),
    "a_base_of_the_slices": {
        "merge_method": "task_arithmetic",
        "slices": [
            {"sources": [piece("base", k, k + 2), piece("a", k, k + 2)], "base_model": "base"} for k in (0, 1, 2)
        ],
        "parameters": {"weight": 0.5},
    },
    "model_stock": config(
        "model_stock",
        *[[piece("base", k, k + 2), piece("a", 0, 2), piece("b", 2, 4)] for k in (0, 2)],
        base="base",
    ),
    "nuslerp": config(
        "nuslerp", *[[piece("a", k, k + 2), piece("b", 1, 3, weight=[0.3, 2])] for k in (0, 2)], weight=1.0
    ),
    "nuslerp_from_a_base": config(
        "nuslerp", *[[piece("base", k, k + 2), piece("a", k, k + 2), piece("b", 1, 3)] for k in (0, 2)], base="base",
        weight=[{"filter": "attn", "value": 0.2}, {"value": 0.7}],
    ),
}  # fmt: skip
WHOLE = config(
    "slerp",
    [piece("base", 0, 4), piece("a", 0, 4)],
    base="base",
    t=[{"filter": "mlp", "value": [0, 1]}, {"value": 0.4}],
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    for kind, make in (("llama", tiny.llama), ("gpt2", tiny.gpt2)):
        for seed, name in enumerate(NAMES):
            # A difference of the order of the weights, so that the angle between two models is a real one.
            model = tiny.perturbed(make(0, layers=6 if name == "long" else 4), seed, scale=0.02)
            model.save_pretrained(root / kind / name)
    return root


def by_mergekit(made: dict[str, Any], out: Path) -> dict[str, torch.Tensor]:
    choices = options.MergeOptions(copy_tokenizer=False, write_model_card=False, quiet=True)
    runner.run_merge(configs.MergeConfiguration.model_validate(made), str(out), choices)
    return load_file(next(out.glob("*.safetensors")))


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize("name", STACKED)
def test_a_stacked_model_is_the_one_that_mergekit_writes(kind, name, folders, tmp_path):
    made = in_folder(STACKED[name], folders / kind)
    theirs = by_mergekit(made, tmp_path / "out")
    merge = Merge(parse(made, tmp_path))
    ours = dict(merge.stream())
    assert ours.keys() == theirs.keys()
    exact = made["merge_method"] == "passthrough"
    for tensor, merged in ours.items():
        assert merged.shape == theirs[tensor].shape
        if exact:
            assert torch.equal(merged, theirs[tensor]), tensor
        else:
            torch.testing.assert_close(merged, theirs[tensor], rtol=0, atol=1e-6)
    layers = yaml.safe_load((tmp_path / "out" / "config.json").read_text())
    key = "num_hidden_layers" if kind == "llama" else "n_layer"
    assert merge.base.config[key] == layers[key]


def test_what_comes_before_the_layers_and_what_after_them_is_as_in_mergekits_architectures():
    seen = 0
    for architecture in definitions.JSON_ARCHITECTURES:
        if len(architecture.modules) == 1:
            definition = architecture.modules["default"].architecture.definition
            assert [w.name for w in definition.pre_weights if not comes_before(w.name)] == []
            assert [w.name for w in definition.post_weights if comes_before(w.name)] == []
            seen += 1
    assert seen > 40


TOKENIZERS = {"a": ("<both>", "<a>"), "b": ("<b>", "<both>", "<c>"), "base": ()}


@pytest.fixture(scope="module")
def speakers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models with tokens of their own, and a row for each of them."""
    root = tmp_path_factory.mktemp("speakers")
    for seed, (name, extra) in enumerate(TOKENIZERS.items()):
        tiny.save(tiny.llama(seed, vocab=259 + len(extra), layers=3), root / name, tiny.tokenizer(extra))
    return root


@pytest.mark.parametrize("source", ["union", "base", "b"])
def test_rows_of_tokens_are_aligned_in_stacked_models_too(source, speakers, tmp_path, monkeypatch):
    """mergekit goes through the models in the order of a set; here it is that of the YAML, which is ours."""
    weights = {"weight": [0.3, 0.8]}
    ends = [piece("a", 0, 2, **weights), piece("b", 1, 3), piece("base", 1, 3)]
    made = config("linear", ends, [piece("a", 0, 3)], ends, base="base", weight=0.5)
    chosen = {"tokenizer_source": source if source != "b" else str(speakers / "b")}
    made = in_folder(made, speakers) | chosen
    order = [configs.ModelReference.model_validate(str(speakers / name)) for name in ("base", "a", "b")]
    monkeypatch.setattr(configs.MergeConfiguration, "referenced_models", lambda _: order)
    theirs = by_mergekit(made, tmp_path / "out")
    merge = Merge(parse(made, tmp_path))
    ours = dict(merge.stream())
    assert {name: tensor.shape for name, tensor in ours.items()} == {name: t.shape for name, t in theirs.items()}
    assert merge.vocabulary is not None
    rows = merge.vocabulary.layout.token_ids
    for name, tensor in ours.items():
        mine, other = (
            each[rows] if each.shape[0] == merge.vocabulary.size else each for each in (tensor, theirs[name])
        )
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-6)


def test_difference_what_follows_the_layers_is_merged_of_all_sources_of_the_last_slice(folders, tmp_path, caplog):
    """mergekit takes as many of them as the first slice has, in their order: here the norm of `a` alone."""
    made = in_folder(
        config("linear", [piece("a", 0, 2)], [piece("a", 2, 4), piece("b", 2, 4)], weight=0.5), folders / "llama"
    )
    theirs = by_mergekit(made, tmp_path / "out")
    ours = dict(Merge(parse(made, tmp_path)).stream())
    a, b = (load_file(folders / "llama" / name / "model.safetensors")["model.norm.weight"] for name in "ab")
    torch.testing.assert_close(theirs["model.norm.weight"], a, rtol=0, atol=1e-6)
    torch.testing.assert_close(ours["model.norm.weight"], (a + b) / 2, rtol=0, atol=1e-6)
    assert "the first slice has 1 source and the last one 2" in caplog.text


def test_the_only_slice_of_all_layers_is_the_merge_without_it(folders, tmp_path):
    made = in_folder(WHOLE, folders / "llama")
    theirs = by_mergekit(made, tmp_path / "out")
    spec = parse(made, tmp_path)
    models = [{"model": source["model"]} for source in made["slices"][0]["sources"]]
    plain = parse({**made, "slices": None, "models": models}, tmp_path)
    assert str(spec).replace("slices=0-4,", "") == str(plain)
    ours, without = dict(Merge(spec).stream()), dict(Merge(plain).stream())
    for tensor, merged in ours.items():
        assert torch.equal(merged, without[tensor])
        torch.testing.assert_close(merged, theirs[tensor], rtol=0, atol=1e-6)


def test_modules_with_one_default_module_are_read_as_what_stands_in_it(folders, tmp_path):
    made = in_folder(STACKED["linear"], folders / "llama")
    slices, parameters = made.pop("slices"), made.pop("parameters")
    inside = {"modules": {"default": {"slices": slices, "parameters": {"weight": [{"filter": "mlp", "value": 0.1}]}}}}
    module = {**made, **inside, "parameters": parameters}
    theirs = by_mergekit(module, tmp_path / "out")
    for tensor, merged in Merge(parse(module, tmp_path)).stream():
        torch.testing.assert_close(merged, theirs[tensor], rtol=0, atol=1e-6)


NO_NORM = {"sources": [piece("a", 0, 2)], "parameters": {"normalize": False}}
A_AND_B = [piece("a", 0, 2), piece("b", 0, 2)]
FAULTS = [
    (
        config("ties", [piece("a", 0, 2)], [piece("base", 2, 4), piece("a", 2, 4)], base="base", weight=1),
        ["slices[0]: base_model base is not among its sources, and ties needs it there"],
    ),
    (config("ties", [piece("a", 0, 2)], weight=1), ["base_model: missing, and ties needs it"]),
    (config("linear", [piece("a", 0, 2), piece("b", 0, 3)], weight=1), ["ranges of unequal length"]),
    (config("passthrough", A_AND_B), ["passthrough takes exactly 1 of the experts, got 2"]),
    (
        config("passthrough", [piece("a", 2, 2)], [piece("b", 3, 1)]),
        ["an empty range", "a reversed range; write 2:1-3"],
    ),
    (config("linear", [piece("a", 0, 2), piece("a", 2, 4)], weight=1), ["a is given twice in one slice"]),
    (config("linear", NO_NORM, [piece("b", 0, 2)], weight=1), ["normalize differs from slice to slice"]),
    (
        {"merge_method": "linear", "modules": {"text_decoder": {"models": [{"model": "a"}]}}},
        ["modules: text_decoder: parts of a model are not merged apart"],
    ),
    ({"merge_method": "linear", "modules": 3}, ["modules=3: not a mapping"]),
    (
        config("linear", {"sources": []}, [{"model": "a"}]),
        [
            "slices[0]: not a mapping with a list of sources",
            "slices[1].sources[0]: not a mapping with a model's name and a layer_range",
        ],
    ),
    (
        {"merge_method": "linear", "models": [{"model": "a"}], "slices": [{"sources": A_AND_B}]},
        ["slices: given beside models"],
    ),
]


@pytest.mark.parametrize(("made", "told"), FAULTS, ids=lambda each: None if isinstance(each, dict) else each[0][:40])
def test_what_cannot_be_done_is_told_in_a_sentence(made, told, tmp_path):
    with pytest.raises(SpecError) as caught:
        parse(made, tmp_path)
    for sentence in told:
        assert sentence in str(caught.value)


def test_what_mergekit_does_not_read_in_slices_is_told(tmp_path, caplog):
    made = config(
        "passthrough", {"sources": [{**piece("a", 0, 2), "wieght": 3}], "residual_weight": 0.5}, [piece("b", 0, 1)]
    )
    parse(made, tmp_path)
    assert "slices[0].residual_weight" in caplog.text
    assert "slices[0].sources[0].wieght" in caplog.text


def test_a_base_that_the_only_slice_lacks_is_taken_with_its_layers(tmp_path, caplog):
    spec = parse(config("ties", [piece("a", 0, 2), piece("b", 0, 2)], base="base", weight=1), tmp_path)
    assert str(spec).startswith("base=base,experts=a+b,slices=0-2,merge_method=ties")
    assert "base_model base is not among the sources of the only slice" in caplog.text

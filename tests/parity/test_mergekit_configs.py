"""The 104 real configurations: each that mergekit itself can plan is read as mergekit reads it, the others are refused.

mergekit's reading is what its own planner makes of a file, tensor by tensor, on a Llama of as many layers as the file
speaks of; no weight is read.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from della_bench.checkpoint import HostTensor, ModelFolder, TensorInfo
from della_bench.checkpoint.stacking import stack
from della_bench.errors import SpecError
from della_bench.merge.plan import plan
from della_bench.spec import MergeSpec, Source
from della_bench.spec.mergekit_table import COUNTERPARTS
from della_bench.spec.slices import Place
from della_bench.spec.varying import depth
from della_bench.spec.vocabulary import tokenizer_text
from tests.parity.real_configs import FOLDER, KINDS, MARKS, PLAIN, load, ranges

REASON = "mergekit is not installed (the extra `parity`)"
architecture = pytest.importorskip("mergekit.architecture", reason=REASON, exc_type=ImportError)
common = pytest.importorskip("mergekit.common", reason=REASON, exc_type=ImportError)
configs = pytest.importorskip("mergekit.config", reason=REASON, exc_type=ImportError)
options = pytest.importorskip("mergekit.options", reason=REASON, exc_type=ImportError)
planning = pytest.importorskip("mergekit.plan", reason=REASON, exc_type=ImportError)

pytestmark = MARKS

LAYERS = 8  # where a file names none
# Their names for our numbers; what a method has of its own has another name only where the table says so.
THEIRS = {"weights": "weight", "density": "density", "epsilon": "epsilon", "lambda_": "lambda"}


@pytest.fixture
def mergekits_plan(monkeypatch):
    """Return a function that plans a configuration: (name, task) of each tensor; it raises what mergekit does."""
    from transformers import LlamaConfig

    class Everything:
        def __contains__(self, name: object) -> bool:
            return True

    everything = SimpleNamespace(index=SimpleNamespace(tensor_paths=Everything()))
    monkeypatch.setattr(planning.LoaderCache, "get", lambda *_: everything)

    def made(data: dict[str, Any]) -> list[tuple[str, Any]]:
        layers = max((end for _, end in ranges(data)), default=LAYERS)
        config = LlamaConfig(num_hidden_layers=layers, architectures=["LlamaForCausalLM"])
        monkeypatch.setattr(common.ModelReference, "config", lambda *_, **__: config)
        known = configs.MergeConfiguration.model_validate(data)
        choices = options.MergeOptions(quiet=True)
        info = architecture.get_architecture_info(known, choices)
        planner = planning.MergePlanner(known, info, options=choices, out_model_config=config)
        planner._plan()
        return [(weight.name, task) for weight, task in planner._tensors]

    return made


class Llama(ModelFolder):
    """A model of so many layers, without weights."""

    folder, files = Path(), []

    def __init__(self, layers: int, names: Iterable[str]) -> None:
        self.label, self.config = "a Llama", {"model_type": "llama", "num_hidden_layers": layers}
        outside = [name for name in names if ".layers." not in name]
        parts = {name.partition(".0.")[2] for name in names if ".layers.0." in name}
        inside = [f"model.layers.{layer}.{part}" for layer in range(layers) for part in parts]
        self.tensors = {name: TensorInfo((1,), "F32") for name in [*outside, *inside]}

    def tensor(self, name: str) -> HostTensor:
        raise NotImplementedError


def places_of(spec: MergeSpec, data: dict[str, Any], names: list[str]) -> dict[str, Place]:
    """Where each tensor lies, and what it is made of."""
    every = [Llama(max((end for _, end in ranges(data)), default=LAYERS), names) for _ in (spec.base, *spec.experts)]
    stacking = stack(spec, every[0], every[1:]) if spec.slices else None
    if stacking is None:
        members = range(len(spec.experts))
        return {name: Place(place, None, tuple((k, name) for k in members)) for name, place in depth(names).items()}
    assert sorted(stacking.base.tensors) == sorted(names)
    return {name: stacking.place(name) for name in names}


def assert_same_reading(spec: MergeSpec, planned: list[tuple[str, Any]], data: dict[str, Any]) -> None:
    names = [name for name, _ in planned]
    places = places_of(spec, data, names)
    numbers = plan(spec, places)
    row = COUNTERPARTS[data["merge_method"]]
    for name, task in planned:
        ours, members = numbers[name], places[name].members or ()
        gathering = getattr(task.gather_tensors, "gather_tensors", task.gather_tensors)  # behind a vocabulary's rows
        own_names = {str(model): info.name for model, info in gathering.weight_info.items()}
        shared, own = dict(task.parameters.items()), cast("dict[str, Any]", dict(ours.options))
        each = {str(model): dict(values.items()) for model, values in task.input_parameters.items()}
        models = [str(model) for model in task.model_order]
        for position, (expert, own_name) in enumerate(members):
            source = spec.experts[expert]
            theirs = each[str(source)]
            assert own_names[str(source)] == own_name
            for ours_name, key in THEIRS.items():
                if key in theirs and (key != "density" or row.rescale is not None):
                    assert getattr(ours, ours_name)[position] == theirs[key], (name, source, key)
            for key in row.per_model:
                wanted = 1.0 if theirs[key] is None else theirs[key]  # a scale that is not given
                assert own[row.options[key]][position] == wanted
        used = {str(spec.experts[expert]) for expert, _ in members} | (
            {str(spec.base)} if spec.merges_into_base else set()
        )
        assert used == set(models)
        if "lambda" in shared:
            assert ours.lambda_ == shared["lambda"]
        if data["merge_method"] == "slerp":
            assert ours.weights[0] == shared["t"], name
        if row.normalize is not None:
            assert ours.normalize == shared["normalize"]
        if row.rescale is not None:
            assert ours.rescale == ("l1" if shared["rescale"] else "none")
        for theirs_name, ours_name in row.options.items():
            if theirs_name in shared:
                found = dict(ours.options).get(ours_name, ours.normalize)
                assert found == shared[theirs_name], (name, theirs_name)
    known = configs.MergeConfiguration.model_validate(data)
    tokenizer = known.tokenizer.source if known.tokenizer else known.tokenizer_source
    ours_text = None if spec.tokenizer is None else tokenizer_text(spec.tokenizer)
    assert ours_text == (None if tokenizer is None else str(tokenizer).removeprefix("model:"))
    assert (None if spec.chat_template is None else str(spec.chat_template)) == known.chat_template
    if (wanted := data.get("out_dtype") or data.get("dtype")) is not None:
        assert spec.dtype == wanted
    if data.get("base_model") is not None:
        assert spec.base == Source.parse(data["base_model"])


@pytest.mark.parametrize("name", PLAIN)
def test_a_plain_configuration_is_read_as_mergekit_reads_it(name, mergekits_plan, caplog):
    """One that mergekit itself refuses is refused, or taken with a warning that says so."""
    data = load(name)
    try:
        planned = mergekits_plan(load(name))
    except (RuntimeError, ValueError):
        with caplog.at_level(logging.WARNING), suppress(SpecError):
            MergeSpec.parse(FOLDER / name)
            assert "which mergekit refuses" in caplog.text or "times, and merged as" in caplog.text
        return
    assert_same_reading(MergeSpec.parse(FOLDER / name), planned, data)


def outcomes() -> tuple[Counter[str], dict[str, list[str]]]:
    """How many files of each kind are accepted, and the faults of the others."""
    accepted: Counter[str] = Counter()
    faults = {}
    for name, kind in KINDS.items():
        try:
            MergeSpec.parse(FOLDER / name)
            accepted[kind] += 1
        except SpecError as error:
            faults[name] = error.faults
    return accepted, faults


def test_95_percent_of_the_plain_configurations_are_accepted_and_each_other_is_refused_by_name():
    accepted, faults = outcomes()
    assert accepted["valid"] / len(PLAIN) >= 0.95, {name: faults.get(name) for name in PLAIN if name in faults}
    assert set(accepted) == {"valid"}  # the files of several documents lost their names, which are all the same
    told = {"moe": "mergekit-moe", "evolve": "mergekit-evolve", "multi": "document", "unknown": "merge_method='ota'"}
    for name, found in faults.items():
        assert all(fault.startswith(f"config={FOLDER / name}: ") for fault in found)
        kind = KINDS[name].partition("-")[0]
        assert kind == "valid" or any(told[kind] in fault for fault in found)

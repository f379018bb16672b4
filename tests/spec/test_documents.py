"""The forms in which a spec's keys come: several documents of mergekit-multi, relatives of its format, dicts, JSON."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import yaml

from della_bench.errors import SpecError
from della_bench.models.arguments import split_arguments
from della_bench.run.specs import read_specs
from della_bench.spec import MergeSpec, Source

LINEAR: dict[str, Any] = {
    "merge_method": "linear",
    "models": [{"model": "org/a"}, {"model": "org/b"}],
    "parameters": {"weight": 0.5},
    "dtype": "float16",
}
TIES: dict[str, Any] = {
    "merge_method": "ties",
    "base_model": "org/base",
    "models": [
        {"model": "first", "parameters": {"weight": 0.7, "density": [0.9, 0.5]}},
        {"model": "org/c", "parameters": {"weight": 0.3, "density": 0.6}},
    ],
}
DELLA = {
    "merge_method": "della",
    "base_model": "org/base",
    "models": [{"model": "org/a", "parameters": {"weight": 1, "density": 0.6}}],
}


def write(path: Path, *documents: Any) -> Path:
    path.write_text(yaml.safe_dump_all(documents), encoding="utf-8")
    return path


def faults_of(path: Path) -> list[str]:
    with pytest.raises(SpecError) as caught:
        MergeSpec.parse(path)
    where = f"config={path}: "
    assert all(fault.startswith(where) for fault in caught.value.faults)
    return [fault.removeprefix(where) for fault in caught.value.faults]


def test_a_document_that_another_names_is_a_source_of_it(tmp_path):
    spec = MergeSpec.parse(write(tmp_path / "m.yaml", {"name": "first", **LINEAR}, TIES))
    (stage,) = spec.stages.values()
    assert spec.experts[0].scheme == "merge"
    assert str(stage) == "base=org/a,experts=org/a+org/b,merge_method=linear,weights=0.5,dtype=float16,name=first"
    assert (spec.merge_method, spec.experts[1], spec.name) == ("ties", Source("org/c"), None)
    assert MergeSpec.parse(str(spec)) == spec
    assert MergeSpec.parse(**split_arguments(spec.as_keys(), (), engine="hf")[0].as_keys()) == spec


def test_the_order_of_the_documents_is_free(tmp_path):
    forth = write(tmp_path / "a.yaml", {"name": "first", **LINEAR}, TIES)
    back = write(tmp_path / "b.yaml", TIES, {"name": "first", **LINEAR})
    assert MergeSpec.parse(forth) == MergeSpec.parse(back)


def test_without_an_unnamed_document_the_one_that_no_other_names_is_the_merge(tmp_path):
    last = {"name": "second", **TIES}
    spec = MergeSpec.parse(write(tmp_path / "m.yaml", last, {"name": "first", **LINEAR}))
    assert (spec.merge_method, spec.name) == ("ties", "second")


def test_a_stage_may_be_the_base_have_an_adapter_and_be_used_twice(tmp_path):
    models = [{"model": "first+org/lora", "parameters": {"weight": 1}}, *TIES["models"][1:]]
    last = {**TIES, "base_model": "first", "models": models}
    spec = MergeSpec.parse(write(tmp_path / "m.yaml", {"name": "first", **LINEAR}, last))
    assert spec.base.scheme == "merge"
    assert spec.experts[0] == Source(spec.base.place, scheme="merge", adapter=Source("org/lora"))
    assert MergeSpec.parse(str(spec)) == spec


def test_the_chat_template_of_a_base_that_is_a_merge_is_the_merges_unless_it_names_another(tmp_path, caplog):
    def template(**last: Any) -> str | None:
        first = {"name": "first", **LINEAR, "chat_template": last.pop("first", "chatml")}
        spec = MergeSpec.parse(write(tmp_path / "m.yaml", first, {**TIES, "base_model": "first", **last}))
        assert MergeSpec.parse(str(spec)) == spec
        return None if spec.chat_template is None else str(spec.chat_template)

    assert template() == "chatml"
    assert template(chat_template="llama3") == "llama3"
    assert template(tokenizer_source="org/c") is None
    assert template(tokenizer_source="union") == template(tokenizer_source="first") == "chatml"
    with caplog.at_level(logging.WARNING):
        assert template(first="auto") is None
    assert "first has auto, which is not taken" in caplog.text


def test_stages_of_stages_are_read(tmp_path):
    middle = {**DELLA, "name": "middle", "base_model": "first"}
    last = {**TIES, "models": [{"model": "middle", "parameters": {"weight": 1}}]}
    spec = MergeSpec.parse(write(tmp_path / "m.yaml", last, middle, {"name": "first", **LINEAR}))
    (inner,) = spec.stages.values()
    assert [stage.merge_method for stage in inner.stages.values()] == ["linear"]


def test_empty_documents_are_none(tmp_path):
    path = write(tmp_path / "m.yaml", TIES)
    path.write_text("---\n" + path.read_text() + "---\n")
    assert MergeSpec.parse(path).merge_method == "ties"


@pytest.mark.parametrize(
    ("documents", "told"),
    [
        ([{"name": "x", **LINEAR}, {"name": "x", **DELLA}], ["documents 1 and 2 are both called 'x'"]),
        ([LINEAR, {"name": "x", **DELLA}, TIES], ["documents 1 and 3 both have no name"]),
        ([{"name": "x", **LINEAR}, DELLA], ["document 1 ('x') is used by no other"]),
        ([{"name": "x", **LINEAR}, {"name": "y", **DELLA}], ["document 1 ('x') is used by no other"]),
        (
            [{"name": "x", **DELLA, "base_model": "y"}, {"name": "y", **DELLA, "base_model": "x"}],
            ["the documents name each other in a circle: x needs y needs x"],
        ),
        ([{"name": "x", **DELLA, "base_model": "x"}, DELLA], ["in a circle: x needs x"]),
        (
            [{"name": "first", **LINEAR, "merge_method": "linea"}, {**TIES, "base_model": None}],
            ["document 1 ('first'): merge_method='linea'", "document 2: base_model: missing"],
        ),
        ([{"base": "a", "experts": ["b"]}, TIES], ["document 1: in this package's own keys"]),
    ],
)
def test_what_is_wrong_between_documents_is_told_at_once(tmp_path, documents, told):
    found = faults_of(write(tmp_path / "m.yaml", *documents))
    assert len(found) == len(told)
    assert all(part in fault for part, fault in zip(told, found, strict=True))


def test_a_fault_that_shows_in_the_stage_as_a_spec_is_told_with_the_others():
    stage = {"base": "a", "experts": ["b"], "merge_method": "ties"}
    with pytest.raises(SpecError) as caught:
        MergeSpec.parse(base="a", experts=[stage], merge_method="slerp", weights=2)
    assert [fault.split(": ")[0] for fault in caught.value.faults] == ["weights=2", "experts"]
    assert "in a merge of its own: density: missing" in caught.value.faults[1]


MOE = {"base_model": "org/a", "gate_mode": "random", "experts": [{"source_model": "org/b"}, {"source_model": "org/c"}]}
EVOLVE = {"genome": {"models": ["org/a"], "merge_method": "linear"}, "tasks": [{"name": "x"}]}


@pytest.mark.parametrize(("data", "told"), [(MOE, "mergekit-moe"), (EVOLVE, "mergekit-evolve")])
def test_relatives_of_the_format_are_refused_by_what_they_are(tmp_path, data, told):
    for documents in ([data], [data, TIES]):
        (fault,) = faults_of(write(tmp_path / "m.yaml", *documents))
        assert fault.startswith(f"a {told} configuration: ")
    with pytest.raises(SpecError, match=told):
        MergeSpec.parse(data)
    with pytest.raises(SpecError, match=told):
        split_arguments(data, (), engine="hf")


@pytest.mark.parametrize("data", [LINEAR, DELLA])
def test_a_mergekit_configuration_is_read_from_every_form(tmp_path, data):
    path = write(tmp_path / "merge.yaml", data)
    spec = MergeSpec.parse(path)
    as_json = tmp_path / "merge.json"
    as_json.write_text(json.dumps(data))
    listed = write(tmp_path / "list.yaml", [data, str(path), str(spec), f"config={as_json}"])
    for again in (
        MergeSpec.parse(data),
        MergeSpec.parse(json.dumps(data)),
        MergeSpec.parse(str(path)),
        MergeSpec.parse(str(as_json)),
        MergeSpec.parse(config=path),
        *read_specs([str(listed), str(path), json.dumps(data)]),
        split_arguments(data, (), engine="hf")[0],
        split_arguments({str(path): ""}, (), engine="hf")[0],
    ):
        assert again == spec


def test_a_file_whose_name_has_an_equals_sign_is_a_file(tmp_path):
    path = write(tmp_path / "a=b.yaml", DELLA)
    assert MergeSpec.parse(str(path)) == MergeSpec.parse(DELLA) == read_specs([str(path)])[0]


def test_keys_beside_a_mergekit_configuration_win(caplog):
    with caplog.at_level(logging.WARNING):
        spec, rest = split_arguments(
            {**DELLA, "window_size": 0.2, "seed": 3, "name": "x", "batch_size": 8}, {"batch_size"}, engine="hf"
        )
    assert (spec.epsilon, spec.seed, spec.name, rest) == ((0.1,), 3, "x", {"batch_size": 8})
    assert MergeSpec.parse(DELLA, window_size=0.2, seed=3, name="x") == spec
    assert not caplog.records


def test_faults_of_a_mergekit_mapping_have_no_file_before_them():
    with pytest.raises(SpecError) as caught:
        MergeSpec.parse({**DELLA, "merge_method": "dela"})
    assert caught.value.faults[0].startswith("merge_method='dela': not supported")


def test_mergekits_adapter_behind_a_plus_sign_is_an_adapter_on_the_model():
    models = [{"model": "org/a@v1+org/lora@v2", "parameters": {"weight": 1}}]
    spec = MergeSpec.parse({**DELLA, "base_model": "org/base+org/lora", "models": models})
    assert spec.base == Source("org/base", adapter=Source("org/lora"))
    assert spec.experts == (Source("org/a", "v1", adapter=Source("org/lora", "v2")),)


@pytest.mark.parametrize("name", ["a+b+c", "a+", "+b"])
def test_more_or_less_than_one_adapter_is_refused(name):
    with pytest.raises(SpecError, match="one LoRA adapter at most"):
        MergeSpec.parse({**DELLA, "base_model": name})

from __future__ import annotations

import pytest

from della_bench.errors import SpecError
from della_bench.run.specs import folder_name, read_specs, with_references
from della_bench.spec import MergeSpec

TIES = "base=zoo:base,experts=zoo:math+zoo:code,merge_method=ties,density=0.5"


def test_a_list_in_yaml_holds_specs_in_any_form(tmp_path):
    path = tmp_path / "specs.yaml"
    path.write_text(
        f'- {TIES}\n- {{base: "zoo:base", experts: ["zoo:math"], merge_method: task_arithmetic, name: x}}\n'
    )
    one = tmp_path / "one.yaml"
    one.write_text('base: "zoo:base"\nexperts: ["zoo:chat"]\nmerge_method: linear\n')
    specs = read_specs([str(path), str(one), TIES])
    assert [spec.merge_method for spec in specs] == ["ties", "task_arithmetic", "linear", "ties"]
    assert specs[1].name == "x"


def test_all_faults_of_all_specs_are_told_with_their_place(tmp_path):
    path = tmp_path / "specs.yaml"
    path.write_text(f"- {TIES.replace('ties', 'tis')}\n- 7\n- {TIES},lambda=x\n")
    with pytest.raises(SpecError) as raised:
        read_specs([str(path), "base=zoo:base"])
    faults = raised.value.faults
    assert [fault.partition(": ")[0] for fault in faults[:3]] == [f"{path}, entry {number}" for number in (1, 2, 3)]
    assert "experts" in faults[3]


@pytest.mark.parametrize(
    ("text", "fault"), [("[]", "an empty list"), ("- a: 1\n  a: 2", "given twice"), ("[", "not YAML")]
)
def test_a_broken_list_is_an_error(tmp_path, text, fault):
    path = tmp_path / "specs.yaml"
    path.write_text(text)
    with pytest.raises(SpecError, match=fault):
        read_specs([str(path)])


def test_references_come_first_once_each_and_share_all_but_the_weights():
    specs = read_specs([f"{TIES},dtype=float32", TIES, f"{TIES},dtype=float32,lambda=0.5"])
    found = with_references(specs, base=True, experts=True)
    assert [spec.display_name for spec in found[:6]] == ["base", "base", "math", "code", "math", "code"]
    assert [spec.dtype for spec in found[:2]] == ["float32", None]
    assert found[6:] == specs
    assert with_references([*specs, specs[0]], base=False, experts=False) == specs


def test_references_of_a_merge_of_merges_are_called_by_what_they_are():
    stage = {
        "base": "zoo:base",
        "experts": ["zoo:math"],
        "merge_method": "linear",
        "name": "first 50%25",
    }
    spec = MergeSpec.parse(base="zoo:base", experts=[stage, "zoo:code::org/lora"], merge_method="task_arithmetic")
    found = with_references([spec], base=True, experts=True)
    assert [one.display_name for one in found] == ["base", "first 50%", "code+lora", "task_arithmetic"]
    assert [str(one.experts[0]) for one in found[1:3]] == [str(source) for source in spec.experts]


def test_a_folders_name_is_plain_and_ends_in_the_digest():
    spec = MergeSpec.parse(TIES, name="../a b/ü:*?")
    assert folder_name(spec) == f"a_b-{spec.digest[:8]}"
    assert folder_name(MergeSpec.parse(TIES, name="…")) == f"run-{spec.digest[:8]}"


def test_references_share_the_vocabulary_but_for_rows_that_may_be_another_experts():
    keys = {"base": "zoo:base", "experts": "zoo:math+zoo:code", "merge_method": "task_arithmetic"}
    spec = MergeSpec.parse(keys, tokenizer="union", tokens="x:zoo:math", pad_to_multiple_of=64, chat_template="chatml")
    *alone, _ = with_references([spec], base=True, experts=True)
    assert [str(one.experts[0]) for one in alone] == ["zoo:base", "zoo:math", "zoo:code"]
    for one in alone:
        assert (one.tokenizer, one.tokens, one.pad_to_multiple_of) == ("union", (), 64)
        assert one.chat_template == spec.chat_template

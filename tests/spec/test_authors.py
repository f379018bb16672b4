"""The YAML of the DELLA authors' merge.py means what their code computes; the spec file that ships is their example."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml

from della_bench.errors import SpecError
from della_bench.spec import MergeSpec
from della_bench.spec.methods import METHODS

THEIRS = [name for name, row in METHODS.items() if not row.version]
MERGEKITS = ("slerp", "passthrough")  # take one model


def written(path: Path, method: str, experts: tuple[str, ...] = ("zoo:chat", "zoo:math"), **changed: Any) -> Path:
    """Write what merge.py writes for a drop rate of 0.3 and a window of 0.14."""
    numbers = {"density": 0.7, "lambda": 1.1, "window_size": 0.14, "rescale": 1, **changed}
    value = {
        "models": [{"model": name, "parameters": {"weight": 1.0}} for name in experts],
        "merge_method": method,
        "base_model": "zoo:base",
        "dtype": "float16",
        "parameters": numbers,
    }
    path.write_text(yaml.safe_dump(value))
    return path


def test_della_of_merge_py_is_our_della(tmp_path: Path) -> None:
    found = MergeSpec.parse(written(tmp_path / "a.yml", "della"))
    assert found == MergeSpec.parse(
        "base=zoo:base,experts=zoo:chat+zoo:math,merge_method=della,drop_rate=0.3,window_size=0.14,lambda_factor=1.1,"
        "rescale=1,dtype=float16"
    )


@pytest.mark.parametrize("name", THEIRS)
@pytest.mark.filterwarnings("ignore:.*does not use")
def test_every_method_of_their_code_is_read_by_its_name(tmp_path: Path, name: str) -> None:
    experts = ("zoo:math",) if name in MERGEKITS else ("zoo:chat", "zoo:math")
    assert MergeSpec.parse(written(tmp_path / "a.yml", name, experts)).merge_method == name


def test_their_rescale_is_a_flag_and_not_mergekits_l1(tmp_path: Path) -> None:
    assert "rescale=none" in str(MergeSpec.parse(written(tmp_path / "a.yml", "della", rescale=0)))
    assert "l1" not in str(MergeSpec.parse(written(tmp_path / "a.yml", "della")))


def test_one_model_is_pruned(tmp_path: Path) -> None:
    found = MergeSpec.parse(written(tmp_path / "a.yml", "della", experts=("zoo:math",), window_size=0.0))
    assert str(found) == "base=zoo:base,experts=zoo:math,density=0.7,epsilon=0,lambda=1.1,dtype=float16"


@pytest.mark.filterwarnings("ignore:.*does not use")
def test_linear_is_of_the_experts_alone_and_the_weight_of_slerps_expert_is_t(tmp_path: Path) -> None:
    # mergekit refuses both as merge.py writes them: the base has no weight, and there is no t.
    linear = MergeSpec.parse(written(tmp_path / "a.yml", "linear"))
    assert linear == MergeSpec.parse("base=zoo:base,experts=zoo:chat+zoo:math,merge_method=linear,dtype=float16")
    path = written(tmp_path / "b.yml", "slerp", ("zoo:math",))
    path.write_text(path.read_text().replace("weight: 1.0", "weight: 0.4"))
    assert MergeSpec.parse(path) == MergeSpec.parse(
        "base=zoo:base,experts=zoo:math:0.4,merge_method=slerp,dtype=float16"
    )


def test_faults_of_such_a_file_are_told_together(tmp_path: Path) -> None:
    path = written(tmp_path / "a.yml", "della", dencity=0.5)
    path.write_text(path.read_text().replace("base_model: zoo:base", "base_modl: zoo:base"))
    with pytest.raises(SpecError) as told:
        MergeSpec.parse(path)
    for part in ("base_modl", "base_model: missing", "parameters.dencity", "did you mean 'density'"):
        assert part in str(told.value)


def test_the_spec_file_that_ships_is_the_example_of_their_readme() -> None:
    text = files("della_bench.spec").joinpath("LM_math_code.yaml").read_text()
    spec = MergeSpec.parse(yaml.safe_load(text))
    assert (spec.display_name, spec.merge_method, len(spec.experts)) == ("LM_math_code", "della", 3)
    for part in ("density=0.7", "epsilon=0.07", "lambda=1.1", "dtype=float16"):
        assert part in str(spec)

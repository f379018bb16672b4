"""What is wrong with a merge is told at once, whatever it is written in, with exit code 2 and no weight read."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from della_bench.checkpoint.files import SafetensorsFile
from della_bench.cli import main

MODELS = [{"model": "zoo:math", "parameters": {"weight": 1}}, {"model": "zoo:code", "parameters": {"weight": 1}}]
OWN = "base=zoo:base,experts=zoo:math+zoo:code"


@pytest.fixture(autouse=True)
def _no_weights(monkeypatch):
    monkeypatch.setattr(SafetensorsFile, "tensor", lambda *_: pytest.fail("a weight was read"))


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    captured = capsys.readouterr()
    assert (ended.value.code, captured.out) == (2, "")
    return " ".join(captured.err.split())


def mergekit(**changed: Any) -> dict[str, Any]:
    return {"merge_method": "ties", "base_model": "zoo:base", "models": MODELS, **changed}


@pytest.mark.parametrize(
    ("data", "faults"),
    [
        (
            mergekit(parameters={"density": [], "lambda": ["much"]}, base_model=None),
            ["parameters.density=[]: a gradient without a number", "'much'", "base_model: missing, and ties needs it"],
        ),
        (
            mergekit(merge_method="slerp", models=[*MODELS, {"model": "zoo:chat"}]),
            ["slerp takes exactly 1 beside the base, got 3", "parameters.t: missing"],
        ),
        (
            mergekit(merge_method="dare_tie", models=[{"model": "zoo:maths"}, {"weight": 1}]),
            ["did you mean 'dare_ties'", "models[1]: not a mapping with a model's name"],
        ),
        (
            {"base": "zoo:base", "experts": [mergekit(base_model=None), "zoo:cod"], "merge_method": "slerp"},
            ["experts", "zoo:cod"],
        ),
    ],
)
@pytest.mark.parametrize("command", ["spec", "merge"])
def test_a_file(capsys, tmp_path, command, data, faults):
    path = tmp_path / "merge.yaml"
    path.write_text(yaml.safe_dump(data))
    text = told(capsys, command, str(path), *(["--out", str(tmp_path / "out")] if command == "merge" else []))
    assert all(fault in text for fault in faults), text
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("keys", "faults"),
    [
        ("merge_method=slerp,weights=~", ["weights='~': not a number", "slerp takes exactly one, got 2"]),
        ("merge_method=ties,density=mlp:x/0.5,lambda=0~y", ["density='mlp:x/0.5'", "lambda='0~y'"]),
        ("merge_method=tie,density=0.5,sed=3", ["did you mean 'ties'", "did you mean 'seed'"]),
    ],
)
def test_a_string(capsys, keys, faults):
    text = told(capsys, "spec", f"{OWN},{keys}")
    assert all(fault in text for fault in faults), text

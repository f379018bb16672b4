"""Real configurations, merged by both programs: the same values within 1e-6, on small float32 models made to fit."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from della_bench.merge.stream import Merge
from della_bench.spec import MergeSpec
from tests import tiny
from tests.parity.real_configs import MARKS, load, ranges
from tests.parity.test_mergekit import assert_close

REASON = "mergekit is not installed (the extra `parity`)"
configs = pytest.importorskip("mergekit.config", reason=REASON, exc_type=ImportError)
options = pytest.importorskip("mergekit.options", reason=REASON, exc_type=ImportError)
runner = pytest.importorskip("mergekit.merge", reason=REASON, exc_type=ImportError)

pytestmark = MARKS

LAYERS = 4
# Methods that draw nothing, gradients, filters, slices, tokenizers; those that draw (dare, della) get a density of 1.
MERGED = [
    "012",
    "013",
    "015",
    "018",
    "020",
    "028",
    "030",
    "053",
    "063",
    "079",
    "082",
    "088",
    "090",
    "091",
    "093",
    "095",
    "103",
]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with org/model-1 to org/model-9, fine-tuned from one Llama."""
    root = tmp_path_factory.mktemp("models")
    for number in range(1, 10):
        tiny.save(tiny.perturbed(tiny.llama(0, layers=LAYERS), number), root / "org" / f"model-{number}")
    return root


def fitted(data: Any, root: Path, scale: float, key: str = "") -> Any:
    """A configuration with its models in a folder, its layers `scale` as many, in float32, and nothing drawn."""
    if key in ("dtype", "out_dtype"):
        return "float32"
    if key == "layer_range":
        start, stop = (round(end * scale) for end in data)
        return [start, max(stop, start + 1)]
    if isinstance(data, Mapping):
        return {name: fitted(value, root, scale, name) for name, value in data.items()}
    if isinstance(data, list):
        return [fitted(value, root, scale, key) for value in data]
    return re.sub(r"org/model-\d+", lambda found: str(root / found[0]), data) if isinstance(data, str) else data


def undrawn(data: Any) -> Any:
    """The same where a random drop keeps all."""
    if isinstance(data, Mapping):
        return {key: 1 if key == "density" else undrawn(value) for key, value in data.items()}
    return [undrawn(value) for value in data] if isinstance(data, list) else data


@pytest.mark.parametrize("number", MERGED)
def test_both_programs_merge_it_to_the_same_values(number, models, tmp_path):
    data = load(f"{number}.yaml")
    scale = LAYERS / max((end for _, end in ranges(data)), default=LAYERS)
    data = fitted(data, models, scale)
    if data["merge_method"].startswith(("dare", "della")):
        data = undrawn(data)
    path = tmp_path / "merge.yaml"
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    known = configs.MergeConfiguration.model_validate(data)
    runner.run_merge(known, str(tmp_path / "theirs"), options.MergeOptions(write_model_card=False, quiet=True))
    theirs = load_file(next((tmp_path / "theirs").glob("*.safetensors")))
    ours = dict(Merge(MergeSpec.parse(path)).stream())
    assert ours.keys() == theirs.keys()
    everything = [load_file(folder / "model.safetensors") for folder in sorted((models / "org").iterdir())]
    changed = 0
    for name, tensor in ours.items():
        sources = [each[name] for each in everything if name in each and each[name].shape == tensor.shape]
        assert_close(tensor, theirs[name], [tensor, *sources])
        changed += not any(torch.equal(tensor, source) for source in sources)
    assert changed

"""A merge of merges is evaluated like any other: on the engine, by its string, merge after merge."""

from __future__ import annotations

import pytest
from lm_eval.models.huggingface import HFLM

from della_bench.merge.folder import write_folder
from della_bench.merge.stream import Merge
from della_bench.models.hf import DellaMergedLM
from della_bench.models.loading import load_merged
from della_bench.spec import MergeSpec
from tests.models.lm import ask

PROMPTS = ["Tom has 3 apples and buys 4 more.", "def f(x):", "Hello, how are you"]
STAGE = {"base": "zoo:base", "experts": ["zoo:math", "zoo:code"], "merge_method": "task_arithmetic", "dtype": "float32"}


def spec(*, lambda_: float = 1.5, base: object = "zoo:base") -> MergeSpec:
    keys = {"merge_method": "ties", "density": 0.5, "lambda": lambda_, "dtype": "float32"}
    return MergeSpec.parse(keys, base=base, experts=[STAGE, "zoo:chat"])


@pytest.fixture(scope="module")
def lm() -> DellaMergedLM:
    return DellaMergedLM.create_from_arg_string(str(spec()), {"device": "cpu", "batch_size": 3})


def test_its_string_is_evaluated_as_the_written_folder(lm, tmp_path):
    folder = write_folder(Merge(spec()), tmp_path / "merged", progress=False)
    theirs = HFLM(pretrained=str(folder), device="cpu", batch_size=3)
    assert ask(lm, *PROMPTS) == ask(theirs, *PROMPTS)


def test_a_remerge_takes_another_stage_even_as_the_base(lm):
    fingerprints = set()
    for new in (spec(lambda_=-1), spec(base=STAGE)):
        lm.remerge(new)
        fingerprints.add(lm.get_model_info()["della_bench"]["model_fingerprint"])
        model, _ = load_merged(new)
        assert all((a == b).all() for a, b in zip(model.parameters(), lm.model.parameters(), strict=True))
    assert len(fingerprints) == 2

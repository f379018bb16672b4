from __future__ import annotations

import pytest

from della_bench.merge.fingerprint import Inputs, digest_files, fingerprint, input_files
from della_bench.merge.stream import Merge
from della_bench.run.engine import Engine
from della_bench.spec import MergeSpec

TIES = MergeSpec.parse("base=zoo:base,experts=zoo:math+zoo:code,merge_method=ties,density=0.5")


@pytest.fixture
def engine():
    made = Engine("hf", {"device": "cpu", "batch_size": 4})
    yield made
    made.close()


def weights(model):
    return {name: tensor.clone() for name, tensor in model.model.state_dict().items()}


def test_the_next_merge_goes_into_the_running_model_and_is_the_one_a_new_model_would_have(engine):
    first = engine.load(TIES)
    before = weights(first)
    other = MergeSpec.parse(TIES, merge_method="task_arithmetic")
    second = engine.load(other)
    assert second is first
    remerged = weights(second)
    engine.close()
    fresh = weights(engine.load(other))
    assert all(remerged[name].equal(fresh[name]) for name in fresh)
    assert not all(remerged[name].equal(before[name]) for name in fresh)


def test_a_merge_that_does_not_fit_the_running_model_gets_a_new_one(engine):
    first = engine.load(TIES)
    wider = engine.load(MergeSpec.parse(TIES, dtype="float32"))
    assert wider is not first
    assert str(wider.model.dtype) == "torch.float32"


def test_digests_made_beside_the_merge_are_those_made_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("DELLA_BENCH_CACHE", str(tmp_path))
    inputs = Inputs(Merge(TIES))
    files = digest_files(input_files(Merge(TIES)))
    assert inputs.files == files
    assert inputs.fingerprint == fingerprint(TIES, files)

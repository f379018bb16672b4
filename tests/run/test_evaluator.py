"""What a worker's process does with a spec, and what it refuses."""

from __future__ import annotations

import pickle
import shutil
from typing import Any

import pytest

from della_bench import zoo
from della_bench.errors import MergeError
from della_bench.merge.fingerprint import Inputs
from della_bench.merge.stream import Merge
from della_bench.run.engine import Engine
from della_bench.run.evaluated import Evaluated
from della_bench.run.evaluation import put_files
from della_bench.run.evaluator import on_host
from della_bench.run.hosts import EngineStartError
from della_bench.run.options import Options
from della_bench.run.settings import EvalSettings
from della_bench.run.tasks import Tasks
from della_bench.spec import MergeSpec
from della_bench.workers.worker import HostRefusedError, NotOnThisHostError
from tests.run.tasks import write_task


def nobody(what, done, total):
    pass


@pytest.fixture
def source(tmp_path):
    """A folder with the zoo's expert for math."""
    return shutil.copytree(zoo.folder("math"), tmp_path / "math")


@pytest.fixture
def made(tmp_path):
    """What a worker holds; its options have travelled as they travel to a host."""
    task = write_task(tmp_path / "sums.yaml")
    arguments = {"device": "cpu", "batch_size": 4}
    options = Options(tmp_path, (str(task),), arguments=arguments, settings=EvalSettings(limit=2))
    return pickle.loads(pickle.dumps(on_host(options)))(nobody)


def spec_of(source):
    return MergeSpec.parse(f"base=zoo:base,experts={source},merge_method=task_arithmetic")


def test_it_loads_and_gives_the_files_of_lm_eval_back(made, source, tmp_path):
    spec = spec_of(source)
    inputs = Inputs(Merge(spec))
    loaded = made.load(spec, inputs.fingerprint, inputs.files)
    assert (loaded.device, loaded.dtype) == ("cpu", "torch.bfloat16")
    tasks = Tasks((str(tmp_path / "sums.yaml"),))
    record: dict[str, Any] = {"task": tasks.digest(tasks.benchmarks[0]), "arguments": {}}
    files = made.evaluate("sums", spec, EvalSettings(limit=2), record, inputs.fingerprint)
    assert sorted(name.partition("_20")[0] for name in files) == ["results", "samples_sums"]
    placed = put_files(tmp_path / "run", "sums", files)
    assert isinstance(placed, Evaluated)
    assert placed.fingerprint == inputs.fingerprint
    assert placed.samples.read_bytes() == next(each for name, each in files.items() if name.startswith("samples"))
    with pytest.raises(HostRefusedError, match="its file of the task sums differs"):
        made.evaluate("sums", spec, EvalSettings(limit=2), {**record, "task": "another"}, inputs.fingerprint)


def test_a_host_whose_files_differ_is_refused_with_the_files_name(made, source):
    spec = spec_of(source)
    inputs = Inputs(Merge(spec))
    other = [{**file, "sha256": "0" * 64} if file["role"] == "expert 0" else file for file in inputs.files]
    with pytest.raises(HostRefusedError, match=r"differ: expert 0 config\.json, expert 0 model\.safetensors"):
        made.load(spec, "0" * 64, other)


def test_a_source_that_is_not_there_is_said_to_be_missing_on_this_host(made, source):
    spec = spec_of(source)
    inputs = Inputs(Merge(spec))
    expected = inputs.fingerprint, inputs.files
    source.rename(source.with_name("elsewhere"))
    with pytest.raises(NotOnThisHostError, match="no such folder"):
        made.load(spec, *expected)


def test_an_engine_that_has_never_started_is_told_from_a_spec_that_fails(made, source, monkeypatch):
    spec = spec_of(source)
    inputs = Inputs(Merge(spec))
    original = Engine.load

    def fail(self, spec):
        raise MergeError("vLLM could not start its engine")

    monkeypatch.setattr(Engine, "load", fail)
    with pytest.raises(EngineStartError, match="could not start"):
        made.load(spec, inputs.fingerprint, inputs.files)
    monkeypatch.setattr(Engine, "load", original)
    made.load(spec, inputs.fingerprint, inputs.files)
    monkeypatch.setattr(Engine, "load", fail)
    with pytest.raises(MergeError):
        made.load(spec, inputs.fingerprint, inputs.files)
